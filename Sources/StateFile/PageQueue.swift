import CLinux
import Platform

/// Puts pages into a growing file on a thread of its own, while the next ones are copied and their checksums made: either
/// takes about as long.
final class PageQueue: @unchecked Sendable {
  // @unchecked: `thread` and `wanted` belong to who calls, one at a time.

  /// Bytes that lie together in a buffer and in the file.
  struct Run {
    /// From the buffer's begin.
    var start: Int
    var count: Int
    /// In the file.
    var offset: UInt64
  }

  typealias Write = @Sendable (UnsafeRawBufferPointer, UInt64) throws(StateFileError) -> Void

  private typealias Piece = (buffer: UnsafeMutableRawBufferPointer, runs: [Run])

  private struct State {
    var waiting: [Piece] = []
    var free: [UnsafeMutableRawBufferPointer]
    var isBusy = false
    var isOver = false
    var failure: StateFileError?

    var isIdle: Bool { waiting.isEmpty && !isBusy }
  }

  /// Buffers that wait at most, beside the one that is filled.
  private static let depth = 3
  private let state: Monitor<State>
  private let write: Write
  private var thread: PosixThread?

  /// - Parameters:
  ///   - bufferSize: bytes of a buffer.
  ///   - write: puts bytes at a place of the file; never called by two threads at once.
  init(bufferSize: Int, alignment: Int, _ write: @escaping Write) {
    let buffers = (0..<Self.depth).map { _ in
      UnsafeMutableRawBufferPointer.allocate(byteCount: bufferSize, alignment: alignment)
    }
    state = Monitor(State(free: buffers))
    self.write = write
  }

  deinit {
    end()
    for buffer in state.read({ $0.free }) { buffer.deallocate() }
  }

  /// Takes a filled buffer over.
  ///
  /// - Returns: another to go on with.
  /// - Throws: what went wrong with an earlier one; `buffer` is the caller's still.
  func put(
    _ buffer: UnsafeMutableRawBufferPointer, _ runs: [Run]
  ) throws(StateFileError) -> UnsafeMutableRawBufferPointer {
    if thread == nil {
      let (state, write) = (state, write)
      thread = try? PosixThread(name: "write pages") { Self.serve(state, write) }
    }
    guard thread != nil else {
      try Self.write(buffer, runs, write)
      return buffer
    }
    typealias Outcome = Result<UnsafeMutableRawBufferPointer, StateFileError>
    let outcome = state.wait { (state: inout State) -> Outcome? in
      if let failure = state.failure { return .failure(failure) }
      guard let next = state.free.popLast() else { return nil }
      state.waiting.append((buffer, runs))
      return .success(next)
    }
    return try outcome.get()
  }

  /// Comes back when all that was given is in the file.
  func drain() throws(StateFileError) {
    guard thread != nil else { return }
    let failure = state.wait { (state: inout State) -> StateFileError?? in
      state.isIdle ? .some(state.failure) : nil
    }
    if let failure { throw failure }
  }

  /// Whatever is left is not written any more.
  func end() {
    guard let thread else { return }
    state.update { state in
      state.isOver = true
      state.free += state.waiting.map(\.buffer)
      state.waiting = []
    }
    thread.join()
    self.thread = nil
    state.update { $0.isOver = false }
  }

  private static func serve(_ state: Monitor<State>, _ write: Write) {
    while true {
      let next = state.wait { (state: inout State) -> Piece?? in
        if state.isOver { return .some(nil) }
        guard !state.waiting.isEmpty else { return nil }
        state.isBusy = true
        return .some(state.waiting.removeFirst())
      }
      guard let next else { return }
      var failure: StateFileError?
      // After a failure the file is worth nothing.
      if state.read({ $0.failure }) == nil {
        do throws(StateFileError) {
          try Self.write(next.buffer, next.runs, write)
        } catch {
          failure = error
        }
      }
      state.update { state in
        state.isBusy = false
        state.free.append(next.buffer)
        state.failure = state.failure ?? failure
      }
    }
  }

  private static func write(
    _ buffer: UnsafeMutableRawBufferPointer, _ runs: [Run], _ write: Write
  ) throws(StateFileError) {
    for run in runs {
      try write(
        UnsafeRawBufferPointer(rebasing: buffer[run.start..<run.start + run.count]), run.offset)
    }
  }
}
