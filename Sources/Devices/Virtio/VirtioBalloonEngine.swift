// The work of a memory balloon: gives pages back to the host, and keeps the guest's buffer of figures until it is asked.

import CLinux
import GuestMemory
import Synchronization

/// Used by the device's thread, or while that is held.
final class VirtioBalloonEngine: @unchecked Sendable {
  // @unchecked: see above; `link`, `wantsStatistics` and `poison` are for all threads.
  /// Page numbers of one request at most, whatever it has room for; Linux sends 256.
  static let pageLimit = 16384
  /// Bytes of an entry of figures: tag and value (5.5.6.3).
  private static let entrySize = 10
  private static let entryLimit = 64

  let link = Mutex<VirtioLink?>(nil)
  /// Somebody waits for the guest's figures.
  let wantsStatistics = Atomic<Bool>(false)
  private let poison = Atomic<UInt32>(0)
  private(set) var queues: [VirtioQueue?] = []
  private var features: VirtioFeatures = []
  private let balloon: MemoryBalloon
  private let memory: GuestMemory
  private let chain = VirtioChain()
  /// The guest's buffer of figures, while it is here.
  private let statisticsChain = VirtioChain()
  private var holdsStatistics = false

  init(_ balloon: MemoryBalloon, memory: GuestMemory) {
    self.balloon = balloon
    self.memory = memory
  }

  // MARK: Life, while held

  func activate(_ queues: [VirtioQueue?], features: VirtioFeatures, poison: UInt32) {
    self.queues = queues
    self.features = features
    setPoison(poison)
  }

  func deactivate() {
    queues = []
    features = []
    holdsStatistics = false
    setPoison(0)
  }

  func setPoison(_ value: UInt32) { poison.store(value, ordering: .relaxed) }

  /// As if the buffer of figures had never been taken: it is taken again when the device goes on.
  func putStatisticsBack() {
    guard holdsStatistics else { return }
    holdsStatistics = false
    queue(2)?.putBack([(head: statisticsChain.head, written: 0)])
  }

  // MARK: Queues

  private func queue(_ index: Int) -> VirtioQueue? { index < queues.count ? queues[index] : nil }

  private var hasStatistics: Bool { features.contains(VirtioBalloon.Feature.statistics) }

  /// Queues that reports of free pages may come on, see `VirtioBalloon`.
  private var reportQueues: Range<Int> {
    guard features.contains(VirtioBalloon.Feature.reporting) else { return 0..<0 }
    return (hasStatistics ? 3 : 2)..<5
  }

  /// One chain of every queue that has work.
  func step() -> Bool {
    guard !queues.isEmpty else { return false }
    do throws(VirtioViolation) {
      var didWork = try inflate()
      didWork = try deflate() || didWork
      didWork = try serveStatistics() || didWork
      for index in reportQueues { didWork = try takeReport(index) || didWork }
      return didWork || sleepWouldMiss()
    } catch {
      queues = []
      holdsStatistics = false
      link.withLock { $0 }?.fail(error)
      return false
    }
  }

  private func sleepWouldMiss() -> Bool {
    var missed = false
    for index in 0..<2 { missed = queue(index)?.allowNotifications() ?? false || missed }
    for index in reportQueues { missed = queue(index)?.allowNotifications() ?? false || missed }
    if hasStatistics, let queue = queue(2) {
      if holdsStatistics {
        queue.suppressNotifications()
      } else {
        missed = queue.allowNotifications() || missed
      }
    }
    return missed
  }

  private func finish(_ queue: VirtioQueue) {
    queue.give(chain, written: 0)
    if queue.wantsInterrupt() { link.withLock { $0 }?.signal(queue: queue.index) }
  }

  // MARK: Pages

