import Foundation
import GuestMemory
import KVM
import Platform
import Processor
import Testing

/// Saving a processor and going on in another machine.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"), .timeLimit(.minutes(1)))
struct StateTests {
  /// Counts at port 0x80 for ever.
  private static let counter: [UInt8] = [
    0x43, 0x90,  // real mode: inc bx; nop
    0x88, 0xD8, 0xE6, 0x80,  // mov al, bl; out 0x80, al
    0xEB, 0xF8,  // again
  ]

  private func values(_ guest: Guest, _ count: Int) throws -> [UInt64] {
    try (0..<count).map { _ in
      try #require(try guest.outcome(until: 0x80).last).value
    }
  }

  private func copyMemory(from source: Guest, to target: Guest) throws {
    try target.memory.write(
      source.memory.bytes(at: GuestAddress(0), count: Int(source.memory.size)),
      at: GuestAddress(0))
  }

  @Test(arguments: [Guest.Chips.none, .kernel, .split])
  func programContinuesInAnotherMachine(_ chips: Guest.Chips) throws {
    let first = try Guest(Self.counter, chips: chips)
    try first.startReal()
    #expect(try values(first, 5) == [1, 2, 3, 4, 5])
    // Through JSON, as a snapshot would store it.
    let state = try JSONDecoder().decode(
      ProcessorState.self, from: JSONEncoder().encode(try first.processor.saveState()))
    let second = try Guest([], chips: chips)
    try copyMemory(from: first, to: second)
    try second.processor.restoreState(state)
    #expect(try values(second, 3) == [6, 7, 8])
    #expect(try values(first, 2) == [6, 7])
  }

  @Test func savedStateIsWhatWasRestored() throws {
    let guest = try Guest([0xF4], chips: .kernel)
    try guest.startLong()
    var state = try guest.processor.saveState()
    for index in 0..<16 { state.generalRegisters[index] = 0x1111_1111_1111_1111 &* UInt64(index) }
    state.flags = 0x8D7
    state.control2 = 0xDEAD_0000
    // The task priority stands in two places, and the processor priority follows from it.
    state.control8 = 5
    state.localAPIC[0x80] = 0x50
    state.localAPIC[0xA0] = 0x50
    state.debugAddresses = [0x1000, 0x2000, 0x3000, 0x4000]
    state.extraSegmentF.base = 0x7FFF_0000_1234
    // An x87 and an SSE register: byte 32 and byte 160 of the area, marked as in use in the header.
    state.extendedState[32] = 0x5A
    state.extendedState[160] = 0xA5
    state.extendedState[512] |= 3
    state.multiprocessing = .halted
    state.events?.nonMaskableIsBlocked = true
    try guest.processor.restoreState(state)
    var after = try guest.processor.saveState()
    // Time has passed.
    for index in [UInt32(0x10), 0x6E0, 0x3B] {
      state.modelSpecificRegisters.removeAll { $0.index == index }
      after.modelSpecificRegisters.removeAll { $0.index == index }
    }
    // Part by part: a difference in the whole would print pages.
    #expect(after.generalRegisters == state.generalRegisters)
    #expect(after.dump == state.dump)
    #expect(after.debugAddresses == state.debugAddresses)
    #expect(after.modelSpecificRegisters == state.modelSpecificRegisters)
    #expect(after.events == state.events)
    let sameExtended = after.extendedState == state.extendedState
    let sameLocalAPIC = after.localAPIC == state.localAPIC
    let sameAll = after == state
    #expect(sameExtended && sameLocalAPIC && sameAll)
    #expect(after.modelSpecificRegisters.count > 10)
  }

  @Test func answeredReadIsPartOfTheState() throws {
    let code: [UInt8] = [0xE4, 0x60, 0xE6, 0x80, 0xF4]  // in al, 0x60; out 0x80, al; hlt
    let first = try Guest(code)
    try first.startReal()
    guard case .portRead(_, _, _, let data) = try first.processor.run() else {
      Issue.record("no port read")
      return
    }
    data.storeBytes(of: 0x42, as: UInt8.self)
    let state = try first.processor.saveState()
    #expect(state.instructionPointer == Guest.program.rawValue + 2)
    #expect(state[.rax] & 0xFF == 0x42)
    let second = try Guest(code)
    try second.processor.restoreState(state)
    #expect(try second.outcome(until: 0x80) == [.init(port: 0x80, value: 0x42)])
  }

