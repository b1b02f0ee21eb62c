import CLinux
import Hosting
import Machine
import Platform
import Synchronization

/// A machine's host in this process, with a serial port on this terminal, from start to exit status.
struct ForegroundRun {
  private let plan: HostPlan
  private let terminal: Int?

  /// - Parameter terminal: the serial port that is this terminal's; nil for none.
  init(_ plan: HostPlan, terminal: Int?) {
    self.plan = plan
    self.terminal = terminal
  }

  /// Runs until the machine ends.
  ///
  /// - Throws: `ExitStatus` where it is not 0.
  func run() throws {
    var plan = plan
    plan.onMessage = { text in
      // What each part of the board took to build is for logs; the rest is for people, also while the terminal is raw.
      if !text.hasPrefix("built ") { Failure.note("uj: \(text)\r") }
    }
    let host = try MachineHost(plan, parts: .standard)
    for port in host.terminalDevices { Failure.note("serial port \(port.port): \(port.path)") }
    var signal: Int32 = 0
    if terminal == nil {
      // There is no console session to take them.
      try host.handleSignals(HostSignals.ending) { SignalNote.last.store($0, ordering: .relaxed) }
    }
    let outcome = Monitor<MachineHost.End?>(nil)
    let thread = try PosixThread(name: "host") {
      let end = host.run()
      outcome.update { $0 = end }
    }
    var failure: (any Error)?
    if let terminal {
      do {
        signal = try attach(host, port: terminal)
      } catch {
        failure = error
        host.requestStop()
      }
    }
    thread.join()
    if let failure { throw failure }
    if terminal == nil { signal = SignalNote.last.load(ordering: .relaxed) }
    try report(outcome.read { $0 }, signal: signal)
  }

  /// - Returns: the signal that ended the session, or 0.
  private func attach(_ host: MachineHost, port: Int) throws -> Int32 {
    var ends: [Int32] = [-1, -1]
    try systemCall("socketpair") {
      socketpair(
        AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0,
        &ends)
    }
    host.attach(port: port, descriptor: ends[0])
    defer { close(ends[1]) }
    var session = ConsoleSession(stream: ends[1]) { host.sendBreak(port: port) }
    switch try session.run() {
    case .closed: return 0
    case .detached:
      host.requestStop()
      return 0
    case .signalled(let number):
      host.requestStop()
      return number
    }
  }

  private func report(_ end: MachineHost.End?, signal: Int32) throws {
    guard let end else { throw UsageFailure("\(plan.configuration.name): ended without a word") }
    if let report = end.report {
      // Registers and bytes, for whoever looks into it.
      Failure.note(report)
      throw ExitStatus(status: 3)
    }
    Failure.note("\(plan.configuration.name): \(end.reason)")
    if let status = end.status, status != 0 { throw ExitStatus(status: status) }
    if signal != 0 { throw ExitStatus(status: 128 + signal) }
    if !end.isClean { throw ExitStatus(status: 1) }
  }
}

/// The signal that ended a machine without a console.
private enum SignalNote {
  static let last = Atomic<Int32>(0)
}
