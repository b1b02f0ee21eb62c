// Many requests in flight on one disk, from one thread: the kernel moves plain bytes by itself (io_uring); whatever needs
// more than that, and everything where there is no io_uring, is done by a few threads of ours.
import CLinux
import Platform

/// What is asked of a disk.
public enum DiskOperation: Sendable {
  case read, write, flush, discard
  case writeZeroes(mayUnmap: Bool)
}

/// An asynchronous client of a `BlockDevice`. One thread submits and reaps.
public final class RequestEngine {
  /// One request in flight.
  private struct Slot {
    var request = DiskTask()
    var token: UInt64 = 0
    var claim: DirectClaim?
  }

  private let device: any BlockDevice
  private let direct: (any DirectlyAccessible)?
  private var slots: [Slot]
  private var free: [Int]
  private let ring: RequestRing?
  private let pool: RequestPool
  /// Transfers that the kernel does.
  private var ringCount = 0
  private var isWatching = false
  /// The threads were given requests and not told.
  private var mustWake = false
  /// Slots for the threads, since the last commit.
  private var backlog: [Int] = []
  /// Done by `submit` or `commit` themselves.
  private var done: [RequestPool.Answer] = []
  private var handedOut: [RequestPool.Answer] = []

  private static let watchTag = UInt64.max
  /// More zeros than this are for a thread to write.
  private static let ownZeros: UInt64 = 1 << 20

  /// - Parameters:
  ///   - depth: Requests in flight at most.
  ///   - workers: Threads for what the kernel cannot do by itself; made when they are needed.
  ///   - usesRing: False does without io_uring.
  /// - Throws: `PlatformError` when the host gives no descriptor for the workers' answers.
  public init(
    _ device: any BlockDevice, depth: Int = 128, workers: Int = 8, usesRing: Bool = true
  ) throws(PlatformError) {
    let depth = min(max(1, depth), 4096)
    self.device = device
    direct = device as? any DirectlyAccessible
    slots = Array(repeating: Slot(), count: depth)
    free = Array((0..<depth).reversed())
    pool = try RequestPool(device, workers: min(max(1, workers), depth), depth: depth)
    ring = usesRing && direct != nil ? RequestRing.make(depth: depth + 1) : nil
  }

  /// Waits for all that is in flight. What it answers is lost.
  deinit {
    while inFlight > 0 { reap(waits: true) { _, _ in } }
    if let ring {
      // The look-out ends with a signal.
      if isWatching { pool.nudge() }
      while isWatching {
        ring.wait()
        while let completion = ring.next() {
          if completion.tag == Self.watchTag { isWatching = false }
        }
      }
      ring.giveBack()
    }
    pool.stop()
  }

  /// Before the process loses the right to make rings: machines that are reset find some.
  package static func stockRings() { RequestRing.stock() }

  /// Whether io_uring is in use.
  public var hasRing: Bool { ring != nil }
  public var inFlight: Int { slots.count - free.count }
  public var isFull: Bool { free.isEmpty }
  /// Readable when something can be reaped that was not there at the last `reap` without waiting. After `commit`.
  public var descriptor: Int32 { ring?.descriptor ?? pool.descriptor }

  /// Takes a request; `commit` sends it on its way.
  ///
  /// - Parameters:
  ///   - vectors: The memory to fill or store. They and it stay until the request is reaped.
  ///   - count: Of vectors.
  ///   - bytes: Of discard and write-zeroes; for reads and writes the sum of the vectors is taken.
  ///   - token: Comes back with the answer.
  /// - Returns: false when `depth` requests are in flight: reap first.
  public func submit(
    _ operation: DiskOperation, _ vectors: UnsafePointer<iovec>? = nil, count: Int = 0,
    bytes: UInt64 = 0, at offset: UInt64 = 0, token: UInt64
  ) -> Bool {
    guard let index = free.popLast() else { return false }
    slots[index].token = token
    slots[index].request = DiskTask(
      operation: operation, vectors: vectors, count: count, bytes: bytes, offset: offset)
    if !submitDirect(index) { backlog.append(index) }
    return true
  }