  /// The half-done instruction of the old state must not be finished in the new one.
  @Test(
    arguments: [
      [0xE4, 0x60, 0x90],  // in al, 0x60
      [0x67, 0x8A, 0x07],  // mov al, [edi]
    ] as [[UInt8]])
  func restoreForgetsTheInstructionInProgress(_ code: [UInt8]) throws {
    let guest = try Guest(code + [0xE6, 0x80, 0xF4])  // out 0x80, al
    try guest.startReal()
    var state = try guest.processor.saveState()
    state[.rdi] = 0xA0000
    state.dataSegment.limit = .max
    try guest.processor.restoreState(state)
    switch try guest.processor.run() {
    case .portRead(_, _, _, let data): data.storeBytes(of: 0x42, as: UInt8.self)
    case .memoryRead(_, _, let data): data.storeBytes(of: 0x42, as: UInt8.self)
    case let exit: Issue.record("\(exit)")
    }
    state.instructionPointer = Guest.program.rawValue + 3
    state[.rax] = 0x99
    try guest.processor.restoreState(state)
    #expect(try guest.outcome(until: 0x80) == [.init(port: 0x80, value: 0x99)])
  }

  @Test func registersThatDoNotExistAreLeftOut() throws {
    let guest = try Guest([0xF4])
    // IA32_SYSENTER_CS, nothing, IA32_SYSENTER_ESP.
    let found = try guest.processor.readRegisters([0x174, 0x1234_5678, 0x175])
    #expect(found.map(\.index) == [0x174, 0x175])
    let wrong = IndexedRegister(index: 0x1234_5678, value: 1)
    let right = IndexedRegister(index: 0x175, value: 0x77)
    #expect(try guest.processor.writeRegisters([wrong, right]) == [wrong])
    #expect(try guest.processor.readRegisters([0x175]) == [right])
  }

  @Test func damagedStateIsRefused() throws {
    let guest = try Guest([0xF4])
    try guest.startReal()
    let good = try guest.processor.saveState()
    for damage in [
      { $0.generalRegisters.removeLast() }, { $0.debugAddresses = [] },
      { $0.extendedState = [1, 2, 3] }, { $0.pageDirectoryPointers = [1] },
      { $0.localAPIC = [0] },
    ] as [(inout ProcessorState) -> Void] {
      var bad = good
      damage(&bad)
      #expect(throws: ProcessorError.self) { try guest.processor.restoreState(bad) }
    }
    var foreign = good
    foreign.modelSpecificRegisters = [IndexedRegister(index: 0x1234_5678, value: 1)]
    #expect(throws: ProcessorError.self) { try guest.processor.restoreState(foreign) }
    try guest.processor.restoreState(good)
    #expect(try guest.processor.run().isHalt)
  }

  /// A state file may say anything: it is taken or refused, and the process lives.
  @Test func arbitraryStatesDoNoHarm() throws {
    let guest = try Guest([0xF4], chips: .kernel)
    let good = try guest.processor.saveState()
    var generator = SplitMix(state: 0x5EED)
    var refused = 0
    for _ in 0..<300 {
      var state = good
      for _ in 0..<3 {
        let value = generator.next()
        switch generator.next() % 16 {
        case 0: state.control0 = value
        case 1: state.control4 = value
        case 2: state.extendedFeatures = value
        case 3: state.apicBase = value
        case 4: state.flags = value
        case 5:
          state.extendedState = [UInt8](repeating: UInt8(truncatingIfNeeded: value), count: 4096)
        case 6: state.extendedState = [UInt8](repeating: 0xFF, count: 576 + Int(value % 60000))
        case 7:
          state.modelSpecificRegisters = [
            IndexedRegister(index: UInt32(truncatingIfNeeded: value), value: generator.next())
          ]
        case 8:
          state.localAPIC = (0..<1024).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
        case 9: state.extendedControls = [IndexedRegister(index: UInt32(value % 3), value: value)]
        case 10:
          state.nestedState = [UInt8](
            repeating: UInt8(truncatingIfNeeded: value), count: Int(value % 5000))
        case 11:
          state.events?.exception = .init(
            vector: VectorNumber(UInt8(truncatingIfNeeded: value)), isInjected: value & 256 == 0)
        case 12: state.events?.shadow = .init(rawValue: UInt8(truncatingIfNeeded: value))
        case 13: state.codeSegment.type = UInt8(truncatingIfNeeded: value)
        case 14: state.debug7 = value
        default: state.timeStampKilohertz = UInt32(truncatingIfNeeded: value)
        }
      }
      do { try guest.processor.restoreState(state) } catch { refused += 1 }
    }
    #expect(refused > 0)
  }

