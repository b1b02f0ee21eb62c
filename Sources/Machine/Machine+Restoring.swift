import DiskImage
import Platform

extension Machine {
  /// Starts a machine that goes on from a saved state before its memory was looked at: the guest runs at once, and what it
  /// does not use is read only here, to be compared with its checksums. Its disks wait until then.
  ///
  /// - Parameter commit: called when all is well, before the disks take the first request: from here on they do not fit
  ///   the saved state any more.
  /// - Throws: `MachineError` where memory is damaged, or what `commit` throws. Then no disk has changed, and nothing of
  ///   the machine can be used or closed any more: the process should end.
  public func startRestored(commit: () throws -> Void) throws {
    guard let saved = parts.savedState else {
      try commit()
      return try start()
    }
    // Nothing is under way yet.
    let waiting = parts.disks.filter { $0.image.shut(milliseconds: 100) }
    do {
      try begin()
      if configuration.verifiesSavedState { try saved.verify() }
      try commit()
    } catch {
      life.update { $0.isAbandoned = true }
      board.abandon()
      throw error
    }
    for disk in waiting { disk.image.open() }
  }
}
