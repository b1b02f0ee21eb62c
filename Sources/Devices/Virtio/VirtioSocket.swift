// The virtio socket device (Virtual I/O Device 1.2, 5.10): streams between ports of the guest and programs of the host.
//
// Queues: 0 to the guest, 1 from the guest, 2 events. One thread serves them and the host's sockets.

import GuestMemory
import Platform
import Synchronization

/// A socket device.
public final class VirtioSocket: VirtioDevice {
  enum Feature {
    static let stream = VirtioFeatures(bit: 0)
  }

  static let receiveQueue = 0
  static let transmitQueue = 1
  static let eventQueue = 2

  public let type = VirtioDeviceType.socket
  public let queueSizes: [UInt16] = [128, 128, 16]
  /// The guest's address.
  public let contextIdentifier: UInt32
  private let engine: VirtioSocketEngine
  private let worker: DeviceWorker

  /// - Parameters:
  ///   - contextIdentifier: 3 or more.
  ///   - point: where programs of the host come in.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(contextIdentifier: UInt32, point: GuestSocketPoint) throws(PlatformError) {
    self.contextIdentifier = contextIdentifier
    let engine = try VirtioSocketEngine(guest: UInt64(contextIdentifier), point: point)
    self.engine = engine
    worker = try DeviceWorker(name: "virtio-vsock", source: engine) { engine.step() }
  }

  deinit {
    worker.stop()
    engine.closeAll()
  }

  // MARK: VirtioDevice

  public var features: VirtioFeatures { Feature.stream }

  public func attach(_ link: VirtioLink) { engine.link.withLock { $0 = link } }

  public func doorbell(forQueue index: Int) -> EventNotifier { worker.notifier }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    worker.hold()
    engine.activate(queues)
    worker.release()
    do {
      try worker.start()
    } catch {
      engine.link.withLock { $0 }?.fail(.request)
    }
  }

  public func deactivate() {
    worker.hold()
    engine.deactivate()
    worker.release()
  }

  public func pause() { worker.pause() }
  public func resume() { worker.resume() }
  public var queuePositions: [VirtioQueuePosition?] { engine.queues.map { $0?.position } }

  /// struct virtio_vsock_config (5.10.4).
  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt64(contextIdentifier))
    return virtioConfiguration(bytes, at: offset, width: width)
  }
}

extension VirtioSocket: Snapshottable {
  /// Connections end where the other machine's programs are not: only that the guest was told of that is kept.
  public struct State: Codable, Sendable {
    var owesReset: Bool
  }

  public static let stateVersion = 1

  public func saveState() -> State { State(owesReset: engine.owesReset) }

  /// After the transport's state, while paused. The guest learns by an event that all its connections are gone
  /// (5.10.6.7).
  public func restoreState(_ state: State) { engine.owesReset = true }
}
