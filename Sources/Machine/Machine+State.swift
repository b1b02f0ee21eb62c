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
  /// The file of an earlier state of this run, or the one that the machine was restored from, in a folder beside the new
  /// one's: pages that have not changed since are left there, where the machine can tell. It must stay as long as the new
  /// one is wanted.
  public var base: String?

  public init(isLive: Bool = false, ends: Bool = false, base: String? = nil) {
    self.isLive = isLive
    self.ends = ends
    self.base = base
  }
}

extension Machine {
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
    let round = try SavingRound(self, to: path, options)
    do {
      if options.isLive {
        try round.begin { body in
          try whilePaused { board in
            try body(board)
            return .resumes
          }
        }
      }
      let parts = parts
      let held = try whilePaused { board in
        try round.copyRest(board)
        for disk in parts.disks where !disk.isReadOnly { try disk.image.flush() }
        try capture()
        guard options.ends else { return .resumes }
        try round.finish(commit)
        return .ends(.suspended)
      }
      if !options.ends { try round.finish(commit) }
      return held
    } catch {
      round.abandon()
      throw error
    }
  }

  /// Has the supervisor do something while the guest stands still.
  ///
  /// - Returns: nanoseconds for which it did.
  func whilePaused(
    _ body: @escaping @Sendable (Board) throws -> PausedWork.After
  ) throws -> UInt64 {
    let work = PausedWork(body)
    let isTaken = life.update { life in
      guard life.supervisor != nil, !life.isOver, life.state != .stopped else { return false }
      life.requests.append(.work(work))
      return true
    }
    guard isTaken else { throw MachineError("\(configuration.name): does not run") }
    return try work.wait()
  }

  /// On the supervisor's thread.
  ///
  /// - Returns: how the machine is to end, if it is.
  func carryOut(_ work: PausedWork) -> MachineEnd? {
    let (board, state) = life.read { ($0.board, $0.state) }
    let runs = state == .running || state == .halted
    let begin = MonotonicClock.now
    if runs { board.pause() }
    var end: MachineEnd?
    do {
      switch try work.run(board) {
      case .resumes: if runs { board.resume() }
      case .stays: if runs { setState(.paused) }
      case .ends(let reason): end = reason
      }
    } catch {
      if runs { board.resume() }
      work.end(.failure(error))
      return nil
    }
    work.end(.success(MonotonicClock.now &- begin))
    return end
  }
}
