import Synchronization

/// What a disk has done since the machine was made. Read from any thread.
public final class BlockStatistics: Sendable {
  let bytesReadCounter = Atomic<UInt64>(0)
  let bytesWrittenCounter = Atomic<UInt64>(0)
  let readCounter = Atomic<UInt64>(0)
  let writeCounter = Atomic<UInt64>(0)
  let flushCounter = Atomic<UInt64>(0)
  let errorCounter = Atomic<UInt64>(0)

  public init() {}

  public var bytesRead: UInt64 { bytesReadCounter.load(ordering: .relaxed) }
  public var bytesWritten: UInt64 { bytesWrittenCounter.load(ordering: .relaxed) }
  /// Requests.
  public var reads: UInt64 { readCounter.load(ordering: .relaxed) }
  public var writes: UInt64 { writeCounter.load(ordering: .relaxed) }
  public var flushes: UInt64 { flushCounter.load(ordering: .relaxed) }
  /// Requests that ended with an error for the guest.
  public var errors: UInt64 { errorCounter.load(ordering: .relaxed) }

  func didRead(_ count: UInt64) {
    readCounter.add(1, ordering: .relaxed)
    bytesReadCounter.add(count, ordering: .relaxed)
  }

  func didWrite(_ count: UInt64) {
    writeCounter.add(1, ordering: .relaxed)
    bytesWrittenCounter.add(count, ordering: .relaxed)
  }
}