  private func inflate() throws(VirtioViolation) -> Bool {
    guard let queue = queue(0), try queue.take(into: chain) else { return false }
    queue.suppressNotifications()
    var numbers = takePageNumbers()
    // The host is asked once for each run, in whatever order the guest found its pages.
    numbers.sort()
    var given: UInt64 = 0
    var index = 0
    while index < numbers.count {
      let first = numbers[index]
      var last = first
      index += 1
      while index < numbers.count, numbers[index] == last || numbers[index] == last &+ 1 {
        last = numbers[index]
        index += 1
      }
      given &+= discard(first, last)
    }
    balloon.noteReclaimed(given)
    finish(queue)
    return true
  }

  /// Page numbers of the chain, as many as one request may have, of pages that are RAM.
  private func takePageNumbers() -> [UInt32] {
    let count = Int(min(chain.readableBytes / 4, UInt64(Self.pageLimit)))
    var numbers = [UInt32](repeating: 0, count: count)
    let isThere = numbers.withUnsafeMutableBytes { chain.takeFront($0) }
    guard isThere else { return [] }
    return numbers.map { UInt32(littleEndian: $0) }.filter { place($0, pages: 1) != nil }
  }

  private func place(_ page: UInt32, pages: UInt64) -> UnsafeMutableRawPointer? {
    memory.pointer(
      at: GuestAddress(UInt64(page) &* MemoryBalloon.pageSize),
      count: pages &* MemoryBalloon.pageSize)
  }

  /// Pages that lie one behind the other, all of them RAM, and so of one region.
  private func discard(_ first: UInt32, _ last: UInt32) -> UInt64 {
    let count = UInt64(last &- first) &+ 1
    guard let start = place(first, pages: count) else { return 0 }
    return memory.discard(
      host: start, count: Int(count &* MemoryBalloon.pageSize), content: .unspecified)
  }

  /// Pages that the guest has taken back come with their next use.
  private func deflate() throws(VirtioViolation) -> Bool {
    guard let queue = queue(1), try queue.take(into: chain) else { return false }
    queue.suppressNotifications()
    finish(queue)
    return true
  }

  /// Free pages, which the guest does not use until it has the chain back (5.5.6.7).
  private func takeReport(_ index: Int) throws(VirtioViolation) -> Bool {
    guard let queue = queue(index), try queue.take(into: chain) else { return false }
    queue.suppressNotifications()
    // Pages must keep what they are filled with, and a page that was given back is filled with zeros.
    let keepsContent =
      features.contains(VirtioBalloon.Feature.pagePoison) && poison.load(ordering: .relaxed) != 0
    if !keepsContent {
      var given: UInt64 = 0
      for buffer in chain.writable {
        guard let start = buffer.iov_base else { continue }
        given &+= memory.discard(host: start, count: buffer.iov_len, content: .zeros)
      }
      balloon.noteReported(given)
    }
    finish(queue)
    return true
  }

  // MARK: Figures

  /// The driver has one buffer, which it gets back when the host wants to know more.
  private func serveStatistics() throws(VirtioViolation) -> Bool {
    guard hasStatistics, let queue = queue(2) else { return false }
    if holdsStatistics {
      guard wantsStatistics.exchange(false, ordering: .acquiringAndReleasing) else { return false }
      holdsStatistics = false
      queue.give(statisticsChain, written: 0)
      if queue.wantsInterrupt() { link.withLock { $0 }?.signal(queue: queue.index) }
      return true
    }
    guard try queue.take(into: statisticsChain) else { return false }
    holdsStatistics = true
    readStatistics()
    return true
  }

  private func readStatistics() {
    var entry = [UInt8](repeating: 0, count: Self.entrySize)
    var statistics = MemoryBalloon.Statistics()
    for _ in 0..<Self.entryLimit {
      let isThere = entry.withUnsafeMutableBytes { statisticsChain.takeFront($0) }
      guard isThere else { break }
      let tag = UInt16(entry[0]) | UInt16(entry[1]) << 8
      let value = entry[2...].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      statistics.set(tag: tag, value)
    }
    balloon.note(statistics)
  }
}
