// How much an adapter may carry: a token bucket for each direction (RFC 2697, 3 with one colour), and frames that wait
// for their turn.

import Devices
import Platform
import Synchronization

/// Bits that may pass in a second, shared by all queues of an adapter.
final class TokenBucket: Sendable {
  /// Nanoseconds of the rate that may pass at once.
  private static let depth: UInt64 = 20_000_000
  private static let second: UInt64 = 1_000_000_000

  private struct Guarded {
    /// Bits a second; 0: as many as there are.
    var rate: UInt64
    var capacity: Int64
    /// Bits; below zero after a frame that was larger than what was left.
    var tokens: Int64
    var time: UInt64

    init(rate: UInt64?, time: UInt64) {
      self.rate = rate.map { max(1, $0) } ?? 0
      let burst = self.rate.multipliedReportingOverflow(by: depth)
      capacity = max(
        12_000, Int64(clamping: burst.overflow ? self.rate / 50 : burst.partialValue / second))
      tokens = capacity
      self.time = time
    }
  }

  private let guarded: Mutex<Guarded>
  /// Looked at for every frame, without the lock.
  private let isLimiting: Atomic<Bool>

  /// - Parameter rate: bits a second; nil: as many as there are.
  init(rate: UInt64?, now: UInt64 = MonotonicClock.now) {
    guarded = Mutex(Guarded(rate: rate, time: now))
    isLimiting = Atomic(rate != nil)
  }

  /// Bits a second; nil: as many as there are.
  var rate: UInt64? {
    guarded.withLock { $0.rate == 0 ? nil : $0.rate }
  }

  /// From any thread. What a larger rate was ahead of the new one is forgotten, so that nothing waits for long.
  func setRate(_ rate: UInt64?, now: UInt64 = MonotonicClock.now) {
    guarded.withLock { state in
      state = Guarded(rate: rate, time: now)
      isLimiting.store(rate != nil, ordering: .relaxed)
    }
  }

  /// Bytes that may wait for their turn: half a second's.
  var queueLimit: Int { Int(clamping: max(65_536, (rate ?? .max) / 16)) }

  /// Takes what a frame needs, if anything at all is left.
  func take(_ bytes: Int) -> Bool {
    guard isLimiting.load(ordering: .relaxed) else { return true }
    let now = MonotonicClock.now
    return guarded.withLock { state in
      Self.refill(&state, now)
      guard state.tokens > 0 || state.rate == 0 else { return false }
      state.tokens -= Int64(bytes) * 8
      return true
    }
  }

  /// When something will be left; now at the earliest.
  func ready(now: UInt64 = MonotonicClock.now) -> UInt64 {
    guarded.withLock { state in
      Self.refill(&state, now)
      guard state.tokens <= 0, state.rate > 0 else { return now }
      let wait = UInt64(1 - state.tokens).multipliedReportingOverflow(by: Self.second)
      return now &+ max(100_000, (wait.overflow ? .max : wait.partialValue) / state.rate)
    }
  }

  private static func refill(_ state: inout Guarded, _ now: UInt64) {
    // At most a second's worth, so that the product stays small enough.
    let elapsed = now > state.time ? min(now - state.time, second) : 0
    let (product, overflow) = elapsed.multipliedReportingOverflow(by: state.rate)
    let new = Int64(
      clamping: overflow ? elapsed / 1000 * (state.rate / 1_000_000) : product / second)
    guard new > 0 else { return }
    state.tokens = min(state.capacity, state.tokens + new)
    state.time = now
  }
}

