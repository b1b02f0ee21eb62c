import CLinux
import DiskImage
import GuestMemory
import Platform
import StateFile

/// How a machine's state is saved.
public struct SaveOptions: Sendable {
  /// Most memory is copied while the guest runs on, where the host can tell what it writes meanwhile.
  public var isLive: Bool
  /// The machine ends then as `MachineEnd.suspended`, if all went well; else the guest goes on.
  public var ends: Bool

  public init(isLive: Bool = false, ends: Bool = false) {
    self.isLive = isLive
    self.ends = ends
  }
}

extension Machine {
  /// Copies of what was written since the one before, at most.
  private static let roundLimit = 8
  /// Bytes that may be left for the time in which the guest stands still.
  private static let restLimit: UInt64 = 1 << 20

  /// Writes the machine's whole state into a file.
  ///
  /// - Parameters:
  ///   - path: the new file; nothing is left of it where anything fails.
  ///   - capture: called at the moment that the state is of, while the guest stands still and what it has written to its
  ///     disks is durable; what it throws is thrown.
  ///   - commit: called when the file is whole and lasts; with `ends` before the machine ends, else while the guest runs
  ///     again. What it throws is thrown, and the file is removed.
  /// - Returns: nanoseconds for which the guest stood still.
  public func saveState(
    to path: String, _ options: SaveOptions, capture: @escaping @Sendable () throws -> Void = {},
    commit: @escaping @Sendable () throws -> Void
  ) throws -> UInt64 {
    let parts = parts
    let writer = try StateFileWriter(path: path, memorySize: parts.memory.size)
    let tracked = Monitor<Board?>(nil)
    defer { tracked.read { $0 }?.stopTracking() }
    if options.isLive {
      _ = try whilePaused { board in
        if try board.startTracking() { tracked.update { $0 = board } }
      }
      if let board = tracked.read({ $0 }) { try copyWhileRunning(board, to: writer) }
      // Most of what has to reach the disks does so before anybody waits for it.
      for disk in parts.disks where !disk.isReadOnly { try disk.image.flush() }
    }
    let held = try whilePaused(ends: options.ends) { board in
      switch tracked.read({ $0 }) {
      case nil: try writer.write(parts.memory)
      case .some(let copied) where copied === board:
        try writer.write(parts.memory, try board.takeWritten(isStopped: true))
      // After a reset it is another board: what was copied counts for nothing.
      default: try writer.write(parts.memory, [0..<parts.memory.size])
      }
      let manifest = StateManifest(
        created: Int64(time(nil)), facts: parts.facts, sections: try board.saveState())
      try writer.finish(manifest)
      for disk in parts.disks where !disk.isReadOnly { try disk.image.flush() }
      try capture()
      if options.ends { try Self.finish(writer, commit) }
    }
    if !options.ends { try Self.finish(writer, commit) }
    return held
  }

  private static func finish(
    _ writer: StateFileWriter, _ commit: @Sendable () throws -> Void
  ) throws {
    try writer.commit()
    do {
      try commit()
    } catch {
      unlink(writer.path)
      throw error
    }
  }

  private func copyWhileRunning(_ board: Board, to writer: StateFileWriter) throws {
    try writer.write(parts.memory)
    var before = UInt64.max
    for _ in 0..<Self.roundLimit {
      let written = try board.takeWritten(isStopped: false)
      let count = written.reduce(0) { $0 + UInt64($1.count) }
      try writer.write(parts.memory, written)
      // A guest that writes faster than it is copied is not caught up with by copying once more.
      if count <= Self.restLimit || count >= before { return }
      before = count
    }
  }

  /// Has the supervisor do something while the guest stands still.
  ///
  /// - Returns: nanoseconds for which it did.
  private func whilePaused(
    ends: Bool = false, _ body: @escaping @Sendable (Board) throws -> Void
  ) throws -> UInt64 {
    let work = PausedWork(ends: ends, body)
    let isTaken = life.update { life in
      guard life.supervisor != nil, !life.isOver, life.state != .stopped else { return false }
      life.requests.append(.work(work))
      return true
    }
    guard isTaken else { throw MachineError("\(configuration.name): does not run") }
    return try work.wait()
  }

  /// On the supervisor's thread. True: the machine is to end.
  func carryOut(_ work: PausedWork) -> Bool {
    let (board, state) = life.read { ($0.board, $0.state) }
    let runs = state == .running || state == .halted
    let begin = MonotonicClock.now
    if runs { board.pause() }
    do {
      try work.run(board)
    } catch {
      if runs { board.resume() }
      work.end(.failure(error))
      return false
    }
    if !work.ends, runs { board.resume() }
    work.end(.success(MonotonicClock.now &- begin))
    return work.ends
  }
}
