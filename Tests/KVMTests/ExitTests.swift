import GuestMemory
import KVM
import Processor
import Testing

/// What the guest does and what `run` says about it, in 16, 32 and 64-bit code.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"), .timeLimit(.minutes(1)))
struct ExitTests {
  @Test func realModePortWriteAndHalt() throws {
    let guest = try Guest([
      0xBA, 0xF8, 0x03,  // mov dx, 0x3F8
      0xB0, 0x41,  // mov al, 'A'
      0xEE,  // out dx, al
      0xB8, 0x34, 0x12,  // mov ax, 0x1234
      0xEF,  // out dx, ax
      0xF4,  // hlt
    ])
    try guest.startReal()
    let (output, end) = try guest.collect()
    #expect(output == [.init(port: 0x3F8, value: 0x41), .init(port: 0x3F8, value: 0x1234)])
    #expect(end.isHalt)
  }

  @Test func realModePortReadIsAnswered() throws {
    let guest = try Guest([
      0xE4, 0x60,  // in al, 0x60
      0xE6, 0x80,  // out 0x80, al
      0xF4,
    ])
    try guest.startReal()
    guard case .portRead(port: 0x60, width: .byte, count: 1, let data) = try guest.processor.run()
    else {
      Issue.record("no port read")
      return
    }
    data.storeBytes(of: 0xA5, as: UInt8.self)
    #expect(try guest.collect().output == [.init(port: 0x80, value: 0xA5)])
  }

  @Test func stringOutputGivesAllValuesInOrder() throws {
    let guest = try Guest([
      0xFC,  // cld
      0xBE, 0x10, 0x10,  // mov si, text
      0xB9, 0x05, 0x00,  // mov cx, 5
      0xBA, 0x02, 0x04,  // mov dx, 0x402
      0xF3, 0x6E,  // rep outsb
      0xF4, 0x90, 0x90, 0x90,
      0x68, 0x65, 0x6C, 0x6C, 0x6F,  // text: "hello"
    ])
    try guest.startReal()
    let (output, end) = try guest.collect()
    #expect(output.map(\.value) == Array("hello".utf8).map(UInt64.init))
    #expect(end.isHalt)
  }

  @Test func stringInputTakesManyValuesInOneExit() throws {
    let guest = try Guest([
      0xFC,  // cld
      0xBF, 0x00, 0x20,  // mov di, 0x2000
      0xB9, 0x10, 0x00,  // mov cx, 16
      0xBA, 0xF0, 0x01,  // mov dx, 0x1F0
      0xF3, 0x6D,  // rep insw
      0xF4,
    ])
    try guest.startReal()
    var next: UInt16 = 0x100
    var largest = 0
    loop: while true {
      switch try guest.processor.run() {
      case .portRead(port: 0x1F0, width: .word, let count, let data):
        largest = max(largest, count)
        for position in 0..<count {
          data.storeBytes(of: next, toByteOffset: position * 2, as: UInt16.self)
          next += 1
        }
      case .halted: break loop
      case let exit:
        Issue.record("\(exit)")
        return
      }
    }
    #expect(largest > 1)
    let words = (0..<16).map { guest.memory.load(UInt16.self, at: GuestAddress(0x2000 + $0 * 2)) }
    #expect(words == (0x100..<0x110).map { UInt16($0) })
  }

  @Test func realModeMemoryOfADevice() throws {
    let guest = try Guest([
      0xB8, 0x00, 0xA0, 0x8E, 0xD8,  // mov ax, 0xA000; mov ds, ax
      0xA0, 0x10, 0x00,  // mov al, [0x10]
      0xE6, 0x80,  // out 0x80, al
      0xC7, 0x06, 0x20, 0x00, 0x34, 0x12,  // mov word [0x20], 0x1234
      0xF4,
    ])
    try guest.startReal()
    try expectMemoryRead(guest, at: 0xA0010, count: 1, answer: 0x5A)
    #expect(try guest.outcome(until: 0x80) == [.init(port: 0x80, value: 0x5A)])
    try expectMemoryWrite(guest, at: 0xA0020, count: 2, value: 0x1234)
    #expect(try guest.processor.run().isHalt)
  }

  @Test func protectedModeMemoryOfADevice() throws {
    let guest = try Guest([
      0xBF, 0x00, 0x00, 0x00, 0xC0,  // mov edi, 0xC0000000
      0x8B, 0x07,  // mov eax, [edi]
      0xE7, 0x80,  // out 0x80, eax
      0x89, 0x47, 0x04,  // mov [edi + 4], eax
      0xF4,
    ])
    try guest.startFlat()
    try expectMemoryRead(guest, at: 0xC000_0000, count: 4, answer: 0xDEAD_BEEF)
    #expect(try guest.outcome(until: 0x80) == [.init(port: 0x80, value: 0xDEAD_BEEF)])
    try expectMemoryWrite(guest, at: 0xC000_0004, count: 4, value: 0xDEAD_BEEF)
    #expect(try guest.processor.run().isHalt)
  }

