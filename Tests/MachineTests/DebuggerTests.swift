import GuestMemory
import Machine
import Platform
import Processor
import TestGuests
import Testing

/// A debugger's hold of a whole machine on the software processor.
@Suite(
  .serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct DebuggerTests {
  private static let counter: UInt64 = 0x20_0000

  /// Counts for ever.
  private func makeMachine() throws -> Machine {
    var configuration = try CompiledGuest.configuration(
      """
      void guest_main(void) {
        volatile unsigned *counter = (volatile unsigned *)0x200000;
        for (;;) (*counter)++;
      }

      """)
    configuration.accelerator = .soft
    return try Machine(configuration, serialBackends: []) { _ in }
  }

  private func waitForStop(_ debugger: MachineDebugger) throws -> MachineStop {
    let deadline = MonotonicClock.now + 10_000_000_000
    while debugger.firstStop == nil && MonotonicClock.now < deadline { pauseThread() }
    let stop = try #require(debugger.firstStop)
    try debugger.stop()
    return stop
  }

  private func counted(_ debugger: MachineDebugger) throws -> UInt32 {
    let state = try debugger.state(of: 0)
    let bytes = debugger.read(Self.counter, count: 4, state)
    return bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }

  @Test("it stops, looks, steps, goes on, and leaves no trace", .timeLimit(.minutes(1)))
  func session() throws {
    let machine = try makeMachine()
    try machine.start()
    defer { machine.stop() }
    let deadline = MonotonicClock.now + 5_000_000_000
    while machine.runState != .running && MonotonicClock.now < deadline { pauseThread() }
    let wakes = Monitor(0)
    let debugger = try machine.attachDebugger { wakes.update { $0 += 1 } }
    #expect(throws: MachineError.self) { try machine.attachDebugger {} }
    // The guest's first instructions may still be on their way.
    var run = DebugRun()
    let point = Watchpoint(address: Self.counter, count: 4, kind: .write)
    try debugger.stop()
    #expect(machine.runState == .paused)
    try debugger.resume(run, breakpoints: [], watchpoints: [point])
    let first = try waitForStop(debugger)
    #expect(first.stop.reason == .watchpoint(Self.counter))
    #expect(wakes.read { $0 } == 1)
    let before = try counted(debugger)
    #expect(before > 0)
    try debugger.resume(run, breakpoints: [], watchpoints: [point])
    _ = try waitForStop(debugger)
    #expect(try counted(debugger) == before + 1)

    run.stepping[0] = 0..<0
    try debugger.resume(run, breakpoints: [], watchpoints: [])
    let step = try waitForStop(debugger)
    #expect(step.stop.reason == .step)
    let address = step.stop.address
    #expect(try debugger.state(of: 0).instructionPointer == address)
    try debugger.resume(DebugRun(), breakpoints: [address], watchpoints: [])
    // It is there already.
    let again = try waitForStop(debugger)
    #expect(again.stop.reason == .breakpoint)
    #expect(again.stop.address == address)
    // Steps as long as the processor is between here and the end of the loop.
    run.stepping[0] = 0x10_0000..<0x11_0000
    try debugger.resume(run, breakpoints: [], watchpoints: [])
    let moment = Monitor(())
    _ = moment.wait(until: MonotonicClock.now + 100_000_000) { _ -> Bool? in nil }
    #expect(debugger.firstStop == nil)
    try debugger.stop()

    // Behind a store: what is written now is what the guest reads next.
    try debugger.resume(DebugRun(), breakpoints: [], watchpoints: [point])
    _ = try waitForStop(debugger)
    var state = try debugger.state(of: 0)
    state[.rbx] = 0x1234_5678
    try debugger.setState(state, of: 0)
    #expect(try debugger.state(of: 0)[.rbx] == 0x1234_5678)
    #expect(debugger.write([0, 0, 0, 0x40], at: Self.counter, state))
    #expect(try counted(debugger) == 0x4000_0000)
    #expect(!debugger.write([0, 0], at: 32 << 20 - 1, state))
    #expect(debugger.read(32 << 20 - 1, count: 16, state).count == 1)
    debugger.detach()
    while machine.runState != .running && MonotonicClock.now < deadline + 20_000_000_000 {
      pauseThread()
    }
    #expect(machine.runState == .running)
    let second = try machine.attachDebugger {}
    try second.stop()
    // On a busy host the processor's thread may not have had its turn yet.
    let patience = MonotonicClock.now + 10_000_000_000
    while try counted(second) == 0x4000_0000, MonotonicClock.now < patience {
      try second.resume(DebugRun(), breakpoints: [], watchpoints: [])
      _ = moment.wait(until: MonotonicClock.now + 20_000_000) { _ -> Bool? in nil }
      try second.stop()
    }
    #expect(try counted(second) > 0x4000_0000)
    second.detach()
  }

  @Test("a processor that rests does not run while the other steps", .timeLimit(.minutes(1)))
  func resting() throws {
    var configuration = try CompiledGuest.configuration(
      """
      void guest_main(void) {
        volatile unsigned *counter = (volatile unsigned *)0x200000;
        for (;;) (*counter)++;
      }

      """, processors: 2)
    configuration.accelerator = .soft
    let machine = try Machine(configuration, serialBackends: []) { _ in }
    try machine.start()
    defer { machine.stop() }
    let moment = Monitor(())
    _ = moment.wait(until: MonotonicClock.now + 200_000_000) { _ -> Bool? in nil }
    let debugger = try machine.attachDebugger {}
    defer { debugger.detach() }
    try debugger.stop()
    let before = try counted(debugger)
    // The second waits for its start; the first rests.
    var run = DebugRun()
    run.resting = [0]
    try debugger.resume(run, breakpoints: [], watchpoints: [])
    _ = moment.wait(until: MonotonicClock.now + 100_000_000) { _ -> Bool? in nil }
    try debugger.stop()
    #expect(try counted(debugger) == before)
    try debugger.resume(DebugRun(), breakpoints: [], watchpoints: [])
    _ = moment.wait(until: MonotonicClock.now + 100_000_000) { _ -> Bool? in nil }
    try debugger.stop()
    #expect(try counted(debugger) > before)
  }
}