  private struct SplitMix {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var value = state
      value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
      return value ^ value >> 31
    }
  }

  @Test func resetIsThePowerOnState() throws {
    let guest = try Guest(Self.counter, chips: .kernel)
    let fresh = try guest.processor.saveState()
    try guest.startReal()
    _ = try values(guest, 3)
    try guest.processor.reset()
    let after = try guest.processor.saveState()
    #expect(after.instructionPointer == 0xFFF0)
    #expect(after.codeSegment.base == 0xFFFF_0000)
    #expect(after.generalRegisters == [0, 0, after[.rdx]] + Array(repeating: 0, count: 13))
    #expect(after.localAPIC == fresh.localAPIC)
    #expect(after.extendedState == fresh.extendedState)
    #expect(after.events == fresh.events)
    #expect(after.control0 == fresh.control0)
  }

  @Test func otherProcessorsWaitForTheirStart() throws {
    let guest = try Guest([0xF4], chips: .kernel)
    let second = try guest.machine.makeProcessor(index: 1)
    try second.setLeaves(guest.system.supportedLeaves)
    #expect(try second.saveState().multiprocessing == .uninitialized)
    second.interrupt()
    #expect(try second.run().isInterrupted)
    try second.reset()
    let state = try second.saveState()
    #expect(state.multiprocessing == .uninitialized)
    #expect(state.apicBase & ControlBits.isBootProcessor == 0)
  }

  @Test func processorsTakeTheirNumbersFromTheTopology() throws {
    let guest = try Guest([0xF4], chips: .kernel)
    let topology = ProcessorTopology(sockets: 2, cores: 3, threads: 1)
    let fourth = try guest.machine.makeProcessor(index: 3, apicNumber: topology.apicNumber(of: 3))
    try fourth.setLeaves(
      CPUIDPolicy(topology: topology).leaves(supported: guest.system.supportedLeaves, index: 3))
    // The identification register of the local APIC, bits 31 to 24.
    #expect(try fourth.saveState().localAPIC[0x23] == 4)
    #expect(throws: KVMError.self) { try guest.machine.makeProcessor(index: 4, apicNumber: 4) }
    #expect(throws: KVMError.self) { try guest.machine.makeProcessor(index: 1 << 40) }
  }

  @Test func chipsAndClockAreSavedAndRestored() throws {
    let code = InterruptTests.programPIC(base: 0x48) + InterruptTests.programPIT + [0xF4]
    let first = try Guest(code + [0xE6, 0x81], chips: .kernel)
    try first.startReal()
    // Interrupts are off: the HLT sleeps, and the kick shows that the chips are programmed.
    let kicker = try PosixThread(name: "kicker") {
      usleep(50_000)
      first.processor.interrupt()
    }
    #expect(try first.processor.run().isInterrupted)
    kicker.join()
    let saved = try first.machine.saveChips()
    #expect(saved.chips.count == 3)
    #expect(saved.clock > 0)

    let second = try Guest([0xF4], chips: .kernel)
    try second.machine.restoreChips(saved)
    let again = try second.machine.saveChips()
    // Chip number and padding, then the PIC: base and mask stand where the guest put them.
    #expect(again.chips[0][8 + 5] == 0x48)
    #expect(again.chips[0][8 + 2] == 0xDE)
    #expect(again.chips[2] == saved.chips[2])
    #expect(again.timer.count == saved.timer.count)
    #expect(again.timer.prefix(4) == saved.timer.prefix(4))
    #expect(again.clock >= saved.clock && again.clock < saved.clock + 5_000_000_000)
    try second.machine.resetChips()
    let reset = try second.machine.saveChips()
    #expect(reset.chips[0][8 + 5] == 0)
    #expect(reset.clock >= again.clock)
    var damaged = saved
    damaged.timer.removeLast()
    #expect(throws: KVMError.self) { try second.machine.restoreChips(damaged) }
  }
}