  @Test func longModeMemoryOfADevice() throws {
    let guest = try Guest([
      0xBF, 0x00, 0x00, 0x00, 0x30,  // mov edi, 0x30000000
      0x48, 0x8B, 0x07,  // mov rax, [rdi]
      0x48, 0xFF, 0xC0,  // inc rax
      0x48, 0x89, 0x47, 0x08,  // mov [rdi + 8], rax
      0xF4,
    ])
    try guest.startLong()
    try expectMemoryRead(guest, at: 0x3000_0000, count: 8, answer: 0x1122_3344_5566_7788)
    try expectMemoryWrite(guest, at: 0x3000_0008, count: 8, value: 0x1122_3344_5566_7789)
    #expect(try guest.processor.run().isHalt)
  }

  @Test func writeToReadOnlyMemoryComesOut() throws {
    let guest = try Guest([
      0xBF, 0x00, 0x00, 0x18, 0x00,  // mov edi, 0x180000
      0x8A, 0x07,  // mov al, [edi]
      0xE6, 0x80,  // out 0x80, al
      0xC6, 0x07, 0x99,  // mov byte [edi], 0x99
      0xF4,
    ])
    // The upper half of the second MiB becomes ROM in a slot of its own.
    try guest.machine.removeMemory(slot: 1)
    let rom = try #require(guest.memory.pointer(at: GuestAddress(0x18_0000), count: 0x1000))
    rom.storeBytes(of: 0x77, as: UInt8.self)
    try guest.machine.setMemory(
      slot: 2, guestAddress: GuestAddress(0x18_0000), size: 0x1000, host: rom, readOnly: true)
    try guest.startFlat()
    #expect(try guest.outcome(until: 0x80) == [.init(port: 0x80, value: 0x77)])
    try expectMemoryWrite(guest, at: 0x18_0000, count: 1, value: 0x99)
    #expect(rom.load(as: UInt8.self) == 0x77)
    #expect(try guest.processor.run().isHalt)
  }

  @Test func dirtyLogNamesTheWrittenPages() throws {
    let guest = try Guest(
      [
        0xBF, 0x00, 0x30, 0x00, 0x00,  // mov edi, 0x3000
        0xC6, 0x07, 0x01,  // mov byte [edi], 1
        0xBF, 0x00, 0x50, 0x04, 0x00,  // mov edi, 0x45000
        0xC6, 0x07, 0x01,  // mov byte [edi], 1
        0xF4,
      ], logDirty: true)
    try guest.startFlat()
    _ = try guest.machine.readDirtyLog(slot: 0)
    #expect(try guest.processor.run().isHalt)
    let log = try guest.machine.readDirtyLog(slot: 0)
    #expect(log.count == 2)
    #expect(log[0] == 1 << 3)
    #expect(log[1] == 1 << 5)
    #expect(try guest.machine.readDirtyLog(slot: 0) == [0, 0])
    #expect(throws: KVMError.self) { try guest.machine.readDirtyLog(slot: 9) }
  }

  @Test func tripleFaultIsAShutdown() throws {
    let guest = try Guest([
      0xB8, 0x00, 0x00, 0x00, 0x80,  // mov eax, PG without PE
      0x0F, 0x22, 0xC0,  // mov cr0, eax: #GP, whose gate is beyond the table
      0xF4,
    ])
    try guest.startFlat()
    var state = try guest.processor.saveState()
    state.interruptDescriptors.limit = 0
    try guest.processor.restoreState(state)
    #expect(try guest.processor.run().isShutdown)
  }

  /// Hosts that emulate supervisor mode may not step there; what they do must not be a failure.
  @Test func singleStepsAreReported() throws {
    let guest = try Guest([0x90, 0x90, 0x90, 0xE6, 0x80, 0xF4])  // three times nop; out 0x80, al
    try guest.startFlat()
    try guest.processor.setDebugging(singleStep: true)
    var steps = 0
    loop: for _ in 0..<20 {
      switch try guest.processor.run() {
      case .debug: steps += 1
      case .portWrite: break loop
      case let exit:
        Issue.record("\(exit)")
        return
      }
    }
    #expect(steps == 3 || hostCapability != .full)
    try guest.processor.setDebugging(singleStep: false)
    #expect(try guest.processor.run().isHalt)
    #expect(throws: KVMError.self) {
      try guest.processor.setDebugging(singleStep: false, breakpoints: [1, 2, 3, 4, 5])
    }
  }

  private func expectMemoryRead(
    _ guest: Guest, at address: UInt64, count: Int, answer: UInt64
  ) throws {
    guard case .memoryRead(let found, let length, let data) = try guest.processor.run() else {
      Issue.record("no read:\n\(try guest.processor.saveState().dump)")
      return
    }
    #expect(found == GuestAddress(address))
    #expect(length == count)
    withUnsafeBytes(of: answer.littleEndian) {
      data.copyMemory(from: $0.baseAddress!, byteCount: count)
    }
  }

  private func expectMemoryWrite(
    _ guest: Guest, at address: UInt64, count: Int, value: UInt64
  ) throws {
    guard case .memoryWrite(let found, let length, let data) = try guest.processor.run() else {
      Issue.record("no write:\n\(try guest.processor.saveState().dump)")
      return
    }
    #expect(found == GuestAddress(address))
    #expect(length == count)
    #expect(Guest.Output.value(data, try #require(AccessWidth(rawValue: UInt8(count)))) == value)
  }
}
