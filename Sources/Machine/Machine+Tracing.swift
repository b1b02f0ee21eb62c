import Devices
import Platform

/// What can be seen of a machine that runs, or has failed.
extension Machine {
  /// Exits by kind and place since the machine was started, as far as they were counted: counting is on until `time`
  /// nanoseconds from now.
  public func readTrace(for time: UInt64) -> [ExitTraceRow] {
    let board = board
    return parts.trace.read(until: MonotonicClock.now &+ time).map { row in
      var row = row
      row.device = board.deviceName(row.kind, row.place)
      return row
    }
  }

  /// Stops counting when nobody has read the trace for the time that was asked. To be called now and then.
  public func expireTrace() { parts.trace.expire(at: MonotonicClock.now) }

  /// The same as after a fault, for a process that is about to die: the processors are stopped for good, as far as they
  /// stop within a tenth of a second. It may hang where the dying thread holds a lock.
  public func emergencyReport(_ reason: String) -> String {
    let board = board
    board.abandon()
    MonotonicClock.sleep(100_000_000)
    return FaultReport(reason, of: board, isParked: false).text
  }
}

extension Board {
  /// What answers at a port or an address, in words.
  func deviceName(_ kind: ExitKind, _ place: UInt64) -> String {
    switch kind {
    case .portRead, .portWrite:
      devices.ports.device(at: UInt16(truncatingIfNeeded: place))?.busName ?? "nobody"
    case .memoryRead, .memoryWrite:
      devices.memoryBus.device(inPage: place)?.busName ?? "nobody"
    default: ""
    }
  }
}

extension Machine {
  /// On the supervisor's thread: what the processors were doing goes to whoever listens.
  func reportFault(_ reason: String) {
    let board = board
    board.pause()
    let line = reason.split(separator: "\n").first.map(String.init) ?? "a processor failed"
    events(.fault(report: FaultReport(line, of: board, isParked: true).text))
  }
}
