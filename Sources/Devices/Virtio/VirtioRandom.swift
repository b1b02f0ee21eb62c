// The virtio entropy device (Virtual I/O Device 1.2, 5.4): fills buffers with random bytes of the host.

import CLinux
import Platform
import Synchronization

/// Has no state of its own: what it gives cannot be given again.
public final class VirtioRandom: VirtioDevice, VirtioRequestProcessor {
  /// Most bytes for one request; a larger buffer is used in part.
  public static let requestLimit = 64 << 10

  public let type = VirtioDeviceType.entropy
  public let features: VirtioFeatures = []
  public let queueSizes: [UInt16] = [64]
  private let worker: VirtioQueueWorker

  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init() throws(PlatformError) { worker = try VirtioQueueWorker(name: "virtio-rng") }

  deinit { worker.stop() }

  func process(_ chain: VirtioChain, queue index: Int) throws(VirtioViolation) -> UInt32 {
    var room = Self.requestLimit
    var written: UInt32 = 0
    for segment in chain.writable {
      guard let base = segment.iov_base else { continue }
      let wanted = min(segment.iov_len, room)
      var done = 0
      while done < wanted {
        let count = getrandom(base + done, wanted - done, 0)
        if count < 0 && linux_error_number() == EINTR { continue }
        guard count > 0 else { return written }
        done += count
        written &+= UInt32(truncatingIfNeeded: count)
      }
      room -= wanted
      if room == 0 { break }
    }
    return written
  }

  public func attach(_ link: VirtioLink) { worker.attach(self, link: link) }
  public func doorbell(forQueue index: Int) -> EventNotifier { worker.notifier }
  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 { 0 }
  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    worker.activate(queues.first ?? nil)
  }
  public func deactivate() { worker.deactivate() }
  public func pause() { worker.pause() }
  public func resume() { worker.resume() }
  public var queuePositions: [VirtioQueuePosition?] { [worker.position] }
}
