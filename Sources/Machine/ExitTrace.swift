// What the guest makes its host do: counted while somebody looks, and the last accesses always, for a report of a fault.

import Platform
import Processor
import Synchronization

/// Counters of exits by kind and place, and a ring of the last accesses. Outlives the boards of its machine.
///
/// Off, an exit costs one load. On, it costs two readings of the clock and a few atomic additions to a row of a table that
/// does not grow; what finds no room is counted together.
package final class ExitTrace: @unchecked Sendable {
  // @unchecked: the cells are atomic; `table` is made once under `lease`.

  private struct Lease {
    var table: UnsafeMutablePointer<Atomic<UInt64>>?
    /// `MonotonicClock`.
    var end: UInt64 = 0
  }

  package let probe: ExitProbe
  private let lease = Mutex(Lease())

  package init() { probe = ExitProbe() }

  deinit {
    probe.deallocate()
    lease.withLock { $0.table?.deallocate() }
  }

  /// What was counted until now, by kind and place. Counting goes on until `end` (`MonotonicClock`), or begins.
  package func read(until end: UInt64) -> [ExitTraceRow] {
    lease.withLock { lease in
      let table = lease.table ?? ExitProbe.makeTable()
      lease.table = table
      lease.end = max(lease.end, end)
      probe.setTable(table)
      return ExitProbe.rows(table)
    }
  }

  /// Ends counting that nobody has asked for any more.
  package func expire(at now: UInt64) {
    lease.withLock { lease in
      guard lease.table != nil, now >= lease.end else { return }
      probe.setTable(nil)
    }
  }
}

/// Exits of one kind at one place.
public struct ExitTraceRow: Sendable, Equatable {
  public var kind: ExitKind
  /// The port, or the first address of the page; nothing for other kinds.
  public var place: UInt64
  /// What is there, in words.
  public var device = ""
  public var count: UInt64
  /// Nanoseconds in all, from the exit until it was served.
  public var nanoseconds: UInt64
  /// The longest one.
  public var longest: UInt64
  /// How many took less than 2^i nanoseconds and no less than 2^(i-1); the last one holds all longer ones too.
  public var buckets: [UInt64]

  public init(
    kind: ExitKind, place: UInt64, count: UInt64, nanoseconds: UInt64, longest: UInt64,
    buckets: [UInt64]
  ) {
    self.kind = kind
    self.place = place
    self.count = count
    self.nanoseconds = nanoseconds
    self.longest = longest
    self.buckets = buckets
  }
}

/// Why the guest was left.
public enum ExitKind: String, Sendable, CaseIterable {
  case portRead = "port read"
  case portWrite = "port write"
  case memoryRead = "memory read"
  case memoryWrite = "memory write"
  /// HLT, where no chip of the kernel's waits.
  case halted = "halt"
  /// This process wanted the processor.
  case interrupted = "interrupted"
  case interruptWindow = "interrupt window"
  case endOfInterrupt = "end of interrupt"
  case registerRead = "RDMSR"
  case registerWrite = "WRMSR"
  case debug = "debug"
  /// What KVM could not go on with.
  case failure = "failure"
  /// Found no room in the table.
  case other = "other"

  package var code: UInt64 { UInt64(Self.allCases.firstIndex(of: self) ?? 0) + 1 }

  init?(code: UInt64) {
    guard (1...UInt64(Self.allCases.count)).contains(code) else { return nil }
    self = Self.allCases[Int(code) - 1]
  }

  /// It has a place: a port or an address.
  public var hasPlace: Bool {
    switch self {
    case .portRead, .portWrite, .memoryRead, .memoryWrite: true
    default: false
    }
  }
}

extension ExitKind {
  /// nil for accesses, and for what ends the run.
  init?(_ exit: ProcessorExit) {
    switch exit {
    case .halted: self = .halted
    case .interrupted: self = .interrupted
    case .interruptWindow: self = .interruptWindow
    case .endOfInterrupt: self = .endOfInterrupt
    case .registerRead: self = .registerRead
    case .registerWrite: self = .registerWrite
    case .debug: self = .debug
    case .failure: self = .failure
    case .portRead, .portWrite, .memoryRead, .memoryWrite, .shutdown, .systemEvent: return nil
    }
  }
}
