import GuestMemory
import Processor
import SoftProcessor
import Testing

/// A debugger of the host's: where the processor stops, and that it runs on as if nobody had looked.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct HostDebuggerTests {
  private static let again: UInt64 = 0x10005
  private static let call: UInt64 = 0x10006
  private static let loop: UInt64 = 0x1000B
  private static let other: UInt64 = 0x11000
  private static let counter: UInt64 = 0x20_0000

  /// Counts in EAX, and in memory from a page of its own.
  private static func source(_ count: Int) -> String {
    """
    .globl _start
    .text
    .code32
    _start:
      movl $\(count), %ecx
    again:
      incl %eax
      call other
      loop again
      outl %eax, $0xF4
    1: jmp 1b
    .balign 4096
    other:
      incl 0x200000
      ret
    """
  }

  private func make(_ count: Int) throws -> SystemFixture {
    let fixture = try SystemFixture()
    let code = try Assembler.assemble(Self.source(count), bits: 32)
    var state = ProcessorState.flat32(
      entry: UInt32(SystemFixture.origin), codeSelector: 0x08)
    state[.rax] = 0
    state[.rsp] = 0x9_F000
    try fixture.load(code, from: state)
    return fixture
  }

  private func set(
    _ fixture: SystemFixture, breakpoints: [UInt64] = [], watchpoints: [Watchpoint] = [],
    isStepping: Bool = false
  ) throws {
    var settings = DebugSettings()
    settings.breakpoints = breakpoints
    settings.watchpoints = watchpoints
    settings.isStepping = isStepping
    try fixture.processor.setDebugging(settings)
  }

  /// Runs until the debugger has something.
  private func stop(_ fixture: SystemFixture) throws -> DebugStop? {
    guard case .debug = try fixture.runOnce() else { return nil }
    return fixture.processor.debugStop
  }

  private func expectStop(
    _ fixture: SystemFixture, _ reason: DebugStop.Reason, _ address: UInt64
  ) throws {
    let found = try stop(fixture)
    let wanted = DebugStop(reason: reason, address: address)
    #expect(found == wanted)
  }

  private func counted(_ fixture: SystemFixture) -> UInt32? {
    fixture.memory.load(UInt32.self, at: GuestAddress(Self.counter))
  }

  private func finish(_ fixture: SystemFixture) throws {
    guard case .interrupted = try fixture.runOnce() else {
      Issue.record("the program did not come to its end")
      return
    }
    #expect(fixture.isFinished)
  }

  @Test("it stops before an instruction, as often as it comes there, and steps over it")
  func breakpoints() throws {
    let fixture = try make(3)
    try set(fixture, breakpoints: [Self.other])
    try expectStop(fixture, .breakpoint, Self.other)
    #expect(counted(fixture) == 0)
    #expect(try fixture.processor.saveState()[.rax] == 1)
    // Nobody has gone over it.
    try expectStop(fixture, .breakpoint, Self.other)
    try set(fixture, breakpoints: [Self.other], isStepping: true)
    try expectStop(fixture, .step, Self.other + 6)
    #expect(counted(fixture) == 1)
    // The step was one step.
    try expectStop(fixture, .breakpoint, Self.other)
    #expect(counted(fixture) == 1)
    try set(fixture, breakpoints: [Self.loop, Self.again])
    try expectStop(fixture, .breakpoint, Self.loop)
    try set(fixture, isStepping: true)
    try expectStop(fixture, .step, Self.again)
    try fixture.processor.setDebugging(nil)
    try finish(fixture)
    #expect(counted(fixture) == 3)
    #expect(try fixture.processor.saveState()[.rax] == 3)
  }

  @Test(
    "a breakpoint in code that has long been translated is met, and leaves it as fast as it was")
  func hotCode() throws {
    let fixture = try make(400_000_000)
    guard case .interrupted = try fixture.runOnce(seconds: 0.2) else {
      Issue.record("the program is too short")
      return
    }
    let before = try #require(counted(fixture))
    #expect(before > 10_000)
    for point in [Self.other, Self.call, Self.other + 6] {
      try set(fixture, breakpoints: [point])
      try expectStop(fixture, .breakpoint, point)
    }
    let between = try #require(counted(fixture))
    #expect(between - before <= 3)
    try fixture.processor.setDebugging(nil)
    guard case .interrupted = try fixture.runOnce(seconds: 0.2) else { return }
    #expect(try #require(counted(fixture)) - between > 10_000)
  }

  @Test("a breakpoint elsewhere leaves other pages translated")
  func coldBreakpoint() throws {
    let fixture = try make(400_000_000)
    try set(fixture, breakpoints: [0x15000])
    guard case .interrupted = try fixture.runOnce(seconds: 0.2) else {
      Issue.record("stopped where nothing is")
      return
    }
    let plain = try make(400_000_000)
    guard case .interrupted = try plain.runOnce(seconds: 0.2) else { return }
    let (slowed, whole) = (try #require(counted(fixture)), try #require(counted(plain)))
    #expect(slowed > whole / 8)
  }

  @Test(
    "it stops after an instruction that touches what is watched",
    arguments: [Watchpoint.Kind.write, .read, .access])
  func watchpoints(_ kind: Watchpoint.Kind) throws {
    let fixture = try make(3)
    let point = Watchpoint(address: Self.counter + 1, count: 2, kind: kind)
    try set(fixture, watchpoints: [point])
    for count in 1...3 as ClosedRange<UInt32> {
      try expectStop(fixture, .watchpoint(Self.counter + 1), Self.other + 6)
      #expect(counted(fixture) == count)
    }
    try finish(fixture)
    let elsewhere = try make(3)
    try set(
      elsewhere, watchpoints: [Watchpoint(address: Self.counter + 4, count: 8, kind: .access)])
    try finish(elsewhere)
  }

  @Test("more than it can look after is refused") func limits() throws {
    let fixture = try make(1)
    #expect(throws: ProcessorError.self) {
      try set(fixture, breakpoints: (0..<257).map { $0 * 4096 })
    }
    try set(fixture, breakpoints: (0..<256).map { 0x40_0000 + $0 * 4096 })
    try finish(fixture)
  }
}
