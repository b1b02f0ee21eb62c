// A Solo5 unikernel's network device: frames go and come by hypercalls, one at a time (Solo5's hvt_abi.h).

import GuestMemory
import Platform
import Synchronization

/// Frames between a unikernel's hypercalls and a cable.
public final class UnikernelNetwork: NetworkAdapter {
  private let engine: UnikernelNetworkEngine
  private let worker: DeviceWorker
  public let address: HardwareAddress
  /// Largest packet, bytes.
  public let transmissionUnit: UInt16

  /// - Parameters: as other adapters'.
  /// - Throws: `PlatformError` when the process has no descriptors or threads left.
  public init(
    backend: any NetworkBackend, address: HardwareAddress, isUp: Bool = true,
    isLocked: Bool = false, statistics: NetworkStatistics = NetworkStatistics(),
    neighbors: GuestNeighbors = GuestNeighbors()
  ) throws(PlatformError) {
    let engine = UnikernelNetworkEngine(
      backend, isUp: isUp, locked: isLocked ? address : nil, statistics, neighbors)
    self.engine = engine
    self.address = address
    transmissionUnit = backend.maximumTransmissionUnit
    worker = try DeviceWorker(name: "unikernel net", source: engine) { engine.step() }
    engine.notifier.withLock { $0 = worker.notifier }
    backend.connect(engine)
    try worker.start()
  }

  deinit { worker.stop() }

  public var isUp: Bool { engine.isUp.load(ordering: .relaxed) }
  public func setUp(_ up: Bool) { engine.isUp.store(up, ordering: .relaxed) }
  /// A unikernel has no word for it.
  public func announce() {}
  public func add(_ tap: any NetworkTap) { engine.taps.add(tap) }
  public func remove(_ tap: any NetworkTap) { engine.taps.remove(tap) }

  public func pause() { worker.pause() }
  public func resume() { worker.resume() }
  public func stop() {
    worker.hold()
    engine.clear()
    worker.release()
  }

  // MARK: The hypercalls

  /// Called when there is a frame for the guest.
  func setArrival(_ handler: @escaping @Sendable () -> Void) {
    engine.arrival.withLock { $0 = handler }
  }

  var hasFrame: Bool { engine.change { !$0.incoming.isEmpty } }

  /// Sends a frame; lost where there is no room for it.
  func write(_ frame: UnsafeRawBufferPointer) {
    engine.change { state in
      if !state.outgoing.append(frame, NetworkHeader()) { engine.statistics.didRefuse() }
    }
    if !worker.serveAtOnce() { worker.notifier.signal() }
  }

  /// The size of the next frame, copied to `target`; nil when there is none. What does not fit is cut off.
  func read(into target: UnsafeMutableRawBufferPointer) -> Int? {
    engine.change { state in
      guard let (size, _) = state.incoming.copyFirst(into: engine.scratch) else { return nil }
      state.incoming.removeFirst()
      let count = min(size, target.count)
      target.copyMemory(
        from: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(engine.scratch).prefix(count))
      )
      engine.statistics.didReceive(count)
      return count
    }
  }
}

/// The queues belong to whoever holds `guarded`, and so does `scratch`; `frame` to the thread that steps.
final class UnikernelNetworkEngine: NetworkReceiver, DeviceWorkSource, @unchecked Sendable {
  // @unchecked: see above.
  static let frameLimit = VirtioNetworkEngine.frameLimit
  private static let shortestFrame = 14
  private static let burst = 64

  struct Guarded {
    let incoming = FrameQueue()
    let outgoing = FrameQueue()
  }

  private let guarded = Monitor(Guarded())
  let isUp: Atomic<Bool>
  let notifier = Mutex<EventNotifier?>(nil)
  let arrival = Mutex<(@Sendable () -> Void)?>(nil)
  let statistics: NetworkStatistics
  let taps = NetworkTaps()
  let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: frameLimit, alignment: 16)
  private let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: frameLimit, alignment: 16)
  private let neighbors: GuestNeighbors
  private let backend: any NetworkBackend
  /// The only source that the guest's frames may have.
  private let locked: HardwareAddress?

  init(
    _ backend: any NetworkBackend, isUp: Bool, locked: HardwareAddress?,
    _ statistics: NetworkStatistics, _ neighbors: GuestNeighbors
  ) {
    self.backend = backend
    self.isUp = Atomic(isUp)
    self.locked = locked
    self.statistics = statistics
    self.neighbors = neighbors
  }

  deinit {
    scratch.deallocate()
    frame.deallocate()
  }

  func change<Result>(_ body: (inout Guarded) -> Result) -> Result {
    guarded.update(body)
  }

  func clear() {
    change { state in
      state.incoming.removeAll()
      state.outgoing.removeAll()
    }
  }

  // MARK: NetworkReceiver

  /// A unikernel knows nothing of unfinished checksums: they are finished here.
  var accepts: NetworkOffloads { .checksum }

  func wake() { notifier.withLock { $0 }?.signal() }

  func deliver(_ bytes: UnsafeRawBufferPointer, _ header: NetworkHeader) {
    guard bytes.count >= Self.shortestFrame, bytes.count <= Self.frameLimit,
      header.segmentation == .none, isUp.load(ordering: .relaxed)
    else { return statistics.didDrop() }
    let isTaken = change { state in
      scratch.copyMemory(from: bytes)
      let copy = UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(bytes.count))
      if header.needsChecksum {
        InternetChecksum.complete(
          copy, start: header.checksumStart, offset: header.checksumOffset)
      }
      taps.show(UnsafeRawBufferPointer(copy), fromGuest: false)
      neighbors.observe(UnsafeRawBufferPointer(copy), fromGuest: false)
      return state.incoming.append(UnsafeRawBufferPointer(copy), NetworkHeader())
    }
    guard isTaken else { return statistics.didDrop() }
    arrival.withLock { $0 }?()
  }

  // MARK: DeviceWorkSource

  func prepare(_ set: PollSet) { backend.prepare(set, for: self) }
  func serve(_ set: PollSet) { backend.serve(set, for: self) }
  func setMuted(_ muted: Bool) { backend.setMuted(muted, for: self) }
  func isLight() -> Bool { !taps.isUsed }

  func step() -> Bool {
    for _ in 0..<Self.burst {
      let size = change { state -> Int? in
        guard let (size, _) = state.outgoing.copyFirst(into: frame) else { return nil }
        state.outgoing.removeFirst()
        return size
      }
      guard let size else { return false }
      transmit(UnsafeMutableRawBufferPointer(rebasing: frame.prefix(size)))
    }
    return true
  }

  private func transmit(_ bytes: UnsafeMutableRawBufferPointer) {
    guard bytes.count >= Self.shortestFrame, isUp.load(ordering: .relaxed), mayPass(bytes) else {
      return statistics.didRefuse()
    }
    statistics.didSend(bytes.count)
    taps.show(UnsafeRawBufferPointer(bytes), fromGuest: true)
    neighbors.observe(UnsafeRawBufferPointer(bytes), fromGuest: true)
    backend.transmit(bytes, NetworkHeader(), from: self)
  }

  private func mayPass(_ frame: UnsafeMutableRawBufferPointer) -> Bool {
    guard let locked else { return true }
    guard let base = frame.baseAddress else { return false }
    return HardwareAddress((base + 6).assumingMemoryBound(to: UInt8.self)) == locked
  }
}
