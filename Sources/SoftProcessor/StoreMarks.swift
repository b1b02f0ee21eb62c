// Which pages processors have written, for copies of memory that are taken while they run.
//
// A page is marked when a translation of it gets its write tag. When marks are taken (`SoftBoard.takeDirtyPages`), every
// processor marks what it has write tags for once more and drops these tags, so that the next store marks again. What
// was written in between is marked for the next round at the latest, and by all that has stopped at once.
import CSoftProcessor
import GuestMemory
import Platform

/// Marks the page of host memory that a store goes to.
@inline(never)
func markStore(_ cpu: CPU, _ host: UnsafeRawPointer, count: UInt64) {
  SoftBoard.of(cpu)?.memory.recordStore(host: host, count: count)
}

/// Before write tags are forgotten, with stores drained: if marks were taken since the tags were entered, what they were
/// used for must be marked again.
@inline(__always)
func keepMarks(_ cpu: CPU) {
  guard soft_tracks_stores(cpu.pointee.board) != 0, soft_must_mark(cpu.pointee.board, cpu) != 0
  else { return }
  dropMarkedTags(cpu)
}

/// Marks every page that has a write tag, and drops the tags.
@inline(never)
func dropMarkedTags(_ cpu: CPU) {
  guard let board = SoftBoard.of(cpu) else { return }
  let entries = cpu.pointee.tlb_entries
  for position in 0..<(Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES)) {
    let entry = entries + position
    guard entry.pointee.write_tag != .max else { continue }
    let host = UInt(truncatingIfNeeded: entry.pointee.write_tag &+ entry.pointee.addend)
    if let page = UnsafeRawPointer(bitPattern: host) {
      board.memory.recordStore(host: page, count: 1)
    }
    entry.pointee.write_tag = .max
  }
}

extension SoftBoard {
  /// Begins with no page marked. While no processor runs and no device works; all memory is to be copied after it.
  package func startDirtyTracking() throws(GuestMemoryError) {
    try memory.startDirtyTracking()
    soft_set_tracks_stores(shared, 1)
    postAll(SOFT_EVENT_MARKS)
  }

  /// Every store is noted in memory's own marks, if anybody keeps them. For processors that execute single instructions,
  /// each time with no translation known.
  package func noteAllStores() { soft_set_tracks_stores(shared, 1) }

  /// Ends it. Processors may run.
  package func stopDirtyTracking() {
    soft_set_tracks_stores(shared, 0)
    memory.stopDirtyTracking()
    // Write tags come back with the next stores: entries without one are entered anew.
  }

  /// Takes the pages of a region that were written since the last call, by processors or devices. What is copied must be
  /// copied after it.
  ///
  /// - Parameters:
  ///   - index: of `memory.regions`.
  ///   - isStopped: no processor runs, so that nothing is left out: the last round.
  /// - Returns: nil where there is no such region.
  package func takeDirtyPages(ofRegion index: Int, isStopped: Bool) -> DirtyPages? {
    if isStopped { forEachProcessor { dropMarkedTags($0) } }
    soft_set_takes_marks(shared, 1)
    let pages = memory.takeDirtyPages(ofRegion: index)
    if !isStopped { postAll(SOFT_EVENT_MARKS) }
    soft_set_takes_marks(shared, 0)
    return pages
  }
}
