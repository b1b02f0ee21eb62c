// The work of a virtio network adapter: moves frames between a pair of queues and the other end of the cable. The first
// pair's engine takes commands too.

import CLinux
import GuestMemory
import Platform
import Synchronization

/// Used by the adapter's thread, or while that is held; what has a lock or is atomic, by any.
final class VirtioNetworkEngine: NetworkReceiver, DeviceWorkSource, @unchecked Sendable {
  // @unchecked: see above.
  /// A VLAN tag before the largest IP packet, and room for odd drivers.
  static let frameLimit = 65_536 + 64
  /// Destination, source and type.
  static let shortestFrame = 14
  /// Frames of the guest between two looks at the host's side.
  private static let burst = 64
  /// What the thread that rang sends itself: so many frames at most, and the first no larger than this.
  private static let lightCount: UInt16 = 2
  private static let lightSize: UInt64 = 4096

  let link = Mutex<VirtioLink?>(nil)
  let control: VirtioNetworkControl
  let statistics: NetworkStatistics
  let taps: NetworkTaps
  private let backend: any NetworkBackend
  private let isLocked: Bool
  private let isFirst: Bool
  /// Receives, transmits, takes commands.
  private(set) var queues: [VirtioQueue?] = []
  private var headerSize = NetworkHeader.size
  private var mergesBuffers = false
  private var driverOffloads: NetworkOffloads = []
  private let acceptedOffloads = Atomic<UInt8>(0)
  private let chain = VirtioChain()
  /// Of its own: the answer to a frame may come while the frame's chain is still out.
  private let receiveChain = VirtioChain()
  private let pending = FrameQueue()
  private var placed: [(head: UInt16, written: UInt32)] = []
  private var didPlace = false
  private var violation: VirtioViolation?
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: frameLimit, alignment: 16)
  /// Set before the thread runs.
  var notifier: EventNotifier?
  /// Set before the thread runs: uses so many pairs of queues from now on; false when there are not so many.
  var setPairs: ((Int) -> Bool)?
  /// Set before the thread runs: the engines of the other pairs.
  var others: [VirtioNetworkEngine] = []
  /// Set before the thread runs: without several pairs, the second one's doorbell is that of the command queue.
  var idleKick: EventNotifier?

  init(
    backend: any NetworkBackend, control: VirtioNetworkControl, statistics: NetworkStatistics,
    isLocked: Bool, taps: NetworkTaps = NetworkTaps(), isFirst: Bool = true
  ) {
    self.taps = taps
    self.isFirst = isFirst
    self.backend = backend
    self.control = control
    self.statistics = statistics
    self.isLocked = isLocked
    placed.reserveCapacity(64)
  }

  deinit { scratch.deallocate() }

  // MARK: Life, while held

  func activate(_ queues: [VirtioQueue?], features: VirtioFeatures) {
    self.queues = queues
    mergesBuffers = features.contains(VirtioNetwork.Feature.mergeableBuffers)
    headerSize =
      mergesBuffers || features.contains(.version1)
      ? NetworkHeader.size : NetworkHeader.shortSize
    driverOffloads = VirtioNetwork.offloadsOfDriver(features)
    setAccepted(VirtioNetwork.offloadsForDriver(features))
    backend.connect(self)
  }

  func deactivate() {
    queues = []
    pending.removeAll()
    setAccepted([])
    if isFirst { control.reset() }
  }

  func setAccepted(_ offloads: NetworkOffloads) {
    acceptedOffloads.store(offloads.rawValue, ordering: .releasing)
  }

  // MARK: NetworkReceiver

  var accepts: NetworkOffloads {
    NetworkOffloads(rawValue: acceptedOffloads.load(ordering: .acquiring))
  }

  func wake() { notifier?.signal() }

  func deliver(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) {
    guard frame.count >= Self.shortestFrame, frame.count <= Self.frameLimit, !queues.isEmpty,
      control.isUp, !control.hasFailed
    else { return statistics.didDrop() }
    taps.show(frame, fromGuest: false)
    control.neighbors.observe(frame, fromGuest: false)
    guard control.accepts(frame) else { return }
    // Behind those that wait already.
    if !pending.isEmpty || !place(frame, header) {
      if violation != nil || !pending.append(frame, header) { statistics.didDrop() }
    }
  }

  // MARK: DeviceWorkSource

  func prepare(_ set: PollSet) {
    if !queues.isEmpty { backend.prepare(set, for: self) }
  }

  func serve(_ set: PollSet) {
    guard !queues.isEmpty else { return }
    backend.serve(set, for: self)
    finishPlacing()
  }

  func setMuted(_ muted: Bool) { backend.setMuted(muted, for: self) }

  func isLight() -> Bool {
    guard let queue = queue(VirtioNetwork.transmitQueue), !control.hasFailed, !taps.isUsed,
      pending.isEmpty, queue.availableCount <= Self.lightCount,
      !(self.queue(VirtioNetwork.controlQueue)?.hasAvailable ?? false)
    else { return false }
    do throws(VirtioViolation) {
      // Nothing there: a ring for what was taken already.
      guard try queue.take(into: chain) else { return true }
      queue.putBack([(chain.head, 0)])
      return chain.readableBytes <= Self.lightSize
    } catch {
      // The thread will find it as well.
      return false
    }
  }

  // MARK: Steps

  private func queue(_ index: Int) -> VirtioQueue? { index < queues.count ? queues[index] : nil }

  func step() -> Bool {
    guard !queues.isEmpty, !control.hasFailed else {
      idleKick?.signal()
      return false
    }
    var didWork = false
    do throws(VirtioViolation) {
      didWork = try command()
      didWork = drainPending() || didWork
      didWork = try send() || didWork
      if let violation { throw violation }
      if !didWork { didWork = sleepWouldMiss() }
    } catch {
      fail(error)
      return false
    }
    finishPlacing()
    return didWork
  }

  private func fail(_ error: VirtioViolation) {
    violation = nil
    queues = []
    pending.removeAll()
    // The engines of other pairs stop as well.
    control.fail()
    link.withLock { $0 }?.fail(error)
  }

  private func sleepWouldMiss() -> Bool {
    var missed = queue(VirtioNetwork.transmitQueue)?.allowNotifications() ?? false
    if let control = queue(VirtioNetwork.controlQueue) {
      missed = control.allowNotifications() || missed
    }
    if let receive = queue(VirtioNetwork.receiveQueue) {
      // Buffers are of interest only to a frame that waits for one.
      if pending.isEmpty {
        receive.suppressNotifications()
      } else {
        missed = receive.allowNotifications() || missed
      }
    }
    return missed
  }

  // MARK: From the guest

  private func send() throws(VirtioViolation) -> Bool {
    guard let queue = queue(VirtioNetwork.transmitQueue) else { return false }
    var count = 0
    while count < Self.burst, try queue.take(into: chain) {
      if count == 0 { queue.suppressNotifications() }
      count &+= 1
      sendChain()
      queue.give(chain, written: 0)
    }
    if count > 0 && queue.wantsInterrupt() {
      link.withLock { $0 }?.signal(queue: queue.index)
    }
    return count > 0
  }

  private func sendChain() {
    var bytes: (UInt64, UInt64) = (0, 0)
    let header: NetworkHeader? = withUnsafeMutableBytes(of: &bytes) { bytes in
      let target = UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(headerSize))
      return chain.takeFront(target) ? NetworkHeader(UnsafeRawBufferPointer(target)) : nil
    }
    let count = Int(clamping: chain.readableBytes)
    guard let header, count >= Self.shortestFrame, count <= scratch.count else {
      return statistics.didRefuse()
    }
    let frame = UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(count))
    // Copied once: what is checked is what is sent.
    guard chain.takeFront(frame), header.fits(count, driverOffloads), control.isUp,
      !isLocked || hasOwnSource(frame)
    else { return statistics.didRefuse() }
    statistics.didSend(count)
    taps.show(UnsafeRawBufferPointer(frame), fromGuest: true)
    control.neighbors.observe(UnsafeRawBufferPointer(frame), fromGuest: true)
    backend.transmit(frame, header, from: self)
  }

  private func hasOwnSource(_ frame: UnsafeMutableRawBufferPointer) -> Bool {
    guard let base = frame.baseAddress else { return false }
    return HardwareAddress((base + 6).assumingMemoryBound(to: UInt8.self)) == control.assigned
  }

  // MARK: To the guest

  private func drainPending() -> Bool {
    var moved = false
    while !pending.isEmpty, violation == nil {
      guard let (size, header) = pending.copyFirst(into: scratch) else {
        pending.removeAll()
        break
      }
      let frame = UnsafeRawBufferPointer(rebasing: scratch.prefix(size))
      guard place(frame, header) else { break }
      pending.removeFirst()
      moved = true
    }
    return moved
  }

  /// Puts a frame into the guest's buffers; false when there are not enough yet. A violation is left in `violation`.
  private func place(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) -> Bool {
    guard violation == nil, let queue = queue(VirtioNetwork.receiveQueue) else { return false }
    do throws(VirtioViolation) {
      return try place(frame, header, in: queue)
    } catch {
      violation = error
      return false
    }
  }

  private func place(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkHeader, in queue: VirtioQueue
  ) throws(VirtioViolation) -> Bool {
    placed.removeAll(keepingCapacity: true)
    var countPlace: UnsafeMutableRawPointer?
    var done = 0
    repeat {
      guard try queue.take(into: receiveChain) else {
        queue.putBack(placed)
        return false
      }
      var written = 0
      if placed.isEmpty {
        guard receiveChain.writableBytes >= UInt64(headerSize) else { throw .request }
        // The count of buffers stands in the first two bytes after the short header, in one piece or not at all.
        countPlace =
          mergesBuffers ? receiveChain.writablePlace(at: NetworkHeader.shortSize, 2) : nil
        written = putHeader(header)
      }
      let room = receiveChain.putFront(UnsafeRawBufferPointer(rebasing: frame[done...]))
      done += room
      written += room
      queue.markWritten(receiveChain)
      placed.append((receiveChain.head, UInt32(truncatingIfNeeded: written)))
      if done < frame.count {
        guard mergesBuffers, written > 0, placed.count < Int(queue.size) else {
          // A buffer that is too small for the frame: it stays for a smaller one.
          queue.putBack(placed)
          statistics.didDrop()
          return true
        }
      }
    } while done < frame.count
    if placed.count > 1 {
      guard let countPlace else {
        queue.putBack(placed)
        statistics.didDrop()
        return true
      }
      countPlace.storeBytes(of: UInt16(placed.count).littleEndian, as: UInt16.self)
    }
    queue.give(placed)
    statistics.didReceive(frame.count)
    didPlace = true
    return true
  }

  private func putHeader(_ header: NetworkHeader) -> Int {
    var bytes: (UInt64, UInt64) = (0, 0)
    return withUnsafeMutableBytes(of: &bytes) { bytes in
      header.store(in: bytes, bufferCount: 1)
      return receiveChain.putFront(UnsafeRawBufferPointer(rebasing: bytes.prefix(headerSize)))
    }
  }

  /// One interrupt for all frames of a round.
  private func finishPlacing() {
    if let violation { return fail(violation) }
    guard didPlace else { return }
    didPlace = false
    if let queue = queue(VirtioNetwork.receiveQueue), queue.wantsInterrupt() {
      link.withLock { $0 }?.signal(queue: queue.index)
    }
  }

  // MARK: Commands

  private func command() throws(VirtioViolation) -> Bool {
    guard let queue = queue(VirtioNetwork.controlQueue), try queue.take(into: chain) else {
      return false
    }
    let wasOK = control.execute(
      chain,
      setOffloads: { [self] offloads in
        for engine in [self] + others { engine.setAccepted(offloads) }
      }, setPairs: { [self] in setPairs?($0) ?? false })
    var status: UInt8 = wasOK ? 0 : 1
    let written = withUnsafeBytes(of: &status) { chain.putFront($0) }
    queue.give(chain, written: UInt32(written))
    if queue.wantsInterrupt() { link.withLock { $0 }?.signal(queue: queue.index) }
    return true
  }
}
