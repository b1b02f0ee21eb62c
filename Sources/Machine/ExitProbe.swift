import Platform
import Processor
import Synchronization

/// The hot end of an `ExitTrace`: a bare pointer, so that copies cost nothing. Valid as long as its trace.
package struct ExitProbe: @unchecked Sendable {
  // @unchecked: every cell is atomic.
  private typealias Cells = UnsafeMutablePointer<Atomic<UInt64>>

  /// Codes of kinds as constants: the hot path looks nothing up.
  package enum Code {
    package static var portRead: UInt64 { 1 }
    package static var portWrite: UInt64 { 2 }
    package static var memoryRead: UInt64 { 3 }
    package static var memoryWrite: UInt64 { 4 }
  }

  private enum Cell {
    /// The table's address while counting is on, else 0.
    static let table = 0
    /// Accesses ever noted.
    static let cursor = 1
    static let ring = 2
  }
  /// A power of two.
  static let ringCount = 32
  private static let ringStride = 2
  private static let cellCount = Cell.ring + ringCount * ringStride

  private enum Row {
    static let key = 0
    static let count = 1
    static let nanoseconds = 2
    static let longest = 3
    static let buckets = 4
    static let stride = 32
  }
  static let bucketCount = Row.stride - Row.buckets
  private static let rowCount = 512
  private static let probeLimit = 16
  private static let pageMask: UInt64 = 0xFFF

  private let cells: Cells

  init() { cells = Self.zeroed(Self.cellCount) }

  func deallocate() { cells.deallocate() }

  private static func zeroed(_ count: Int) -> Cells {
    let cells = Cells.allocate(capacity: count)
    for index in 0..<count { (cells + index).initialize(to: Atomic(0)) }
    return cells
  }

  // MARK: On the way of an exit

  /// When the exit began; 0 while nobody counts.
  @inline(__always)
  package func begin() -> UInt64 {
    cells[Cell.table].load(ordering: .relaxed) == 0 ? 0 : MonotonicClock.now
  }

  /// It was served. `place` is a port or an address.
  @inline(__always)
  package func end(_ start: UInt64, _ code: UInt64, _ place: UInt64) {
    if start != 0 { count(start, code, place) }
  }

  /// Keeps an access for a report.
  @inline(__always)
  package func note(_ code: UInt64, _ place: UInt64, size: Int, _ value: UInt64) {
    // Two processors at once may take the same entry: one access is lost then.
    let number = cells[Cell.cursor].load(ordering: .relaxed)
    cells[Cell.cursor].store(number &+ 1, ordering: .relaxed)
    let entry = Cell.ring &+ Int(truncatingIfNeeded: number & UInt64(Self.ringCount &- 1)) &* 2
    cells[entry].store(
      code << 60 | UInt64(truncatingIfNeeded: size & 0xF) << 56 | place & 0xFF_FFFF_FFFF_FFFF,
      ordering: .relaxed)
    cells[entry &+ 1].store(value, ordering: .relaxed)
  }

  @inline(never)
  private func count(_ start: UInt64, _ code: UInt64, _ place: UInt64) {
    guard
      let table = Cells(bitPattern: UInt(cells[Cell.table].load(ordering: .acquiring)))
    else { return }
    let took = MonotonicClock.now &- start
    let isMemory = code == Code.memoryRead || code == Code.memoryWrite
    let row = Self.row(in: table, code << 56 | (isMemory ? place & ~Self.pageMask : place))
    row[Row.count].add(1, ordering: .relaxed)
    row[Row.nanoseconds].add(took, ordering: .relaxed)
    let bucket = min(Self.bucketCount &- 1, UInt64.bitWidth &- took.leadingZeroBitCount)
    row[Row.buckets &+ bucket].add(1, ordering: .relaxed)
    row[Row.longest].max(took, ordering: .relaxed)
  }

  /// The row of a key, taken if it is free; the last one where there is no room.
  private static func row(in table: Cells, _ key: UInt64) -> Cells {
    let first = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 55)
    for step in 0..<probeLimit {
      let row = table + ((first &+ step) & (rowCount &- 1)) &* Row.stride
      let found = row[Row.key].load(ordering: .relaxed)
      if found == key { return row }
      guard found == 0 else { continue }
      let (isTaken, other) = row[Row.key].compareExchange(
        expected: 0, desired: key, ordering: .relaxed)
      if isTaken || other == key { return row }
    }
    return table + rowCount &* Row.stride
  }

  // MARK: For whoever looks

  static func makeTable() -> UnsafeMutablePointer<Atomic<UInt64>> {
    let table = zeroed((rowCount + 1) * Row.stride)
    table[rowCount * Row.stride].store(ExitKind.other.code << 56, ordering: .relaxed)
    return table
  }

  func setTable(_ table: UnsafeMutablePointer<Atomic<UInt64>>?) {
    cells[Cell.table].store(UInt64(UInt(bitPattern: table)), ordering: .releasing)
  }

  static func rows(_ table: UnsafeMutablePointer<Atomic<UInt64>>) -> [ExitTraceRow] {
    (0...rowCount).compactMap { index in
      let row = table + index * Row.stride
      let key = row[Row.key].load(ordering: .relaxed)
      let count = row[Row.count].load(ordering: .relaxed)
      guard count > 0, let kind = ExitKind(code: key >> 56) else { return nil }
      return ExitTraceRow(
        kind: kind, place: key & 0xFF_FFFF_FFFF_FFFF, count: count,
        nanoseconds: row[Row.nanoseconds].load(ordering: .relaxed),
        longest: row[Row.longest].load(ordering: .relaxed),
        buckets: (0..<bucketCount).map { row[Row.buckets + $0].load(ordering: .relaxed) })
    }
  }

  /// The last accesses, the oldest first.
  package struct Access {
    package var kind: ExitKind
    package var place: UInt64
    package var size: Int
    package var value: UInt64
  }

  package func lastAccesses() -> [Access] {
    let end = cells[Cell.cursor].load(ordering: .relaxed)
    let first = end > UInt64(Self.ringCount) ? end - UInt64(Self.ringCount) : 0
    return (first..<end).compactMap { number in
      let entry = Cell.ring + Int(number & UInt64(Self.ringCount - 1)) * Self.ringStride
      let word = cells[entry].load(ordering: .relaxed)
      guard let kind = ExitKind(code: word >> 60) else { return nil }
      return Access(
        kind: kind, place: word & 0xFF_FFFF_FFFF_FFFF, size: Int(word >> 56 & 0xF),
        value: cells[entry + 1].load(ordering: .relaxed))
    }
  }
}
