// The engine under convert, commit, stream and rebase: one place hands out pieces of data, several threads move them.
import CLinux
import Platform
import Synchronization

/// How far an operation is. Shared between the threads that work and the one that shows it.
public final class OperationProgress: Sendable {
  private let doneBytes = Atomic<UInt64>(0)
  private let totalBytes = Atomic<UInt64>(0)
  private let cancelled = Atomic<Bool>(false)

  public init() {}

  /// Bytes of the disk dealt with.
  public var done: UInt64 { doneBytes.load(ordering: .relaxed) }
  /// Bytes of the disk.
  public var total: UInt64 { totalBytes.load(ordering: .relaxed) }
  /// Makes the operation end with an error soon. What it was making is removed, its source untouched.
  public func cancel() { cancelled.store(true, ordering: .relaxed) }
  public var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

  func start(_ total: UInt64) {
    totalBytes.store(total, ordering: .relaxed)
    doneBytes.store(0, ordering: .relaxed)
  }
  func set(_ done: UInt64) { doneBytes.store(done, ordering: .relaxed) }
  /// So much more is done.
  func add(_ count: UInt64) { doneBytes.wrappingAdd(count, ordering: .relaxed) }

  /// - Throws: When the operation was cancelled.
  func check(_ path: String) throws(DiskImageError) {
    if isCancelled { throw DiskImageError(.closed, path, "was not finished: cancelled") }
  }
}

/// A stretch that a thread is to move.
struct CopyPiece {
  var offset: UInt64
  var count: UInt64
  /// Known to be zeros: nothing to read.
  var isZero: Bool
}

/// Walks over a disk once, handing out its stretches to whoever asks.
final class ParallelCopy: @unchecked Sendable {
  private let source: any BlockDevice
  private let end: UInt64
  private let pieceSize: UInt64
  private let unit: UInt64
  private let progress: OperationProgress
  private let wantsZeros: Bool
  /// Which stretches are wanted at all; nil: those with data.
  private let select: (@Sendable (UInt64, UInt64) throws(DiskImageError) -> BlockExtent)?
  /// The bodies read by themselves.
  var readsSource = true
  private let lock = ConditionLock()
  private var position: UInt64 = 0
  private var extent = BlockExtent(count: 0, isZero: true, isAllocated: false)
  private var failure: DiskImageError?

  /// - Parameters:
  ///   - pieceSize: Most bytes of a piece; pieces end at its multiples.
  ///   - unit: A power of two that divides `pieceSize`: data is handed out in whole units.
  ///   - wantsZeros: Also hand out stretches that are known to be zeros.
  ///   - select: What to hand out of `(offset, limit)`; `isAllocated` false skips.
  init(
    _ source: any BlockDevice, end: UInt64, pieceSize: UInt64, unit: UInt64 = 1,
    progress: OperationProgress, wantsZeros: Bool = false,
    select: (@Sendable (UInt64, UInt64) throws(DiskImageError) -> BlockExtent)? = nil
  ) {
    self.source = source
    self.end = end
    self.pieceSize = pieceSize
    self.unit = unit
    self.progress = progress
    self.wantsZeros = wantsZeros
    self.select = select
    progress.start(end)
  }

  /// The next piece; nil at the end or after a failure.
  func next() -> CopyPiece? {
    lock.lock()
    defer { lock.unlock() }
    while failure == nil && position < end {
      do throws(DiskImageError) { try progress.check(source.path) } catch {
        failure = error
        return nil
      }
      if extent.count == 0 {
        do throws(DiskImageError) {
          if let select {
            extent = try select(position, end - position)
          } else {
            extent = try source.extent(at: position, limit: end - position)
          }
        } catch {
          failure = error
          return nil
        }
        if extent.count == 0 { return nil }
      }
      if let piece = take() { return piece }
    }
    return nil
  }

  private func take() -> CopyPiece? {
    let isWanted = select == nil ? !extent.isZero || wantsZeros : extent.isAllocated
    var piece = CopyPiece(offset: position, count: extent.count, isZero: extent.isZero)
    if isWanted && !extent.isZero {
      // Whole units: what was handed out before ends at one, so the round-down repeats nothing.
      piece.offset = position.roundedDown(to: unit)
      let boundary = (position / pieceSize + 1) * pieceSize
      let wanted = min(position + extent.count, boundary)
      piece.count = min(wanted.roundedUp(to: unit), end) - piece.offset
    }
    let reached = piece.offset + piece.count
    extent.count -= min(extent.count, reached - position)
    position = reached
    progress.set(position)
    return isWanted ? piece : nil
  }

  func fail(_ error: DiskImageError) {
    lock.lock()
    failure = failure ?? error
    lock.unlock()
  }

  /// Runs `body` on several threads, each with a buffer of one piece, until all is moved.
  func run(
    threads: Int,
    _ makeBody: () ->
      @Sendable (CopyPiece, UnsafeMutableRawPointer)
      throws(DiskImageError) -> Void
  ) throws(DiskImageError) {
    var bodies: [@Sendable (CopyPiece, UnsafeMutableRawPointer) throws(DiskImageError) -> Void] = []
    for _ in 0..<max(threads, 1) { bodies.append(makeBody()) }
    var workers: [PosixThread] = []
    for body in bodies.dropFirst() {
      // Fewer threads than wished for are no failure.
      if let worker = try? PosixThread(name: "disk-copy", { self.work(body) }) {
        workers.append(worker)
      }
    }
    work(bodies[0])
    for worker in workers { worker.join() }
    lock.lock()
    defer { lock.unlock() }
    if let failure { throw failure }
  }

  private func work(
    _ body: (CopyPiece, UnsafeMutableRawPointer) throws(DiskImageError) -> Void
  ) {
    let buffer = AlignedBuffer(count: Int(pieceSize))
    while let piece = next() {
      do throws(DiskImageError) {
        if !piece.isZero && readsSource {
          try source.read(
            into: UnsafeMutableRawBufferPointer(start: buffer.pointer, count: Int(piece.count)),
            at: piece.offset)
        }
        try body(piece, buffer.pointer)
      } catch {
        fail(error)
      }
    }
  }

  /// Threads that are worth while on this machine.
  static var defaultThreads: Int { max(1, min(8, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
}
