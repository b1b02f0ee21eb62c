import Platform
import Synchronization

/// What a disk was asked for and how long that took. Counted by the threads of its queues, read from any.
package final class DiskCounters: @unchecked Sendable {
  // @unchecked: every cell is atomic.
  package enum Operation: Int, CaseIterable {
    case read, write, flush
    /// Discards, and zeroes that are not written as such.
    case discard
  }

  private enum Cell {
    static let bytes = 0
    static let errors = 1
    static let nanoseconds = 2
    static let buckets = 3
    static let stride = buckets + OperationStatistics.bounds.count + 1
  }
  private let cells: UnsafeMutablePointer<Atomic<UInt64>>

  package init() {
    let count = Operation.allCases.count * Cell.stride
    cells = .allocate(capacity: count)
    for index in 0..<count { (cells + index).initialize(to: Atomic(0)) }
  }

  deinit { cells.deallocate() }

  /// One has ended.
  ///
  /// - Parameter start: `MonotonicClock`.
  package func note(_ operation: Operation, bytes: UInt64, since start: UInt64, failed: Bool) {
    let row = cells + operation.rawValue &* Cell.stride
    let took = MonotonicClock.now &- start
    if failed {
      row[Cell.errors].add(1, ordering: .relaxed)
    } else {
      row[Cell.bytes].add(bytes, ordering: .relaxed)
    }
    row[Cell.nanoseconds].add(took, ordering: .relaxed)
    var bucket = 0
    while bucket < OperationStatistics.bounds.count, took > OperationStatistics.bounds[bucket] {
      bucket &+= 1
    }
    row[Cell.buckets &+ bucket].add(1, ordering: .relaxed)
  }

  private func statistics(_ operation: Operation) -> OperationStatistics {
    let row = cells + operation.rawValue * Cell.stride
    var statistics = OperationStatistics()
    statistics.bytes = row[Cell.bytes].load(ordering: .relaxed)
    statistics.errors = row[Cell.errors].load(ordering: .relaxed)
    statistics.nanoseconds = row[Cell.nanoseconds].load(ordering: .relaxed)
    statistics.buckets = (0...OperationStatistics.bounds.count).map {
      row[Cell.buckets + $0].load(ordering: .relaxed)
    }
    return statistics
  }

  package var statistics: DiskStatistics {
    DiskStatistics(
      reads: statistics(.read), writes: statistics(.write), flushes: statistics(.flush),
      discards: statistics(.discard))
  }
}

/// What a disk has done since the machine was started.
public struct DiskStatistics: Sendable, Codable, Equatable {
  public var reads = OperationStatistics()
  public var writes = OperationStatistics()
  public var flushes = OperationStatistics()
  public var discards = OperationStatistics()

  public init(
    reads: OperationStatistics = .init(), writes: OperationStatistics = .init(),
    flushes: OperationStatistics = .init(), discards: OperationStatistics = .init()
  ) {
    self.reads = reads
    self.writes = writes
    self.flushes = flushes
    self.discards = discards
  }
}

/// Requests of one kind, those with an error too.
public struct OperationStatistics: Sendable, Codable, Equatable {
  /// Upper ends of the buckets, nanoseconds; one more bucket holds what took longer.
  public static let bounds: [UInt64] = [
    50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000,
    50_000_000, 100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000,
  ]

  /// Moved without an error.
  public var bytes: UInt64 = 0
  public var errors: UInt64 = 0
  /// From the request to its answer, in all.
  public var nanoseconds: UInt64 = 0
  /// Requests by the time they took.
  public var buckets = [UInt64](repeating: 0, count: bounds.count + 1)
  public var count: UInt64 { buckets.reduce(0, &+) }

  public init() {}
}
