// The virtio 9P transport (Linux, include/uapi/linux/virtio_9p.h): a queue of 9P messages, and a tag to mount by.

import CLinux
import Platform

/// A folder of the host that the guest can mount.
public final class VirtioFileSharing: VirtioDevice, VirtioRequestProcessor, @unchecked Sendable {
  // @unchecked: `server` is used by the queue's thread, or by who holds or has paused it.
  /// Most bytes of a tag.
  public static let tagLimit = 32

  public let type = VirtioDeviceType.fileSharing
  /// The tag is in the configuration.
  public let features = VirtioFeatures(bit: 0)
  public let queueSizes: [UInt16] = [128]
  private let server: NinePServer
  private let tag: [UInt8]
  private let worker: VirtioQueueWorker

  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(_ folder: SharedFolder) throws(PlatformError) {
    server = NinePServer(folder)
    tag = Array(folder.tag.utf8.prefix(Self.tagLimit))
    worker = try VirtioQueueWorker(name: "virtio-9p")
  }

  deinit { worker.stop() }

  // MARK: Requests

  private static let sizeOfHeader = 7

  func process(_ chain: VirtioChain, queue index: Int) throws(VirtioViolation) -> UInt32 {
    guard chain.readableBytes >= UInt64(Self.sizeOfHeader),
      chain.readableBytes <= UInt64(NinePServer.messageLimit),
      chain.writableBytes >= UInt64(Self.sizeOfHeader + 4)
    else { throw .request }
    var request = [UInt8](repeating: 0, count: Int(chain.readableBytes))
    guard request.withUnsafeMutableBytes({ chain.takeFront($0) }),
      let answer = server.answer(request)
    else { throw .request }
    // A driver that leaves less room than it has asked for gets what fits.
    return UInt32(answer.withUnsafeBytes { chain.putFront($0) })
  }

  // MARK: VirtioDevice

  public func attach(_ link: VirtioLink) { worker.attach(self, link: link) }
  public func doorbell(forQueue index: Int) -> EventNotifier { worker.notifier }

  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt16(tag.count))
    return virtioConfiguration(bytes + tag, at: offset, width: width)
  }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    worker.activate(queues.first ?? nil)
  }

  public func deactivate() {
    worker.deactivate()
    worker.change { server.reset() }
  }

  public func pause() { worker.pause() }
  public func resume() { worker.resume() }
  public var queuePositions: [VirtioQueuePosition?] { [worker.position] }
}

extension VirtioFileSharing: Snapshottable {
  public struct State: Codable, Sendable {
    var server: NinePServer.State
  }

  public static let stateVersion = 1

  /// Only while paused: what files the guest has, by their names.
  public func saveState() -> State { State(server: server.saveState()) }

  /// Files that are gone meanwhile are errors for the guest when it uses them.
  public func restoreState(_ state: State) { server.restoreState(state.server) }
}
