import Firmware

/// What the processor finds at power-on, read from files once and checked.
enum BootContent: Sendable {
  case firmware(SystemFirmware, FirmwareMapping)
  case kernel(KernelFiles)

  /// - Throws: `MachineError` naming the file and what is wrong with it.
  init(_ configuration: MachineConfiguration) throws(MachineError) {
    do {
      switch configuration.boot {
      case .firmware(let path):
        let firmware = try SystemFirmware(path: path)
        self = .firmware(firmware, try FirmwareMapping(firmware.image))
      case .kernel(let path, let initrd, let commandLine):
        self = .kernel(try KernelFiles(path: path, initrd: initrd, commandLine: commandLine))
      }
    } catch {
      throw MachineError("\(error)")
    }
  }
}
