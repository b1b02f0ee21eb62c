// The virtio network adapter (Virtual I/O Device 1.2, 5.1): identity, configuration and life.
//
// Queues: 0 receives, 1 transmits, and so on for each pair; the last takes commands. To a driver that knows of no pairs,
// the command queue is the third. One thread serves a pair and its part of the other end of the cable.

import GuestMemory
import Platform
import Synchronization

/// A network adapter.
public final class VirtioNetwork: VirtioDevice, NetworkAdapter {
  public struct Options: Sendable {
    public var address: HardwareAddress
    /// Frames with another source than `address` are refused (vmd's `locked lladdr`).
    public var isLocked: Bool
    /// The cable is in.
    public var isUp: Bool

    public init(address: HardwareAddress, isLocked: Bool = false, isUp: Bool = true) {
      self.address = address
      self.isLocked = isLocked
      self.isUp = isUp
    }
  }

  enum Feature {
    static let checksum = VirtioFeatures(bit: 0)
    static let guestChecksum = VirtioFeatures(bit: 1)
    static let controlGuestOffloads = VirtioFeatures(bit: 2)
    static let transmissionUnit = VirtioFeatures(bit: 3)
    static let address = VirtioFeatures(bit: 5)
    static let guestSegmentation4 = VirtioFeatures(bit: 7)
    static let guestSegmentation6 = VirtioFeatures(bit: 8)
    static let segmentation4 = VirtioFeatures(bit: 11)
    static let segmentation6 = VirtioFeatures(bit: 12)
    static let mergeableBuffers = VirtioFeatures(bit: 15)
    static let status = VirtioFeatures(bit: 16)
    static let controlQueue = VirtioFeatures(bit: 17)
    static let receiveModes = VirtioFeatures(bit: 18)
    static let networkFilter = VirtioFeatures(bit: 19)
    static let extraReceiveModes = VirtioFeatures(bit: 20)
    static let announce = VirtioFeatures(bit: 21)
    static let pairs = VirtioFeatures(bit: 22)
    static let setAddress = VirtioFeatures(bit: 23)
  }

  static let receiveQueue = 0
  static let transmitQueue = 1
  static let controlQueue = 2

  public let type = VirtioDeviceType.network
  public let queueSizes: [UInt16]
  public let statistics: NetworkStatistics
  private let backend: any NetworkBackend
  private let control: VirtioNetworkControl
  private let engine: VirtioNetworkEngine
  /// Of all pairs, the first one's before the others.
  private let engines: [VirtioNetworkEngine]
  private let workers: [DeviceWorker]
  private let pairs = PairUse()

  /// What the driver has said of pairs of queues.
  private final class PairUse: Sendable {
    let state = Mutex((isKnown: false, count: 1))
  }

