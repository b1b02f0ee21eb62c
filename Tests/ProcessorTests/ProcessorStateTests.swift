import Foundation
import Processor
import Testing

@Suite struct ProcessorStateTests {
  /// A state in which no field has its initial value.
  private static var full: ProcessorState {
    var state = ProcessorState()
    for index in 0..<16 { state.generalRegisters[index] = UInt64.max - UInt64(index) }
    state.instructionPointer = 0xFFFF_8000_1234_5678
    state.flags = 0x246
    let segment = SegmentRegister(
      base: 0x1000, limit: 0xFFFF_FFFF, selector: 0x33, type: 0xB, privilegeLevel: 3,
      isAvailable: true, isLong: true, isPageGranular: true, isUnusable: true)
    for path in [
      \ProcessorState.codeSegment, \.dataSegment, \.extraSegment, \.extraSegmentF, \.extraSegmentG,
      \.stackSegment, \.taskRegister, \.localTable,
    ] { state[keyPath: path] = segment }
    state.globalDescriptors = DescriptorTable(base: 1, limit: 2)
    state.interruptDescriptors = DescriptorTable(base: 3, limit: 4)
    state.control0 = 0x8005_0033
    state.control2 = 5
    state.control3 = 6
    state.control4 = 7
    state.control8 = 8
    state.extendedFeatures = 0xD01
    state.apicBase = 0xFEE0_0C00
    state.pageDirectoryPointers = [1, 2, 3, 4]
    state.debugAddresses = [5, 6, 7, 8]
    state.debug6 = 9
    state.debug7 = 10
    state.extendedState = (0..<576).map { UInt8(truncatingIfNeeded: $0) }
    state.extendedControls = [IndexedRegister(index: 0, value: 7)]
    state.modelSpecificRegisters = [IndexedRegister(index: 0xC000_0081, value: .max)]
    state.localAPIC = Array(repeating: 3, count: 1024)
    var events = PendingEvents()
    events.exception = PendingEvents.Exception(
      vector: VectorNumber(14), errorCode: 2, isInjected: false, payload: 0x1234)
    events.interrupt = VectorNumber(0x31)
    events.interruptIsSoftware = true
    events.shadow = [.setInterruptFlag]
    events.nonMaskableIsBlocked = true
    events.startupVector = 0x9F
    events.tripleFaultIsPending = true
    state.events = events
    state.multiprocessing = .halted
    state.timeStampKilohertz = 2_400_000
    state.nestedState = Array(repeating: 1, count: 128)
    return state
  }

  @Test func survivesStorage() throws {
    let data = try JSONEncoder().encode(Self.full)
    let back = try JSONDecoder().decode(ProcessorState.self, from: data)
    #expect(back == Self.full)
    #expect(back != ProcessorState())
    #expect(back.isWellFormed)
  }

  @Test func wrongSizesAreSeen() {
    #expect(ProcessorState().isWellFormed)
    for damage in [
      { $0.generalRegisters = [] }, { $0.generalRegisters.append(0) },
      { $0.debugAddresses.removeLast() }, { $0.pageDirectoryPointers = [0, 0] },
      { $0.extendedState = Array(repeating: 0, count: 575) },
      { $0.extendedState = Array(repeating: 0, count: 1 << 20) },
      { $0.localAPIC = Array(repeating: 0, count: 1023) },
      { $0.extendedControls = Array(repeating: IndexedRegister(index: 0, value: 0), count: 17) },
      { $0.modelSpecificRegisters = Array(repeating: .init(index: 0, value: 0), count: 5000) },
    ] as [(inout ProcessorState) -> Void] {
      var state = Self.full
      damage(&state)
      #expect(!state.isWellFormed)
    }
  }

  @Test func resetStartsBelowFourGigabytes() {
    let state = ProcessorState()
    #expect(state.codeSegment.base + state.instructionPointer == 0xFFFF_FFF0)
    #expect(state.codeSegment.selector == 0xF000)
    #expect(state.modeName == "real")
    #expect(state.control0 == 0x6000_0010)
    let other = ProcessorState.powerOn(isBootProcessor: false)
    #expect(other.multiprocessing == .uninitialized)
    #expect(other.apicBase == 0xFEE0_0800)
    #expect(ProcessorState.powerOn(isBootProcessor: true) == state)
  }

  @Test func flatEntryIsWhatBootProtocolsAskFor() {
    let state = ProcessorState.flat32(entry: 0x10_0000, codeSelector: 8)
    #expect(state.instructionPointer == 0x10_0000)
    #expect(state.control0 == 0x11)
    #expect(state.control4 == 0)
    #expect(state.flags == 2)
    #expect(state.codeSegment.selector == 8)
    #expect(state.codeSegment.accessRights == 0xC09B)
    #expect(state.dataSegment.selector == 0x10)
    #expect(state.stackSegment.accessRights == 0xC093)
    #expect(state.taskRegister.accessRights == 0x8B)
    #expect(state.taskRegister.limit == 0x67)
    #expect(state.modeName == "32-bit protected, no paging, CPL 0")
  }

  @Test func longEntryIsWhatLinuxAsksFor() {
    let state = ProcessorState.long64(entry: 0x100_0200, pageTable: 0x9000, stackPointer: 0x8FF0)
    #expect(state.codeSegment.selector == 0x10)
    #expect(state.dataSegment.selector == 0x18)
    #expect(state.codeSegment.accessRights == 0xA09B)
    #expect(state.control3 == 0x9000)
    #expect(state.control4 == 0x20)
    #expect(state.extendedFeatures == 0x500)
    #expect(state.control0 & 0x8000_0001 == 0x8000_0001)
    #expect(state[.rsp] == 0x8FF0)
    #expect(state.modeName == "64-bit, CPL 0")
  }

  @Test func dumpShowsWhatAPersonNeeds() {
    var failure = ProcessorFailure(reason: .emulation)
    failure.bytes[0] = 0x0F
    failure.bytes[1] = 0xC7
    failure.byteCount = 2
    let dump = Self.full.dump(failure)
    #expect(dump.contains("RIP=ffff800012345678 RFLAGS=00000246 [PF ZF IF]"))
    #expect(dump.contains("bytes at RIP: 0f c7"))
    #expect(dump.contains("R15=fffffffffffffff0"))
    #expect(dump.contains("CS=0033 base 0000000000001000"))
    #expect(dump.contains("CR0=80050033"))
    #expect(dump.contains("exception 14, error code 0002 pending"))
    #expect(!Self.full.dump.contains("bytes at RIP"))
    // A damaged state is shown as far as it goes.
    var damaged = Self.full
    damaged.generalRegisters = [1]
    failure.byteCount = 99
    #expect(damaged.dump(failure).contains("RAX=0000000000000001"))
  }
}