  /// Lets the kernel do it, if it is nothing but moving bytes, or does it, if it is not even that.
  private func submitDirect(_ index: Int) -> Bool {
    guard let ring, let direct else { return false }
    let task = slots[index].request
    let isWrite: Bool
    switch task.operation {
    case .read: isWrite = false
    case .write: isWrite = true
    case .flush, .discard, .writeZeroes: return false
    }
    guard let vectors = task.vectors, task.count <= 1024 else { return false }
    var bits: UInt64 = 0
    for number in 0..<task.count {
      bits |= UInt64(UInt(bitPattern: vectors[number].iov_base)) | UInt64(vectors[number].iov_len)
    }
    let length = task.length
    switch direct.beginDirect(isWrite: isWrite, at: task.offset, count: length, alignment: bits) {
    case nil: return false
    case .zeros:
      guard length <= Self.ownZeros else { return false }
      BufferList(vectors: vectors, count: task.count).zero(from: 0, count: length)
      done.append((index, nil))
      return true
    case .transfer(let claim):
      let place = claim.transfer
      guard
        ring.prepare(
          isWrite: isWrite, place.descriptor, vectors, task.count, at: place.offset,
          tag: UInt64(index))
      else {
        claim.end()
        return false
      }
      slots[index].claim = claim
      ringCount += 1
      return true
    }
  }

  /// Starts what was submitted since the last call. Reads that need no file, and a single request that has the disk for
  /// itself, may be done when this returns, because that is quicker than another thread: reap afterwards, before waiting
  /// for `descriptor`.
  public func commit() { start(wakes: true) }

  /// - Parameter wakes: Threads begin at once; otherwise the caller goes on to do requests itself.
  private func start(wakes: Bool) {
    if backlog.count == 1 && inFlight == 1 + done.count {
      var problem: DiskImageError?
      do throws(DiskImageError) {
        try slots[backlog[0]].request.perform(on: device)
      } catch {
        problem = error
      }
      done.append((backlog[0], problem))
    } else if !backlog.isEmpty {
      pool.add(backlog, wakes: false) { slots[$0].request }
      mustWake = true
    }
    backlog.removeAll(keepingCapacity: true)
    if wakes { wake() }
    watch()
    ring?.commit()
  }

  private func wake() {
    guard mustWake else { return }
    mustWake = false
    pool.wake()
  }

  /// Lets `descriptor` tell of the threads' answers too.
  private func watch() {
    guard let ring, !isWatching, pool.isBusy else { return }
    isWatching = ring.prepareWatch(pool.descriptor, tag: Self.watchTag)
  }

  /// Takes the answers that are there. Waiting includes `commit`, and is quickest without it before: the caller then does
  /// requests itself for which a thread would have been woken. What is left of them begins with the next call of either.
  ///
  /// - Parameters:
  ///   - waits: Blocks until there is one, if anything is in flight.
  ///   - body: Gets the token, and the error if it failed. It submits nothing.
  public func reap(waits: Bool, _ body: (UInt64, DiskImageError?) -> Void) {
    var reaped = takeAll(body)
    guard waits else {
      wake()
      // Whoever waits for `descriptor` now must hear of the next answers.
      watch()
      ring?.commit()
      return
    }
    var isHushed = false
    while reaped == 0 && inFlight > 0 {
      start(wakes: false)
      if done.isEmpty {
        // A request of the threads may have to wait for an operation on the whole disk, and that for the kernel's
        // transfers to be reaped: here, so not meanwhile.
        if ringCount == 0 {
          isHushed = true
          if !pool.help() { pool.wait() }
        } else {
          wake()
          pool.listen()
          ring?.wait()
        }
      }
      reaped = takeAll(body)
    }
    if isHushed { pool.listen() }
  }

  private func takeAll(_ body: (UInt64, DiskImageError?) -> Void) -> Int {
    var reaped = 0
    if !done.isEmpty {
      swap(&done, &handedOut)
      for place in handedOut.indices {
        finish(handedOut[place].index, handedOut[place].error, body)
      }
      reaped += handedOut.count
      handedOut.removeAll(keepingCapacity: true)
    }
    while let completion = ring?.next() {
      if completion.tag == Self.watchTag {
        isWatching = false
        continue
      }
      let index = Int(truncatingIfNeeded: completion.tag)
      slots[index].claim?.end()
      slots[index].claim = nil
      ringCount -= 1
      if completion.result >= 0 && UInt64(completion.result) == slots[index].request.length {
        finish(index, nil, body)
        reaped += 1
      } else {
        // Short, refused or failed: the long way does the rest, or says what is wrong.
        pool.add([index], wakes: true) { slots[$0].request }
      }
    }
    pool.takeAnswers { index, error in
      finish(index, error, body)
      reaped += 1
    }
    return reaped
  }

  private func finish(
    _ index: Int, _ error: DiskImageError?, _ body: (UInt64, DiskImageError?) -> Void
  ) {
    free.append(index)
    body(slots[index].token, error)
  }
}
