import Platform
import StateFile
import Synchronization

/// Where a machine goes that moves while it runs. Called by one thread at a time.
package protocol MovingTarget: AnyObject, Sendable {
  /// Memory from a place in the machine's memory file; the guest may be writing there.
  func sendMemory(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws
  /// Memory that is zeros now and was something else.
  func sendMemoryZeros(count: UInt64, at offset: UInt64) throws
  /// Content of a disk, by its place in the configuration.
  func sendDisk(_ disk: Int, _ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws
  /// What of a disk is zeros now and may have been something else.
  func sendDiskZeros(_ disk: Int, count: UInt64, at offset: UInt64) throws
  /// Comes back when all of the above is there.
  func synchronize() throws
  /// The guest will stand still soon: what has to be on a disk before it is given away is written now.
  func prepareHandOver() throws
  /// Of `MonotonicClock`: when the guest executed there, where that is known.
  var executionTime: UInt64? { get }
  /// The guest stands still from here on, until the end or an error.
  ///
  /// - Parameter deadline: of `MonotonicClock`: when the guest goes on here if it has not been handed over.
  func beginStandstill(until deadline: UInt64) throws
  /// Gives the machine away, with all but what was sent already.
  ///
  /// - Returns: how that ended. What it throws means that it runs nowhere else and never will.
  func handOver(_ manifest: StateManifest) throws -> HandOver
}

extension MovingTarget {
  package func prepareHandOver() throws {}
  package var executionTime: UInt64? { nil }
}

/// How giving a machine away ended.
package enum HandOver: Sendable, Equatable {
  /// It runs there.
  case done
  /// The other side was told that it may run, and said nothing more.
  case uncertain
}

/// How a machine is moved.
package struct MovingOptions: Sendable {
  /// Nanoseconds for which the guest may stand still.
  package var standstillLimit: UInt64 = 100_000_000
  /// Disks whose content goes along, by their place in the configuration; the others are where both hosts find them.
  package var copiedDisks: Set<Int> = []
  /// Disks that both hosts use: this one lets go of them before the machine is given away.
  package var sharedDisks: Set<Int> = []

  package init() {}
}

/// How far a move is; shared between who moves and who shows it.
package final class MovingProgress: Sendable {
  package enum Phase: String, Sendable {
    case preparing, disks, memory, rounds, standstill, uncertain, done, failed
  }

  package struct State: Sendable, Equatable {
    package var phase = Phase.preparing
    /// Bytes of disks and memory that were looked at.
    package var done: UInt64 = 0
    /// And that there are.
    package var total: UInt64 = 0
    /// Bytes that were sent.
    package var sent: UInt64 = 0
    /// Copying again what was written meanwhile: which time.
    package var round = 0
    /// Bytes that were written meanwhile.
    package var left: UInt64 = 0
    /// Bytes a second that arrive.
    package var rate: UInt64 = 0
    /// Hundredths of the guest's time that are taken from it.
    package var throttle = 0
    /// Nanoseconds for which the guest stood still.
    package var standstill: UInt64 = 0
    /// Why it failed, or what is uncertain.
    package var reason: String?
  }

  private let guarded = Mutex(State())

  package init() {}

  package var state: State { guarded.withLock { $0 } }
  package func update(_ body: (inout State) -> Void) { guarded.withLock { body(&$0) } }
}
