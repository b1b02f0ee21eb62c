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
    /// Bits; below zero after a frame that was larger than what was left.
    var tokens: Int64
    var time: UInt64
  }

  /// Bits a second.
  let rate: UInt64
  private let capacity: Int64
  private let guarded: Mutex<Guarded>

  init(rate: UInt64, now: UInt64 = MonotonicClock.now) {
    self.rate = max(1, rate)
    let burst = self.rate.multipliedReportingOverflow(by: Self.depth)
    capacity = max(
      12_000, Int64(clamping: burst.overflow ? self.rate / 50 : burst.partialValue / Self.second))
    guarded = Mutex(Guarded(tokens: capacity, time: now))
  }

  /// Takes what a frame needs, if anything at all is left.
  func take(_ bytes: Int, now: UInt64 = MonotonicClock.now) -> Bool {
    guarded.withLock { state in
      refill(&state, now)
      guard state.tokens > 0 else { return false }
      state.tokens -= Int64(bytes) * 8
      return true
    }
  }

  /// When something will be left; now at the earliest.
  func ready(now: UInt64 = MonotonicClock.now) -> UInt64 {
    guarded.withLock { state in
      refill(&state, now)
      guard state.tokens <= 0 else { return now }
      return now + max(100_000, UInt64(1 - state.tokens) &* Self.second / rate)
    }
  }

  private func refill(_ state: inout Guarded, _ now: UInt64) {
    // At most a second's worth, so that the product stays small enough.
    let elapsed = now > state.time ? min(now - state.time, Self.second) : 0
    let (product, overflow) = elapsed.multipliedReportingOverflow(by: rate)
    let new = Int64(
      clamping: overflow ? elapsed / 1000 * (rate / 1_000_000) : product / Self.second)
    guard new > 0 else { return }
    state.tokens = min(capacity, state.tokens + new)
    state.time = now
  }
}

/// A cable that carries only so much.
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

  private struct Weak: @unchecked Sendable {
    // @unchecked: guarded by the mutex around it.
    weak var receiver: (any NetworkReceiver)?
  }

  /// - Parameter rate: bits a second, each way.
  public convenience init(_ network: any NetworkBackend, rate: UInt64) {
    self.init(network, TokenBucket(rate: rate), TokenBucket(rate: rate))
  }

  private init(_ inner: any NetworkBackend, _ toGuest: TokenBucket, _ fromGuest: TokenBucket) {
    self.inner = inner
    self.toGuest = toGuest
    self.fromGuest = fromGuest
    let limit = Int(clamping: max(65_536, fromGuest.rate / 16))
    waitingToGuest = FrameQueue(limit: limit)
    waitingFromGuest = FrameQueue(limit: limit)
    otherQueues = inner.otherQueues.map { RateLimitedNetwork($0, toGuest, fromGuest) }
  }

  deinit { scratch.deallocate() }

  private var receiver: (any NetworkReceiver)? { current.withLock { $0.receiver } }

  // MARK: As the adapter sees it

  public func connect(_ receiver: any NetworkReceiver) {
    current.withLock { $0.receiver = receiver }
    waitingToGuest.removeAll()
    waitingFromGuest.removeAll()
    inner.connect(self)
  }

  public func setMuted(_ muted: Bool, for sender: any NetworkReceiver) {
    if receiver === sender { inner.setMuted(muted, for: self) }
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
    guard receiver === sender else { return }
    if waitingFromGuest.isEmpty, fromGuest.take(frame.count) {
      return inner.transmit(frame, header, from: self)
    }
    keep(UnsafeRawBufferPointer(frame), header, in: waitingFromGuest)
  }

  private func keep(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkHeader, in queue: FrameQueue
  ) {
    if !queue.append(frame, header) { lost.add(1, ordering: .relaxed) }
  }

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    guard receiver === sender else { return }
    if !waitingFromGuest.isEmpty { set.end(at: fromGuest.ready()) }
    if !waitingToGuest.isEmpty { set.end(at: toGuest.ready()) }
    inner.prepare(set, for: self)
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    guard receiver === sender else { return }
    inner.serve(set, for: self)
    passFromGuest()
    passToGuest(sender)
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
    keep(frame, header, in: waitingToGuest)
  }
}