  /// - Parameters:
  ///   - statistics: what counts; one that an earlier board's adapter had goes on.
  ///   - neighbors: what notes the guest's addresses; likewise.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(
    backend: any NetworkBackend, options: Options,
    statistics: NetworkStatistics = NetworkStatistics(),
    neighbors: GuestNeighbors = GuestNeighbors()
  ) throws(PlatformError) {
    self.backend = backend
    self.statistics = statistics
    let control = VirtioNetworkControl(address: options.address, neighbors: neighbors)
    _ = control.setUp(options.isUp)
    self.control = control
    let taps = NetworkTaps()
    let networks = [backend] + backend.otherQueues
    queueSizes = networks.flatMap { _ in [UInt16(256), 256] } + [64]
    engines = networks.enumerated().map { index, network in
      VirtioNetworkEngine(
        backend: network, control: control, statistics: statistics, isLocked: options.isLocked,
        taps: taps, isFirst: index == 0)
    }
    engine = engines[0]
    var workers: [DeviceWorker] = []
    for (index, engine) in engines.enumerated() {
      let worker = try DeviceWorker(
        name: index == 0 ? "virtio-net" : "virtio-net-\(index)", source: engine
      ) { engine.step() }
      engine.notifier = worker.notifier
      workers.append(worker)
    }
    self.workers = workers
    if engines.count > 1 {
      // The second pair's worker stands for its doorbells, which are the command queue's without pairs.
      engines[1].idleKick = workers[0].notifier
      engine.setPairs = { [pairs, networks, workers] count in
        Self.use(count, networks, workers, pairs)
      }
    }
    engine.others = Array(engines.dropFirst())
  }

  /// Gives frames to `count` pairs. The threads of the others are at rest when it returns.
  private static func use(
    _ count: Int, _ networks: [any NetworkBackend], _ workers: [DeviceWorker],
    _ pairs: PairUse
  ) -> Bool {
    let isAllowed = pairs.state.withLock { state in
      guard state.isKnown, (1...networks.count).contains(count) else { return false }
      state.count = count
      return true
    }
    guard isAllowed else { return false }
    for index in 1..<networks.count {
      workers[index].hold()
      networks[index].setAttached(index < count)
      workers[index].release()
    }
    return true
  }

  deinit { for worker in workers { worker.stop() } }

  /// Addresses that the guest has been seen to use.
  public var neighbors: GuestNeighbors { control.neighbors }
  public var address: HardwareAddress { control.assigned }

  /// Whether the cable is in.
  public var isUp: Bool { control.isUp }

  /// Puts the cable in or pulls it out.
  public func setUp(_ up: Bool) {
    guard control.setUp(up) else { return }
    engine.link.withLock { $0 }?.configurationDidChange()
  }

  /// Asks the driver to tell its neighbours where it is: after a move.
  public func announce() {
    control.announce()
    engine.link.withLock { $0 }?.configurationDidChange()
  }

  public func add(_ tap: any NetworkTap) { engine.taps.add(tap) }
  public func remove(_ tap: any NetworkTap) { engine.taps.remove(tap) }

  // MARK: Features

  /// What a driver with `features` may leave to us.
  static func offloadsOfDriver(_ features: VirtioFeatures) -> NetworkOffloads {
    var result: NetworkOffloads = []
    if features.contains(Feature.checksum) { result.insert(.checksum) }
    if features.contains(Feature.segmentation4) { result.insert(.segmentation4) }
    if features.contains(Feature.segmentation6) { result.insert(.segmentation6) }
    return result
  }

  /// What we may leave to a driver with `features`.
  static func offloadsForDriver(_ features: VirtioFeatures) -> NetworkOffloads {
    guard features.contains(Feature.guestChecksum) else { return [] }
    var result: NetworkOffloads = [.checksum]
    if features.contains(Feature.guestSegmentation4) { result.insert(.segmentation4) }
    if features.contains(Feature.guestSegmentation6) { result.insert(.segmentation6) }
    return result
  }

  public var features: VirtioFeatures {
    var features: VirtioFeatures = [
      Feature.address, Feature.status, Feature.mergeableBuffers, Feature.controlQueue,
      Feature.receiveModes, Feature.networkFilter, Feature.extraReceiveModes, Feature.announce,
      Feature.setAddress,
    ]
    if engines.count > 1 { features.insert(Feature.pairs) }
    if backend.maximumTransmissionUnit != 1500 { features.insert(Feature.transmissionUnit) }
    if backend.takes.contains(.checksum) {
      features.insert(Feature.checksum)
      if backend.takes.contains(.segmentation4) { features.insert(Feature.segmentation4) }
      if backend.takes.contains(.segmentation6) { features.insert(Feature.segmentation6) }
    }
    if backend.gives.contains(.checksum) {
      features.formUnion([Feature.guestChecksum, Feature.controlGuestOffloads])
      if backend.gives.contains(.segmentation4) { features.insert(Feature.guestSegmentation4) }
      if backend.gives.contains(.segmentation6) { features.insert(Feature.guestSegmentation6) }
    }
    return features
  }

  // MARK: VirtioDevice

  public func attach(_ link: VirtioLink) {
    for engine in engines { engine.link.withLock { $0 = link } }
  }

  public func doorbell(forQueue index: Int) -> EventNotifier {
    let pair = index / 2
    return workers[pair < workers.count ? pair : 0].notifier
  }

  /// Frames of the guest: a single small one, as a request or its answer is, needs no other thread.
  public func serveAtOnce(queue index: Int) -> Bool {
    let pair = index / 2
    return index % 2 == Self.transmitQueue && pair < workers.count && workers[pair].serveAtOnce()
  }

  /// Where the command queue is for a driver with these features (5.1.2).
  private func controlIndex(hasPairs: Bool) -> Int { hasPairs ? queueSizes.count - 1 : 2 }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    let hasPairs = features.contains(Feature.pairs)
    let control = controlIndex(hasPairs: hasPairs)
    pairs.state.withLock { $0 = (hasPairs, 1) }
    for worker in workers { worker.hold() }
    for (pair, engine) in engines.enumerated() where pair == 0 || hasPairs {
      let isFirst = pair == 0
      engine.activate(
        [
          queues.indices.contains(2 * pair) ? queues[2 * pair] : nil,
          queues.indices.contains(2 * pair + 1) ? queues[2 * pair + 1] : nil,
          isFirst && queues.indices.contains(control) ? queues[control] : nil,
        ], features: features)
    }
    if features.contains(Feature.networkFilter) { self.control.startFilteringNetworks() }
    for worker in workers { worker.release() }
    do {
      for worker in workers { try worker.start() }
    } catch {
      engine.link.withLock { $0 }?.fail(.request)
    }
  }

  public func deactivate() {
    for worker in workers { worker.hold() }
    for engine in engines { engine.deactivate() }
    for network in backend.otherQueues { network.setAttached(false) }
    pairs.state.withLock { $0 = (false, 1) }
    for worker in workers { worker.release() }
  }

  public func pause() { for worker in workers { worker.pause() } }
  public func resume() { for worker in workers { worker.resume() } }

  public var queuePositions: [VirtioQueuePosition?] {
    var positions = [VirtioQueuePosition?](repeating: nil, count: queueSizes.count)
    for engine in engines {
      for queue in engine.queues {
        if let queue, positions.indices.contains(queue.index) {
          positions[queue.index] = queue.position
        }
      }
    }
    return positions
  }

  /// struct virtio_net_config (5.1.4).
  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    var bytes = control.address.bytes
    bytes.append(littleEndian: control.status)
    bytes.append(littleEndian: UInt16(engines.count))
    bytes.append(littleEndian: backend.maximumTransmissionUnit)
    return virtioConfiguration(bytes, at: offset, width: width)
  }

  /// Legacy drivers set the address here, byte by byte.
  public func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64) {
    var bytes = control.address.bytes
    for index in 0..<UInt64(width.rawValue) where offset < 6 && offset + index < 6 {
      bytes[Int(offset + index)] = UInt8(truncatingIfNeeded: value >> (8 * index))
    }
    guard offset < 6 else { return }
    control.address = HardwareAddress(bytes.reduce(0) { $0 << 8 | UInt64($1) })
  }
}

extension VirtioNetwork: Snapshottable {
  public struct State: Codable, Sendable {
    var control: VirtioNetworkControl.State
    /// Pairs of queues that the driver uses; nil: one.
    var pairs: Int?
  }

  public static let stateVersion = 1

  public func saveState() -> State {
    State(control: control.save(engine.accepts), pairs: pairs.state.withLock { $0.count })
  }

  public func check(_ state: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      (1...max(engines.count, 1)).contains(state.pairs ?? 1),
      "it uses \(state.pairs ?? 1) pairs of queues of \(engines.count)")
    let networks = state.control.filter.networks
    try DeviceStateError.require(networks?.count ?? 64 == 64, "its filter of networks is not one")
  }

  /// After the transport's state, while paused. Frames that waited are lost, as on any wire.
  public func restoreState(_ state: State) {
    control.restore(state.control)
    for engine in engines { engine.setAccepted(state.control.offloads) }
    if let pairs = state.pairs, pairs > 1 { _ = engine.setPairs?(pairs) }
  }
}
