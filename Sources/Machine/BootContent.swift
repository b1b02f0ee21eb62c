import Devices
import Firmware
import GuestMemory
import Platform
import Processor

/// What the processor finds at power-on, read from files once and checked.
enum BootContent: Sendable {
  case firmware(SystemFirmware, FirmwareMapping)

  /// - Throws: `MachineError` naming the file and what is wrong with it.
  init(_ configuration: MachineConfiguration) throws(MachineError) {
    do {
      switch configuration.boot {
      case .firmware(let path):
        let firmware = try SystemFirmware(path: path)
        self = .firmware(firmware, try FirmwareMapping(firmware.image))
      case .kernel:
        throw MachineError("no kernels yet")
      }
    } catch {
      throw MachineError("\(error)")
    }
  }

  /// Puts the content where the processor starts, at power-on and again at each reset.
  ///
  /// - Returns: how the boot processor starts where that is not the reset vector.
  func place(
    in parts: BoardParts, virtualization: KernelVirtualization, devices: BoardDevices
  ) throws(MachineError) -> ProcessorState? {
    do {
      switch self {
      case .firmware(let firmware, let mapping):
        try virtualization.mapFirmware(mapping, at: firmware.romAddress)
        try firmware.plan().apply(to: parts.memory)
        return nil
      }
    } catch {
      throw MachineError("\(error)")
    }
  }
}
