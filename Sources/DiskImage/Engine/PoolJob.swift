// What waits for a thread of the pool, and what a thread takes at a time.
import CLinux

/// One request, as it waits for a thread.
struct DiskTask: @unchecked Sendable {
  // @unchecked: the vectors belong to the request until it is answered.
  var operation = DiskOperation.read
  var vectors: UnsafePointer<iovec>?
  var count = 0
  var bytes: UInt64 = 0
  var offset: UInt64 = 0

  /// Bytes that the request is about.
  var length: UInt64 {
    guard let vectors, count > 0 else { return bytes }
    return BufferList(vectors: vectors, count: count).byteCount
  }

  func perform(on device: any BlockDevice) throws(DiskImageError) {
    switch operation {
    case .read:
      if let vectors { try device.readVectors(vectors, count, at: offset) }
    case .write:
      if let vectors { try device.writeVectors(vectors, count, at: offset) }
    case .flush: try device.flush()
    case .discard: try device.discard(at: offset, count: bytes)
    case .writeZeroes(let mayUnmap):
      try device.writeZeroes(at: offset, count: bytes, mayUnmap: mayUnmap)
    }
  }
}

/// What one thread does at a time: a request, and writes that go on where it ends. Together they are one allocation, one
/// change of the tables and one transfer.
struct PoolJob {
  let index: Int
  let task: DiskTask
  private(set) var neighbours: [(index: Int, task: DiskTask)] = []
  private var end: UInt64 = 0
  /// Enough for a transfer to be cheap; the rest is for other threads.
  private static let maximumBytes: UInt64 = 1 << 19

  init(index: Int, task: DiskTask) {
    self.index = index
    self.task = task
  }

  /// Moves bytes, which may be quick; a flush never is.
  var isTransfer: Bool {
    switch task.operation {
    case .read, .write: true
    case .flush, .discard, .writeZeroes: false
    }
  }

  /// Takes a request along if it is a write just behind the others.
  mutating func join(_ index: Int, _ next: DiskTask) -> Bool {
    guard case .write = task.operation, case .write = next.operation else { return false }
    if neighbours.isEmpty { end = task.offset &+ task.length }
    let length = next.length
    guard next.offset == end, next.count > 0, task.count > 0,
      end - task.offset + length <= Self.maximumBytes
    else { return false }
    neighbours.append((index, next))
    end += length
    return true
  }

  func perform(on device: any BlockDevice) -> (first: DiskImageError?, others: [DiskImageError?]) {
    guard !neighbours.isEmpty else { return (Self.result(task, device), []) }
    var vectors: [iovec] = []
    for each in [task] + neighbours.map(\.task) {
      guard let pieces = each.vectors else { continue }
      vectors.append(contentsOf: UnsafeBufferPointer(start: pieces, count: each.count))
    }
    let failure = vectors.withUnsafeBufferPointer { vectors in
      var whole = task
      whole.vectors = vectors.baseAddress
      whole.count = vectors.count
      return Self.result(whole, device)
    }
    guard failure != nil else { return (nil, []) }
    // Each by itself: the error belongs to one of them, perhaps.
    return (Self.result(task, device), neighbours.map { Self.result($0.task, device) })
  }

  private static func result(_ task: DiskTask, _ device: any BlockDevice) -> DiskImageError? {
    do throws(DiskImageError) { try task.perform(on: device) } catch { return error }
    return nil
  }
}
