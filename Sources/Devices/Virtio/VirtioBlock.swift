// The virtio block device (Virtual I/O Device 1.2, 5.2): identity, configuration and life. Requests are in
// VirtioBlockRequest.swift.

import GuestMemory
import Platform
import Synchronization

/// A disk. Each queue has a thread, so that a slow disk holds up neither processors nor other devices.
public final class VirtioBlock: VirtioDevice {
  public struct Options: Sendable {
    /// What the guest reads as the disk's identity; the first 20 bytes of its UTF-8.
    public var serial: String
    public var queueCount: Int
    /// A power of two; 256 is what firmware is used to.
    public var queueSize: UInt16
    /// Bytes of a logical block: 512, or 4096 for guests that do not boot from it by SeaBIOS.
    public var blockSize: UInt32

    public init(
      serial: String = "", queueCount: Int = 1, queueSize: UInt16 = 256, blockSize: UInt32 = 512
    ) {
      self.serial = serial
      self.queueCount = queueCount
      self.queueSize = queueSize
      self.blockSize = blockSize
    }
  }

  enum Feature {
    static let segmentLimit = VirtioFeatures(bit: 2)
    static let geometry = VirtioFeatures(bit: 4)
    static let readOnly = VirtioFeatures(bit: 5)
    static let blockSize = VirtioFeatures(bit: 6)
    static let flush = VirtioFeatures(bit: 9)
    static let topology = VirtioFeatures(bit: 10)
    static let writeCacheControl = VirtioFeatures(bit: 11)
    static let multipleQueues = VirtioFeatures(bit: 12)
    static let discard = VirtioFeatures(bit: 13)
    static let writeZeroes = VirtioFeatures(bit: 14)
  }

  static let sectorSize: UInt64 = 512
  private static let writeCacheOffset: UInt64 = 32
  /// Most ranges in one discard or write-zeroes request.
  static let rangeLimit = 32
  /// Most sectors in one such range: 1 GiB.
  static let rangeSectorLimit: UInt32 = 1 << 21

  public let type = VirtioDeviceType.block
  public let queueSizes: [UInt16]
  public let statistics = BlockStatistics()
  let backend: any BlockBackend
  let serial: [UInt8]
  let onError: @Sendable (BlockBackendError) -> Void
  private let options: Options
  private let workers: [VirtioBlockQueue]
  private let link = Mutex<VirtioLink?>(nil)
  /// Writes may stay in a cache until the next flush.
  private let writesBack = Atomic<Bool>(true)
  private let driverFlushes = Atomic<Bool>(false)

  /// - Parameter onError: told of every error of the backend, on the thread of a queue.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(
    backend: any BlockBackend, options: Options = Options(),
    onError: @escaping @Sendable (BlockBackendError) -> Void = { _ in }
  ) throws(PlatformError) {
    self.backend = backend
    self.options = options
    self.onError = onError
    let count = min(max(options.queueCount, 1), 64)
    queueSizes = Array(repeating: options.queueSize, count: count)
    var serial = Array(options.serial.utf8.prefix(20))
    serial.append(contentsOf: [UInt8](repeating: 0, count: 20 - serial.count))
    self.serial = serial
    var workers: [VirtioBlockQueue] = []
    for index in 0..<count { workers.append(try VirtioBlockQueue(name: "virtio-blk-\(index)")) }
    self.workers = workers
  }

  deinit {
    for worker in workers { worker.stop() }
  }

  /// A completed write must be on the disk: the driver never flushes, or has switched the cache off.
  var writesThrough: Bool {
    !writesBack.load(ordering: .relaxed) || !driverFlushes.load(ordering: .relaxed)
  }

  /// The backend has another size now.
  public func sizeDidChange() { link.withLock { $0 }?.configurationDidChange() }

  // MARK: VirtioDevice

  public var features: VirtioFeatures {
    var features: VirtioFeatures = [
      Feature.segmentLimit, Feature.geometry, Feature.blockSize, Feature.flush, Feature.topology,
      Feature.writeCacheControl,
    ]
    if backend.isReadOnly {
      features.insert(Feature.readOnly)
    } else {
      features.formUnion([Feature.discard, Feature.writeZeroes])
    }
    if workers.count > 1 { features.insert(Feature.multipleQueues) }
    return features
  }

  public func attach(_ link: VirtioLink) {
    self.link.withLock { $0 = link }
    for worker in workers { worker.attach(self, link: link) }
  }

  public func doorbell(forQueue index: Int) -> EventNotifier { workers[index].notifier }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    driverFlushes.store(features.contains(Feature.flush), ordering: .relaxed)
    for (worker, queue) in zip(workers, queues) { worker.activate(queue) }
  }

  public func deactivate() {
    for worker in workers { worker.deactivate() }
    writesBack.store(true, ordering: .relaxed)
  }

  public func pause() { for worker in workers { worker.pause() } }

  public func resume() { for worker in workers { worker.resume() } }

  public var queuePositions: [VirtioQueuePosition?] { workers.map { $0.position } }

  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    virtioConfiguration(configuration, at: offset, width: width)
  }

  public func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard offset == Self.writeCacheOffset else { return }
    writesBack.store(value & 1 != 0, ordering: .relaxed)
  }

  /// struct virtio_blk_config (5.2.4).
  private var configuration: [UInt8] {
    let sectors = backend.size / Self.sectorSize
    var bytes: [UInt8] = []
    bytes.reserveCapacity(60)
    bytes.append(littleEndian: sectors)
    bytes.append(littleEndian: UInt32(0))
    // Header and status take a descriptor each.
    bytes.append(littleEndian: UInt32(max(options.queueSize, 3) - 2))
    bytes.append(littleEndian: UInt16(min(sectors / (16 * 63), 65_535)))
    bytes.append(contentsOf: [16, 63])
    bytes.append(littleEndian: options.blockSize)
    // Physical blocks of 4 KiB, aligned at the start; best transfers of 64 KiB.
    let exponent =
      options.blockSize >= 4096 ? 0 : (4096 / max(options.blockSize, 512)).trailingZeroBitCount
    bytes.append(contentsOf: [UInt8(exponent), 0])
    bytes.append(littleEndian: UInt16(1))
    bytes.append(littleEndian: 65_536 / max(options.blockSize, 512))
    bytes.append(writesBack.load(ordering: .relaxed) ? 1 : 0)
    bytes.append(0)
    bytes.append(littleEndian: UInt16(workers.count))
    bytes.append(littleEndian: Self.rangeSectorLimit)
    bytes.append(littleEndian: UInt32(Self.rangeLimit))
    bytes.append(littleEndian: options.blockSize / 512)
    bytes.append(littleEndian: Self.rangeSectorLimit)
    bytes.append(littleEndian: UInt32(Self.rangeLimit))
    bytes.append(contentsOf: [1, 0, 0, 0])
    return bytes
  }
}

extension VirtioBlock: Snapshottable {
  public struct State: Codable, Sendable {
    var writesBack: Bool
  }

  public static let stateVersion = 1

  /// The disk's contents are the image's; the queues are the transport's.
  public func saveState() -> State { State(writesBack: writesBack.load(ordering: .relaxed)) }

  /// After the transport's state, which resets the device.
  public func restoreState(_ state: State) {
    writesBack.store(state.writesBack, ordering: .relaxed)
  }
}
