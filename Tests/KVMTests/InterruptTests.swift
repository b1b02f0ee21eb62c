import Glibc
import GuestMemory
import KVM
import Platform
import Processor
import Testing

/// Interrupts by the kernel's chips, by ours, and by event descriptors.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"), .timeLimit(.minutes(1)))
struct InterruptTests {
  /// Both PICs with vectors from `base`, only IRQ 0 and 5 open. Clobbers AL.
  static func programPIC(base: UInt8) -> [UInt8] {
    [
      0xB0, 0x11, 0xE6, 0x20,  // ICW1: edge, cascade, ICW4
      0xB0, base, 0xE6, 0x21,  // ICW2
      0xB0, 0x04, 0xE6, 0x21,  // ICW3: slave on 2
      0xB0, 0x01, 0xE6, 0x21,  // ICW4: 8086
      0xB0, 0xDE, 0xE6, 0x21,  // mask: all but 0 and 5
    ]
  }

  /// Channel 0, mode 2, about 1 ms.
  static let programPIT: [UInt8] = [
    0xB0, 0x34, 0xE6, 0x43,  // channel 0, both bytes, mode 2
    0xB0, 0xA9, 0xE6, 0x40, 0xB0, 0x04, 0xE6, 0x40,  // 0x4A9 = 1193 ticks
  ]

  /// A real mode program that counts interrupts at 0x0C00 and ends with out 0x81 after three.
  private func realModeGuest(timer: Bool) throws -> Guest {
    var code: [UInt8] = Self.programPIC(base: 0x20)
    if timer { code += Self.programPIT }
    code += [
      0xFB,  // sti
      0xF4,  // wait: hlt
      0x80, 0x3E, 0x00, 0x0C, 0x03,  // cmp byte [0xC00], 3
      0x72, 0xF8,  // jb wait
      0xFA, 0xE6, 0x81, 0xF4,  // cli; out 0x81, al; hlt
    ]
    let guest = try Guest(code, chips: .kernel)
    // The vectors of IRQ 0 and 5 share a handler at 0x800.
    let handler: [UInt8] = [
      0x50,  // push ax
      0xFE, 0x06, 0x00, 0x0C,  // inc byte [0xC00]
      0xA0, 0x00, 0x0C, 0xE6, 0x80,  // mov al, [0xC00]; out 0x80, al
      0xB0, 0x20, 0xE6, 0x20,  // end of interrupt
      0x58, 0xCF,  // pop ax; iret
    ]
    try guest.memory.write(handler, at: GuestAddress(0x800))
    guest.memory.store(UInt32(0x800), at: GuestAddress(0x20 * 4))
    guest.memory.store(UInt32(0x800), at: GuestAddress(0x25 * 4))
    try guest.startReal()
    return guest
  }

  private static let three = [1, 2, 3].map { Guest.Output(port: 0x80, value: $0) }

  @Test func timerInterruptsWakeRealMode() throws {
    let guest = try realModeGuest(timer: true)
    #expect(try guest.outcome(until: 0x81).dropLast() == Self.three[...])
  }

  /// Ends in the handler of the vector: 32-bit IRET is not emulated on hosts that emulate supervisor mode.
  @Test func timerInterruptReachesProtectedMode() throws {
    let guest = try Guest(
      Self.programPIC(base: 0x20) + Self.programPIT + [0xFB, 0xF4, 0xEB, 0xFD], chips: .kernel)
    try guest.startFlat()
    #expect(try guest.outcome() == [.vector(0x20)])
  }

  @Test func timerInterruptReachesLongMode() throws {
    let guest = try Guest(
      Self.programPIC(base: 0x20) + Self.programPIT + [0xFB, 0xF4, 0xEB, 0xFD], chips: .kernel)
    try guest.startLong()
    #expect(try guest.outcome() == [.vector(0x20)])
  }

  @Test func lineWakesAHaltedProcessor() throws {
    let guest = try realModeGuest(timer: false)
    let raiser = try PosixThread(name: "raiser") {
      for _ in 0..<3 {
        usleep(20_000)
        try? guest.machine.setLine(5, asserted: true)
        try? guest.machine.setLine(5, asserted: false)
      }
    }
    #expect(try guest.outcome(until: 0x81).dropLast() == Self.three[...])
    raiser.join()
  }

  @Test func eventDescriptorRaisesALine() throws {
    let guest = try realModeGuest(timer: false)
    let notifier = try EventNotifier()
    try guest.machine.attachInterrupt(5, to: notifier)
    let raiser = try PosixThread(name: "raiser") {
      for _ in 0..<3 {
        usleep(20_000)
        notifier.signal()
      }
    }
    #expect(try guest.outcome(until: 0x81).dropLast() == Self.three[...])
    raiser.join()
    try guest.machine.detachInterrupt(5, from: notifier)
    #expect(throws: KVMError.self) { try guest.machine.attachInterrupt(9999, to: notifier) }
  }

