// Threads that do requests by the blocking calls of a `BlockDevice`.
import CLinux
import Platform

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
private struct PoolJob {
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

/// The threads and their two queues.
final class RequestPool: Sendable {
  private struct State {
    var waiting: [(index: Int, task: DiskTask)] = []
    /// Of `waiting`, already taken.
    var taken = 0
    var answers: [(index: Int, error: DiskImageError?)] = []
    /// Requests that are not yet answered.
    var pending = 0
    var idle = 0
    var threads: [PosixThread] = []
    var isStopping = false
  }

  private let device: any BlockDevice
  private let limit: Int
  private let state = Monitor(State())
  private let notifier: EventNotifier

  init(_ device: any BlockDevice, workers: Int) throws(PlatformError) {
    self.device = device
    limit = workers
    notifier = try EventNotifier()
  }

  /// Readable when answers wait.
  var descriptor: Int32 { notifier.rawDescriptor }

  /// Whether an answer is to come or to be taken.
  var isBusy: Bool { state.read { $0.pending > 0 || !$0.answers.isEmpty } }

  func add(_ index: Int, _ task: DiskTask) {
    let needsThread = state.update { state in
      state.waiting.append((index, task))
      state.pending += 1
      let backlog = state.waiting.count - state.taken
      return backlog > state.idle && state.threads.count < limit
    }
    guard needsThread else { return }
    // Without another thread the ones that are there do it; the first must come.
    if let thread = try? PosixThread(name: "disk", { [self] in work() }) {
      state.update { $0.threads.append(thread) }
    } else if state.read({ $0.threads.isEmpty }) {
      workOnce()
    }
  }

  private func work() {
    while let job = nextJob() { answer(job) }
  }

  /// Where the host gives no thread at all: the caller does it.
  private func workOnce() {
    let job = state.update { state -> PoolJob? in Self.take(&state) }
    if let job { answer(job) }
  }

  private func nextJob() -> PoolJob? {
    state.update { $0.idle += 1 }
    let job = state.wait { state -> PoolJob?? in
      if let job = Self.take(&state) { return .some(job) }
      return state.isStopping ? .some(nil) : nil
    }
    state.update { $0.idle -= 1 }
    return job
  }

  private static func take(_ state: inout State) -> PoolJob? {
    guard state.taken < state.waiting.count else { return nil }
    let (index, task) = state.waiting[state.taken]
    state.taken += 1
    var job = PoolJob(index: index, task: task)
    while state.taken < state.waiting.count {
      let (next, neighbour) = state.waiting[state.taken]
      guard job.join(next, neighbour) else { break }
      state.taken += 1
    }
    if state.taken == state.waiting.count {
      state.waiting.removeAll(keepingCapacity: true)
      state.taken = 0
    }
    return job
  }

  private func answer(_ job: PoolJob) {
    let results = job.perform(on: device)
    let isFirst = state.update { state in
      let wasEmpty = state.answers.isEmpty
      state.answers.append((job.index, results.first))
      for (number, neighbour) in job.neighbours.enumerated() {
        state.answers.append(
          (neighbour.index, results.others.isEmpty ? nil : results.others[number]))
      }
      state.pending -= 1 + job.neighbours.count
      return wasEmpty
    }
    if isFirst { notifier.signal() }
  }

  func takeAnswers(_ body: (Int, DiskImageError?) -> Void) {
    guard state.read({ !$0.answers.isEmpty }) else { return }
    notifier.drain()
    let answers = state.update { state in
      let answers = state.answers
      state.answers.removeAll()
      return answers
    }
    for answer in answers { body(answer.index, answer.error) }
  }

  /// Blocks until an answer waits.
  func wait() {
    state.wait { $0.answers.isEmpty && $0.pending > 0 ? nil : true }
  }

  func stop() {
    let threads = state.update { state in
      state.isStopping = true
      return state.threads
    }
    for thread in threads { thread.join() }
  }
}
