import Firmware
import GuestMemory
import Platform
import Processor

/// What the processor finds at power-on: read from files once, checked, and put into memory at every power-on.
enum BootContent: Sendable {
  /// An image that ends at 4 GiB; the processor starts in it.
  case firmware(FirmwareMapping, at: GuestAddress, shadow: LoadPlan)
  /// A kernel without firmware.
  case kernel(LoadPlan)
  /// A kernel without firmware that is in memory already: it is read from its file when the machine is reset.
  case kernelLater(BootSource, BoardDescription)

  /// For a machine that goes on from a saved state: nothing is read or unpacked that it may never need.
  ///
  /// - Throws: as below.
  init(restoring source: BootSource, board: BoardDescription) throws(MachineError) {
    if case .kernel = source {
      self = .kernelLater(source, board)
    } else {
      try self.init(source, board: board)
    }
  }

  /// - Throws: `MachineError` naming the file and what is wrong with it.
  init(_ source: BootSource, board: BoardDescription) throws(MachineError) {
    do {
      switch source {
      case .firmware(let path):
        let firmware = try SystemFirmware(path: path)
        self = .firmware(
          try FirmwareMapping(firmware.image), at: firmware.romAddress, shadow: try firmware.plan())
      case .kernel(let path, let initrd, let commandLine):
        let request = try KernelRequest(kernel: path, initrd: initrd, commandLine: commandLine)
        self = .kernel(try KernelLoader.plan(request, board))
      }
    } catch {
      throw MachineError("\(error)")
    }
  }

  /// What was recognized, for a person.
  var summary: String {
    switch self {
    case .firmware(_, _, let plan), .kernel(let plan): plan.summary
    case .kernelLater: "a kernel that runs already"
    }
  }

  /// Whether everything fits into the machine's memory.
  func validate(_ memory: GuestMemory) throws(MachineError) {
    switch self {
    case .firmware(_, _, let plan), .kernel(let plan):
      do throws(FirmwareError) { try plan.validate(memory) } catch {
        throw MachineError("\(error)")
      }
    case .kernelLater: break
    }
  }

  /// Shows what is not in RAM: for a guest whose RAM is restored.
  func show(virtualization: any Virtualization) throws(MachineError) {
    if case .firmware(let mapping, let address, _) = self {
      try virtualization.mapFirmware(mapping, at: address)
    }
  }

  /// What is left to do when the board is complete.
  struct Placement {
    /// How the boot processor starts where that is not the reset vector.
    var entry: ProcessorState?
    var unikernel: UnikernelStart?
  }

  /// Puts the content where the processor starts.
  ///
  func place(
    in memory: GuestMemory, virtualization: any Virtualization, devices: BoardDevices
  ) throws(MachineError) -> Placement {
    do {
      switch self {
      case .firmware(let mapping, let address, let shadow):
        try shadow.apply(to: memory)
        try virtualization.mapFirmware(mapping, at: address)
        // A firmware of our own for tests does not look for the PIIX4; the tables promise its place anyway.
        devices.placePowerManagement(at: AddressMap.powerManagement, inACPIMode: false)
        return Placement()
      case .kernel(let plan):
        try plan.apply(to: memory)
        devices.placePowerManagement(at: AddressMap.powerManagement, inACPIMode: true)
        return Placement(entry: plan.entry.processorState, unikernel: plan.unikernel)
      case .kernelLater(let source, let board):
        let content = try BootContent(source, board: board)
        try content.validate(memory)
        return try content.place(in: memory, virtualization: virtualization, devices: devices)
      }
    } catch {
      throw MachineError("\(error)")
    }
  }
}

extension EntryState {
  /// The boot processor's registers at this entry.
  var processorState: ProcessorState? {
    var state: ProcessorState
    switch mode {
    case .real: return nil
    case .protected32:
      state = .flat32(
        entry: UInt32(truncatingIfNeeded: instructionPointer), codeSelector: codeSelector,
        globalTable: descriptorTable)
    case .long64:
      state = .long64(
        entry: instructionPointer, pageTable: pageTableAddress, globalTable: descriptorTable)
    }
    state.generalRegisters = generalRegisters
    if isPrepared {
      state.control0 |= ControlBits.writeProtection
      state.control4 |= ControlBits.vectorExtensions
      state.extendedFeatures |= ControlBits.noExecuteEnable
    }
    return state
  }

  private var descriptorTable: DescriptorTable {
    DescriptorTable(base: descriptorTableAddress, limit: descriptorTableLimit)
  }
}
