// Room ahead of a growing file that is written past the page cache. A direct write that makes the file longer, or needs
// blocks from the file system, has the file for itself; one into room that is there already runs beside others.
import CLinux
import Synchronization

extension FileStorage {
  /// At least and at most so much at a time, and no more than a quarter of the file.
  private static let smallestStep: UInt64 = 1 << 20
  private static let largestStep: UInt64 = 32 << 20

  /// Whether room is made ahead.
  @inline(__always)
  var growsAhead: Bool { reservedEnd.load(ordering: .relaxed) != UInt64.max }

  /// Bytes up to `end` are about to be written.
  @inline(__always)
  func noteWritten(_ end: UInt64) {
    if end <= writtenEnd.load(ordering: .relaxed) { return }
    growth.lock()
    defer { growth.unlock() }
    guard end > writtenEnd.load(ordering: .relaxed) else { return }
    writtenEnd.store(end, ordering: .relaxed)
    if end > reservedEnd.load(ordering: .relaxed) { makeRoom(for: end) }
  }

  private func makeRoom(for end: UInt64) {
    let start = reservedEnd.load(ordering: .relaxed)
    let step = min(max(start / 4, Self.smallestStep), Self.largestStep)
    let (wanted, overflow) = end.roundedUp(to: 4096).addingReportingOverflow(step)
    guard !overflow, wanted <= UInt64(Int64.max), end - start <= Self.largestStep else {
      // Far behind the end: the file is sparse there, and stays so.
      reservedEnd.store(end, ordering: .relaxed)
      return
    }
    // Without room the write itself finds out, and says so.
    let made = linux_fallocate(descriptor, 0, Int64(start), Int64(wanted - start)) == 0
    reservedEnd.store(made ? wanted : end, ordering: .relaxed)
  }

  /// The file ends where its bytes end.
  func giveRoomBack() {
    guard growsAhead, reservedEnd.load(ordering: .relaxed) > writtenEnd.load(ordering: .relaxed)
    else { return }
    _ = ftruncate(descriptor, off_t(writtenEnd.load(ordering: .relaxed).roundedUp(to: 4096)))
  }
}
