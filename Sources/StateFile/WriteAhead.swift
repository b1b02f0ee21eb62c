import CLinux
import Platform

/// Has a growing file written to its disk while it still grows, on a thread of its own: the flush at its end waits only for
/// the last of it, instead of for all.
final class WriteAhead: @unchecked Sendable {
  // @unchecked: `thread` belongs to who calls `note` and `end`, one at a time.
  private struct State {
    /// Bytes that were written to the file.
    var written: UInt64 = 0
    var isOver = false
  }

  /// Bytes between two calls: much for a disk, little for the host's memory.
  private static let step: UInt64 = 16 << 20
  private let state = Monitor(State())
  private var thread: PosixThread?
  private var noted: UInt64 = 0
  private var isOver = false

  /// - Parameters:
  ///   - count: bytes written so far.
  ///   - file: stays open until `end`.
  func note(_ count: UInt64, of file: Int32) {
    guard !isOver, count &- noted >= Self.step else { return }
    noted = count
    state.update { $0.written = count }
    guard thread == nil else { return }
    let state = state
    // Where there is no thread to be had, the flush takes longer.
    thread = try? PosixThread(name: "write ahead") {
      var begun: UInt64 = 0
      while true {
        let goesOn = state.wait { $0.isOver ? false : $0.written > begun ? true : nil }
        guard goesOn else { return }
        begun = state.read { $0.written }
        // SYNC_FILE_RANGE_WRITE, sync_file_range(2): what is dirty, wherever it is.
        _ = linux_sync_file_range(file, 0, 0, 2)
      }
    }
  }

  /// Comes back when the file may be closed; nothing more is written ahead.
  func end() {
    isOver = true
    state.update { $0.isOver = true }
    thread?.join()
    thread = nil
  }
}
