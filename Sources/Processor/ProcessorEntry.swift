// Where loaders start a guest without firmware: the states that boot protocols ask for.

extension ProcessorState {
  /// 32-bit protected mode, flat segments, paging and interrupts off: what Multiboot 1, PVH and Linux's 32-bit boot
  /// protocol ask for.
  ///
  /// - Parameters:
  ///   - entry: the first instruction.
  ///   - codeSelector: 0x10 for Linux; PVH and Multiboot leave it open. Data gets the next descriptor.
  ///   - globalTable: where the caller put a matching GDT, for guests that reload a segment before their own GDT.
  public static func flat32(
    entry: UInt32, codeSelector: UInt16 = 0x10, globalTable: DescriptorTable = DescriptorTable()
  ) -> ProcessorState {
    var state = ProcessorState()
    let data = SegmentRegister.flatData(selector: codeSelector &+ 8)
    state.setFlat(code: .flatCode32(selector: codeSelector), data: data)
    state.instructionPointer = UInt64(entry)
    state.globalDescriptors = globalTable
    state.interruptDescriptors = DescriptorTable(base: 0, limit: 0)
    state.control0 = ControlBits.protection | ControlBits.extensionType
    return state
  }

  /// 64-bit long mode with CS 0x10 and data 0x18, interrupts off: Linux's 64-bit boot protocol.
  ///
  /// - Parameters:
  ///   - entry: the first instruction.
  ///   - pageTable: the guest-physical address of a PML4 that maps at least the kernel, its zero page and the stack.
  ///   - stackPointer: for entries that push before they set their own.
  ///   - globalTable: where the caller put a GDT with 0x10 as 64-bit code and 0x18 as data.
  public static func long64(
    entry: UInt64, pageTable: UInt64, stackPointer: UInt64 = 0,
    globalTable: DescriptorTable = DescriptorTable()
  ) -> ProcessorState {
    var state = ProcessorState()
    state.setFlat(code: .flatCode64(selector: 0x10), data: .flatData(selector: 0x18))
    state.instructionPointer = entry
    state[.rsp] = stackPointer
    state.globalDescriptors = globalTable
    state.interruptDescriptors = DescriptorTable(base: 0, limit: 0)
    state.control0 =
      ControlBits.protection | ControlBits.extensionType | ControlBits.numericError
      | ControlBits.paging
    state.control3 = pageTable
    state.control4 = ControlBits.physicalAddressExtension
    state.extendedFeatures = ControlBits.longModeEnable | ControlBits.longModeActive
    return state
  }

  private mutating func setFlat(code: SegmentRegister, data: SegmentRegister) {
    codeSegment = code
    dataSegment = data
    extraSegment = data
    extraSegmentF = data
    extraSegmentG = data
    stackSegment = data
    taskRegister.limit = 0x67
  }
}