/// A cable that carries only so much, or all there is: that can change at any time.
///
/// What is too much at once waits, up to 1 MiB each way or what passes in half a second, whichever is less; the rest is
/// lost, as in front of any slow link.
public final class RateLimitedNetwork: NetworkBackend, NetworkReceiver, @unchecked Sendable {
  // @unchecked: the queues belong to the adapter's thread, or whoever holds it still; the rest is guarded.
  public var takes: NetworkOffloads { inner.takes }
  public var gives: NetworkOffloads { inner.gives }
  public var maximumTransmissionUnit: UInt16 { inner.maximumTransmissionUnit }
  public let otherQueues: [any NetworkBackend]
  private let inner: any NetworkBackend
  private let toGuest: TokenBucket
  private let fromGuest: TokenBucket
  private let waitingToGuest: FrameQueue
  private let waitingFromGuest: FrameQueue
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: 65_536 + 128, alignment: 16)
  private let lost = Atomic<UInt64>(0)
  private let current = Mutex(Weak())
  /// Which object the receiver is: that is looked at for every frame, without the lock.
  private let identity = Atomic<UInt>(0)
  /// The adapter whose call goes on, until that ends.
  private unowned(unsafe) var caller: (any NetworkReceiver)?

  private struct Weak: @unchecked Sendable {
    // @unchecked: guarded by the mutex around it.
    weak var receiver: (any NetworkReceiver)?
  }

  /// - Parameter rate: bits a second, each way; nil: as many as there are.
  public convenience init(_ network: any NetworkBackend, rate: UInt64?) {
    self.init(network, TokenBucket(rate: rate), TokenBucket(rate: rate))
  }

  private init(_ inner: any NetworkBackend, _ toGuest: TokenBucket, _ fromGuest: TokenBucket) {
    self.inner = inner
    self.toGuest = toGuest
    self.fromGuest = fromGuest
    waitingToGuest = FrameQueue(limit: toGuest.queueLimit)
    waitingFromGuest = FrameQueue(limit: fromGuest.queueLimit)
    otherQueues = inner.otherQueues.map { RateLimitedNetwork($0, toGuest, fromGuest) }
  }

  deinit { scratch.deallocate() }

  private var receiver: (any NetworkReceiver)? { caller ?? current.withLock { $0.receiver } }

  private func isCurrent(_ sender: any NetworkReceiver) -> Bool {
    identity.load(ordering: .relaxed) == UInt(bitPattern: ObjectIdentifier(sender))
  }

  /// Bits a second, each way; nil: as many as there are.
  public var rate: UInt64? { fromGuest.rate }

  /// Holds for the next frame. From any thread.
  public func setRate(_ rate: UInt64?) {
    toGuest.setRate(rate)
    fromGuest.setRate(rate)
    // Who waits may have to wait shorter now.
    for queue in [self] + otherQueues.compactMap({ $0 as? RateLimitedNetwork }) {
      queue.current.withLock { $0.receiver }?.wake()
    }
  }

  // MARK: As the adapter sees it

  public func connect(_ receiver: any NetworkReceiver) {
    current.withLock { $0.receiver = receiver }
    identity.store(UInt(bitPattern: ObjectIdentifier(receiver)), ordering: .relaxed)
    waitingToGuest.removeAll()
    waitingFromGuest.removeAll()
    inner.connect(self)
  }

  public func setMuted(_ muted: Bool, for sender: any NetworkReceiver) {
    if isCurrent(sender) { inner.setMuted(muted, for: self) }
  }
  public func close() { inner.close() }
  public func setAttached(_ attached: Bool) { inner.setAttached(attached) }
  public func report(to handler: @escaping @Sendable (String) -> Void) {
    inner.report(to: handler)
  }

  public var cable: NetworkCable {
    var cable = inner.cable
    cable.framesLost &+= lost.load(ordering: .relaxed)
    for other in otherQueues {
      if let other = other as? RateLimitedNetwork {
        cable.framesLost &+= other.lost.load(ordering: .relaxed)
      }
    }
    return cable
  }

  public func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from sender: any NetworkReceiver
  ) {
    guard isCurrent(sender) else { return }
    if waitingFromGuest.isEmpty, fromGuest.take(frame.count) {
      caller = sender
      inner.transmit(frame, header, from: self)
      caller = nil
      return
    }
    keep(UnsafeRawBufferPointer(frame), header, in: waitingFromGuest, fromGuest)
  }

  private func keep(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkHeader, in queue: FrameQueue,
    _ bucket: TokenBucket
  ) {
    queue.limit = bucket.queueLimit
    if !queue.append(frame, header) { lost.add(1, ordering: .relaxed) }
  }

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    guard isCurrent(sender) else { return }
    if !waitingFromGuest.isEmpty { set.end(at: fromGuest.ready()) }
    if !waitingToGuest.isEmpty { set.end(at: toGuest.ready()) }
    inner.prepare(set, for: self)
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    guard isCurrent(sender) else { return }
    caller = sender
    inner.serve(set, for: self)
    if !waitingFromGuest.isEmpty { passFromGuest() }
    if !waitingToGuest.isEmpty { passToGuest(sender) }
    caller = nil
  }

  private func passFromGuest() {
    while let (size, header) = waitingFromGuest.copyFirst(into: scratch) {
      guard fromGuest.take(size) else { return }
      waitingFromGuest.removeFirst()
      inner.transmit(
        UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(size)), header, from: self)
    }
  }

  private func passToGuest(_ receiver: any NetworkReceiver) {
    while let (size, header) = waitingToGuest.copyFirst(into: scratch) {
      guard toGuest.take(size) else { return }
      waitingToGuest.removeFirst()
      receiver.deliver(UnsafeRawBufferPointer(rebasing: scratch.prefix(size)), header)
    }
  }

  // MARK: As the network sees it

  public var accepts: NetworkOffloads { receiver?.accepts ?? [] }
  public func wake() { receiver?.wake() }

  public func deliver(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) {
    guard let receiver else { return }
    if waitingToGuest.isEmpty, toGuest.take(frame.count) {
      return receiver.deliver(frame, header)
    }
    keep(frame, header, in: waitingToGuest, toGuest)
  }
}
