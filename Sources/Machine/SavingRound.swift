import CLinux
import DiskImage
import GuestMemory
import Platform
import StateFile
import Synchronization

/// One saving of a machine's state: memory is copied while the guest runs, in rounds of what was written meanwhile, and
/// the rest while it stands still.
///
/// After the first state of a run is taken, writes go on to be noted, so that the next one need only have what has changed
/// since. A machine that was restored has what it wrote since in pages of its own: these are all that differs.
final class SavingRound: @unchecked Sendable {
  // @unchecked: used by the thread that saves, and by the supervisor while that one waits.

  /// The last state of a run that the next may rest on.
  struct Last: Sendable {
    var path: String
    /// Writes since then are noted there.
    var board: Board
  }

  /// What the new state rests on.
  private enum Base {
    case nothing
    /// The last state; writes since then are noted.
    case tracked(Board)
    /// The state that the machine was restored from.
    case restored
  }

  /// Copies of what was written since the one before, at most.
  private static let roundLimit = 12
  /// Bytes that may be left for the time in which the guest stands still.
  private static let restLimit: UInt64 = 1 << 20

  private let machine: Machine
  private let options: SaveOptions
  private let writer: StateFileWriter
  private let base: Base
  /// Notes what is written; all but that is copied.
  private var tracked: Board?
  private var manifest: StateManifest?

  init(_ machine: Machine, to path: String, _ options: SaveOptions) throws {
    self.machine = machine
    self.options = options
    let memory = machine.parts.memory
    var base = Base.nothing
    var reader: StateFileReader?
    // Whatever goes wrong from here on: what was noted is taken by this round, and the next begins anew.
    let last = machine.lastSaved.update { last in
      defer { last = nil }
      return last
    }
    if let path = options.base {
      let board = machine.board
      if let last, last.path == path, last.board === board {
        base = .tracked(board)
      } else if board.isRestored, machine.configuration.savedState == path {
        base = .restored
      }
      if case .nothing = base {
      } else {
        reader = try? StateFileReader(path: path, isManifestRead: false)
        if reader == nil { base = .nothing }
      }
    }
    if case .tracked = base {
    } else {
      last?.board.stopTracking()
    }
    self.base = base
    do {
      writer = try StateFileWriter(path: path, memorySize: memory.size, base: reader)
    } catch {
      if case .tracked(let board) = base { board.stopTracking() }
      throw error
    }
    if case .tracked(let board) = base { tracked = board }
  }

  /// Copies most of memory while the guest runs.
  func begin(whilePaused: (@escaping @Sendable (Board) throws -> Void) throws -> UInt64) throws {
    if tracked == nil {
      _ = try whilePaused { [self] board in
        if try board.startTracking() { tracked = board }
      }
      // Where nobody can tell what is written, all is copied while the guest stands still.
      guard tracked != nil else { return try flush(machine) }
      try copyAll()
    }
    try writer.consolidate(machine.parts.memory)
    guard let board = tracked else { return }
    var before = UInt64.max
    for round in 0..<Self.roundLimit {
      let written = try board.takeWritten(isStopped: false)
      let count = written.reduce(0) { $0 + UInt64($1.count) }
      try writer.write(machine.parts.memory, written)
      if round == 0 {
        // Most of what has to reach the disks does so before anybody waits for it: what is made to last while the guest
        // stands still has the file system wait for the rest of what it has begun.
        try flush(machine)
        try writer.settle()
      } else if count <= Self.restLimit || count >= before {
        // A guest that writes faster than it is copied is not caught up with by copying once more.
        return
      }
      before = count
    }
  }

  private func flush(_ machine: Machine) throws {
    for disk in machine.parts.disks where !disk.isReadOnly { try disk.image.flush() }
  }

  /// What the state that this one rests on does not have.
  private func copyAll() throws {
    let memory = machine.parts.memory
    if case .restored = base, machine.board.isRestored, let ranges = memory.privateRanges() {
      try writer.write(memory, ranges)
    } else if writer.isIncrement {
      try writer.write(memory, [0..<memory.size])
    } else {
      try writer.write(memory)
    }
  }

  /// While the guest stands still.
  func copyRest(_ board: Board) throws {
    let memory = machine.parts.memory
    switch tracked {
    case nil: try copyAll()
    case .some(let copied) where copied === board:
      try writer.write(memory, try board.takeWritten(isStopped: true))
    // After a reset it is another board: what was copied counts for nothing.
    default: try writer.write(memory, [0..<memory.size])
    }
    manifest = StateManifest(
      created: Int64(time(nil)), facts: machine.parts.facts, sections: try board.saveState())
  }

  func finish(_ commit: @Sendable () throws -> Void) throws {
    guard let manifest else { return }
    try writer.finish(manifest)
    try writer.commit()
    do {
      try commit()
    } catch {
      unlink(writer.path)
      throw error
    }
    guard let board = tracked, !options.ends, board === machine.board else { return abandon() }
    machine.lastSaved.update { $0 = Last(path: writer.path, board: board) }
  }

  /// Nothing rests on what was copied.
  func abandon() {
    // Whoever still holds the writer: nothing of it stays.
    writer.discard()
    tracked?.stopTracking()
    tracked = nil
  }
}