  /// Switches the local APIC on and waits for a message.
  private static let waitForMessage: [UInt8] = [
    0xBF, 0xF0, 0x00, 0xE0, 0xFE,  // mov edi, 0xFEE000F0
    0xC7, 0x07, 0xFF, 0x01, 0x00, 0x00,  // mov dword [edi], 0x1FF: enabled
    0xE6, 0x82,  // out 0x82, al: ready
    0xFB, 0xF4, 0xEB, 0xFD,  // sti; hlt; again
  ]

  @Test(arguments: [Guest.Chips.kernel, .split])
  func messageReachesTheLocalAPIC(_ chips: Guest.Chips) throws {
    let guest = try Guest(Self.waitForMessage, chips: chips)
    try guest.startFlat()
    #expect(try guest.outcome(until: 0x82).count == 1)
    let sender = try PosixThread(name: "sender") {
      usleep(20_000)
      _ = try? guest.machine.signalMessage(address: 0xFEE0_0000, data: 0x31)
    }
    #expect(try guest.outcome() == [.vector(0x31)])
    sender.join()
  }

  @Test func maskedMessageRouteStaysSilent() throws {
    let guest = try Guest(Self.waitForMessage, chips: .kernel)
    let notifier = try EventNotifier()
    let number = try guest.machine.allocateMessageNumber()
    #expect(number == 24)
    try guest.machine.setMessage(number, address: 0xFEE0_0000, data: 0x31)
    try guest.machine.attachInterrupt(number, to: notifier)
    try guest.machine.clearMessage(number)
    try guest.startFlat()
    #expect(try guest.outcome(until: 0x82).count == 1)
    notifier.signal()
    usleep(20_000)
    try guest.machine.setMessage(number, address: 0xFEE0_0000, data: 0x32)
    notifier.signal()
    #expect(try guest.outcome() == [.vector(0x32)])
    try guest.machine.releaseMessageNumber(number)
    #expect(throws: KVMError.self) {
      try guest.machine.setMessage(number, address: 0xFEE0_0000, data: 0x31)
    }
    #expect(try guest.machine.allocateMessageNumber() == number)
  }

  /// Our PIC with a split chip: asks for the window, then injects.
  @Test func interruptIsInjectedWhenTheGuestAllowsIt() throws {
    let guest = try Guest(
      [
        0xE6, 0x82,  // out 0x82, al: interrupts are off
        0xFB,  // sti
        0x90, 0x90, 0x90, 0xEB, 0xFB,  // again
      ], chips: .split)
    try guest.startFlat()
    #expect(try guest.outcome(until: 0x82).count == 1)
    #expect(!guest.processor.canTakeInterrupt)
    guest.processor.interruptWindowRequested = true
    guard case .interruptWindow = try guest.processor.run() else {
      Issue.record("no window")
      return
    }
    #expect(guest.processor.canTakeInterrupt)
    guest.processor.interruptWindowRequested = false
    try guest.processor.inject(VectorNumber(0x23))
    #expect(try guest.outcome() == [.vector(0x23)])
  }

  @Test func doorbellSignalsWithoutAnExit() throws {
    let guest = try Guest([
      0xB0, 0x07, 0xE6, 0x90,  // out 0x90, 7: matches
      0xB0, 0x08, 0xE6, 0x90,  // out 0x90, 8: does not
      0xBF, 0x00, 0x00, 0x00, 0xC0,  // mov edi, 0xC0000000
      0x66, 0x89, 0x07,  // mov [edi], ax: any length
      0x89, 0x07,  // mov [edi], eax
      0xE6, 0x81,  // out 0x81, al
      0xF4,
    ])
    let port = try EventNotifier()
    let memory = try EventNotifier()
    let portBell = VirtualMachine.Doorbell(.port(0x90), length: 1, value: 7)
    let memoryBell = VirtualMachine.Doorbell(.memory(GuestAddress(0xC000_0000)), length: 0)
    try guest.machine.attachDoorbell(portBell, to: port)
    try guest.machine.attachDoorbell(memoryBell, to: memory)
    try guest.startFlat()
    let output = try guest.outcome(until: 0x81)
    #expect(output.first == .init(port: 0x90, value: 8))
    #expect(output.count == 2)
    #expect(port.drain() == 1)
    #expect(memory.drain() == 2)
    try guest.machine.detachDoorbell(portBell, from: port)
    try guest.startFlat()
    #expect(try guest.outcome(until: 0x81).count == 3)
    #expect(port.drain() == 0)
    #expect(throws: KVMError.self) {
      try guest.machine.attachDoorbell(.init(.port(1), length: 3), to: port)
    }
  }
}
