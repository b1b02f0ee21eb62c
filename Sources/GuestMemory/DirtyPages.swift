/// Which pages of a region were written: bit i of word i / 64 is page i, the form of KVM_GET_DIRTY_LOG.
public struct DirtyPages: Sendable, Equatable {
  /// The region's first page.
  public let first: FrameNumber
  /// How many pages the region has.
  public let count: Int
  /// One bit a page, lowest first; bits beyond `count` are 0.
  public private(set) var words: [UInt64]

  /// No page.
  public init(first: FrameNumber, count: Int) {
    self.first = first
    self.count = max(0, count)
    words = [UInt64](repeating: 0, count: (self.count + 63) / 64)
  }

  init(first: FrameNumber, count: Int, words: [UInt64]) {
    self.first = first
    self.count = count
    self.words = words
  }

  public var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

  /// How many pages were written.
  public var dirtyCount: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

  public func contains(_ frame: FrameNumber) -> Bool {
    guard frame >= first, frame.rawValue - first.rawValue < UInt64(count) else { return false }
    let index = Int(frame.rawValue - first.rawValue)
    return words[index / 64] >> UInt64(index % 64) & 1 != 0
  }

  /// Takes in what another observer of the same region saw: the kernel sees the processors' writes, we the devices'.
  public mutating func formUnion(_ other: DirtyPages) {
    guard other.first == first, other.count == count else { return }
    for index in words.indices { words[index] |= other.words[index] }
  }

  /// As `formUnion`, with a bitmap of KVM_GET_DIRTY_LOG; bits beyond the region are ignored.
  public mutating func formUnion(bitmap: [UInt64]) {
    for index in words.indices where index < bitmap.count { words[index] |= bitmap[index] }
    if count % 64 != 0, let last = words.indices.last {
      words[last] &= (1 << UInt64(count % 64)) - 1
    }
  }

  /// Calls `body` with each run of written pages, in order.
  public func forEachRun<Failure: Error>(
    _ body: (Range<UInt64>) throws(Failure) -> Void
  ) throws(Failure) {
    var start: Int?
    for index in words.indices {
      let word = words[index]
      if word == (start == nil ? 0 : .max) { continue }
      for bit in 0..<64 {
        let isDirty = word >> UInt64(bit) & 1 != 0
        let page = index * 64 + bit
        if isDirty, start == nil {
          start = page
        } else if !isDirty, let begin = start {
          try body(range(begin, page))
          start = nil
        }
      }
    }
    if let begin = start { try body(range(begin, count)) }
  }

  /// Frame numbers.
  private func range(_ begin: Int, _ end: Int) -> Range<UInt64> {
    first.rawValue + UInt64(begin)..<first.rawValue + UInt64(end)
  }
}
