// Which stretches of a disk were written, for whoever copies it while a guest uses it.
import Synchronization

/// A bit for each stretch of a disk.
struct WriteMap: Sendable {
  /// Bytes of a stretch.
  static let granule: UInt64 = 64 << 10

  private let size: UInt64
  private var words: [UInt64]

  init(size: UInt64) {
    self.size = size
    let count = size / Self.granule + (size % Self.granule == 0 ? 0 : 1)
    words = Array(repeating: 0, count: Int(count / 64 + 1))
  }

  /// What is beyond the disk's end is left out.
  mutating func mark(_ offset: UInt64, _ count: UInt64) {
    guard count > 0, offset < size else { return }
    let last = min(offset &+ (count &- 1) < offset ? .max : offset + (count - 1), size - 1)
    for bit in offset / Self.granule...last / Self.granule {
      words[Int(bit / 64)] |= 1 << (bit % 64)
    }
  }

  /// The marked stretches, in order; none is marked afterwards.
  mutating func take() -> [Range<UInt64>] {
    var ranges: [Range<UInt64>] = []
    for index in words.indices where words[index] != 0 {
      for bit in UInt64(0)..<64 where words[index] >> bit & 1 != 0 {
        let start = (UInt64(index) * 64 + bit) * Self.granule
        let end = min(start + Self.granule, size)
        if let last = ranges.last, last.upperBound == start {
          ranges[ranges.count - 1] = last.lowerBound..<end
        } else {
          ranges.append(start..<end)
        }
      }
      words[index] = 0
    }
    return ranges
  }
}

/// The map of a disk, where there is one now.
final class WriteTracker: Sendable {
  private let isOn = Atomic<Bool>(false)
  private let map = Mutex<WriteMap?>(nil)

  /// The request is inside the disk's gate: a map that is taken while the gate is shut has all that was written.
  @inline(__always)
  func note(_ offset: UInt64, _ count: @autoclosure () -> UInt64) {
    if isOn.load(ordering: .relaxed) { mark(offset, count()) }
  }

  @inline(never)
  private func mark(_ offset: UInt64, _ count: UInt64) {
    _ = map.withLock { $0?.mark(offset, count) }
  }

  func start(size: UInt64) {
    map.withLock { $0 = WriteMap(size: size) }
    isOn.store(true, ordering: .sequentiallyConsistent)
  }

  func take() -> [Range<UInt64>] { map.withLock { $0?.take() } ?? [] }

  func stop() {
    isOn.store(false, ordering: .sequentiallyConsistent)
    map.withLock { $0 = nil }
  }
}

// MARK: Copying while it is written

extension ExchangeableDisk {
  /// Notes what is written from now on. What is copied afterwards is complete with what `takeWritten` tells.
  ///
  /// - Returns: false where requests do not end; nothing is noted then.
  public func startTracking(milliseconds: Int) -> Bool {
    tracker.start(size: size)
    // What was under way before may not have been noted: it has ended when this comes back.
    guard shut(milliseconds: milliseconds) else {
      tracker.stop()
      return false
    }
    open()
    return true
  }

  /// Which stretches were written since the last call. All of these writes have ended.
  ///
  /// - Returns: nil where requests do not end in time; what was noted stays noted.
  public func takeWritten(milliseconds: Int) -> [Range<UInt64>]? {
    guard shut(milliseconds: milliseconds) else { return nil }
    defer { open() }
    return tracker.take()
  }

  public func stopTracking() { tracker.stop() }
}
