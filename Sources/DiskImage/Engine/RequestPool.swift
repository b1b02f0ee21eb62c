// Threads that do requests by the blocking calls of a `BlockDevice`.
//
// Requests on cached bytes take a microsecond or two, less than waking a thread, and the file system lets one writer at a
// time into a file. So one thread does them until they turn out to be slow; then each that takes one wakes another. A
// caller that would wait does requests itself.
import CLinux
import Platform

/// The threads and their two queues. One thread adds and takes answers.
final class RequestPool: @unchecked Sendable {
  // @unchecked: what changes, changes with `lock` held.
  typealias Answer = (index: Int, error: DiskImageError?)

  private let device: any BlockDevice
  private let limit: Int
  private let notifier: EventNotifier
  private let lock = ConditionLock()
  /// A ring: requests in flight are never more than it holds.
  private var waiting: [(index: Int, task: DiskTask)]
  private var head = 0
  private var waitingCount = 0
  private var answers: [Answer] = []
  /// Taken from `answers` and being handed out: touched by the one that takes.
  private var taken: [Answer] = []
  /// Requests that are not yet answered.
  private var pending = 0
  private var idle = 0
  /// Threads, and the caller, inside a read or write.
  private var active = 0
  private var threads: [PosixThread] = []
  private var isStopping = false
  /// Somebody may wait for `descriptor`.
  private var isListening = true
  private var isSignalled = false
  /// What a read or write took, in nanoseconds, the last ones weighing most.
  private var averageTime: UInt64 = 0

  /// From here on a request waits for a disk, and another thread can do something else.
  private static let slowTime: UInt64 = 40_000
  /// A request that took longer says no more than that: its thread may have had to wait for a processor.
  private static let longestTime: UInt64 = 160_000

  /// - Parameter depth: Requests that may be pending.
  init(_ device: any BlockDevice, workers: Int, depth: Int) throws(PlatformError) {
    self.device = device
    limit = workers
    notifier = try EventNotifier()
    waiting = Array(repeating: (0, DiskTask()), count: depth)
    answers.reserveCapacity(depth)
    taken.reserveCapacity(depth)
  }

  /// Readable when answers wait, unless `hush` was called.
  var descriptor: Int32 { notifier.rawDescriptor }

  /// Whether an answer is to come or to be taken. Of the thread that adds: it alone ends that state.
  var isBusy: Bool {
    lock.lock()
    defer { lock.unlock() }
    return pending > 0 || !answers.isEmpty
  }

  // MARK: The caller

  /// Takes requests over, in their order.
  ///
  /// - Parameter wakes: lets a thread begin; otherwise `help` or `wake` does.
  func add(_ indices: [Int], wakes: Bool, _ task: (Int) -> DiskTask) {
    lock.lock()
    for index in indices {
      waiting[(head + waitingCount) % waiting.count] = (index, task(index))
      waitingCount += 1
    }
    pending += indices.count
    lock.unlock()
    if wakes { wake() }
  }

  /// Lets a thread begin with what waits.
  func wake() {
    lock.lock()
    wakeAnother()
    let isAlone = threads.isEmpty && waitingCount > 0
    lock.unlock()
    guard isAlone else { return }
    // Where the host gives no thread at all the caller does it.
    while help() {}
    listen()
  }

  /// Does one of the requests that wait; false when there is none.
  func help() -> Bool {
    lock.lock()
    isListening = false
    guard let job = take() else {
      lock.unlock()
      return false
    }
    begin(job)
    wakeAnother()
    lock.unlock()
    perform(job)
    return true
  }

  /// Lets `descriptor` tell of answers again, also of those that are there.
  func listen() {
    lock.lock()
    isListening = true
    let mustSignal = !answers.isEmpty && !isSignalled
    if mustSignal { isSignalled = true }
    lock.unlock()
    if mustSignal { notifier.signal() }
  }

  func takeAnswers(_ body: (Int, DiskImageError?) -> Void) {
    lock.lock()
    guard !answers.isEmpty else { return lock.unlock() }
    swap(&answers, &taken)
    let mustDrain = isSignalled
    isSignalled = false
    if mustDrain { notifier.drain() }
    lock.unlock()
    for place in taken.indices { body(taken[place].index, taken[place].error) }
    taken.removeAll(keepingCapacity: true)
  }

  /// Blocks until an answer waits, if one is to come.
  func wait() {
    guard isBusy else { return }
    listen()
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    // A signal ends it early: the caller looks again.
    _ = poll(&entry, 1, -1)
  }

  /// Makes `descriptor` readable.
  func nudge() { notifier.signal() }

  func stop() {
    lock.lock()
    isStopping = true
    lock.broadcast()
    let threads = threads
    lock.unlock()
    for thread in threads { thread.join() }
  }

  // MARK: The threads

  private func work() {
    lock.lock()
    while true {
      if let job = take() {
        begin(job)
        wakeAnother()
        lock.unlock()
        perform(job)
        lock.lock()
      } else if isStopping {
        break
      } else {
        idle += 1
        lock.wait()
        idle -= 1
      }
    }
    lock.unlock()
  }

  /// Lets another thread come if there is something to do for it. Needs the lock.
  private func wakeAnother() {
    guard waitingCount > 0, active < (averageTime < Self.slowTime ? 1 : limit) else { return }
    if idle > 0 {
      lock.wakeOne()
    } else if threads.count < limit,
      let thread = try? PosixThread(name: "disk", role: .device, { [self] in work() })
    {
      threads.append(thread)
    }
  }

  /// The next request, and writes that go on where it ends. Needs the lock.
  private func take() -> PoolJob? {
    guard waitingCount > 0 else { return nil }
    var job = PoolJob(index: waiting[head].index, task: waiting[head].task)
    advance()
    while waitingCount > 0, job.join(waiting[head].index, waiting[head].task) { advance() }
    return job
  }

  private func advance() {
    head = head + 1 == waiting.count ? 0 : head + 1
    waitingCount -= 1
  }

  private func begin(_ job: PoolJob) { if job.isTransfer { active += 1 } }

  /// Does a job and answers it. Without the lock.
  private func perform(_ job: PoolJob) {
    let start = MonotonicClock.now
    let results = job.perform(on: device)
    let time = MonotonicClock.now &- start
    lock.lock()
    if job.isTransfer {
      active -= 1
      averageTime = averageTime / 8 * 7 + min(time, Self.longestTime) / 8
    }
    answers.append((job.index, results.first))
    for (number, neighbour) in job.neighbours.enumerated() {
      answers.append((neighbour.index, results.others.isEmpty ? nil : results.others[number]))
    }
    pending -= 1 + job.neighbours.count
    let mustSignal = isListening && !isSignalled
    if mustSignal { isSignalled = true }
    lock.unlock()
    if mustSignal { notifier.signal() }
  }
}
