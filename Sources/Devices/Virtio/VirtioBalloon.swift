// The virtio memory balloon (Virtual I/O Device 1.2, 5.5): the guest hands pages to the host that it can do without, takes
// them back, says how its memory is used, and reports pages that are free at the moment.
//
// Queues: 0 inflate, 1 deflate, 2 statistics, 4 reports of free pages. Linux numbers the queues without gaps: as this
// device has no free page hints (queue 3), its reports come on 3.

import GuestMemory
import Platform
import Synchronization

/// A balloon device.
public final class VirtioBalloon: VirtioDevice {
  enum Feature {
    static let statistics = VirtioFeatures(bit: 1)
    static let deflateOnOutOfMemory = VirtioFeatures(bit: 2)
    static let pagePoison = VirtioFeatures(bit: 4)
    static let reporting = VirtioFeatures(bit: 5)
  }

  /// What the driver writes into struct virtio_balloon_config.
  struct Registers: Codable, Sendable {
    /// Pages in the balloon.
    var actual: UInt32 = 0
    /// What the guest fills free pages with, with `pagePoison`.
    var poison: UInt32 = 0
  }

  private static let actualOffset: UInt64 = 4
  private static let poisonOffset: UInt64 = 12

  public let type = VirtioDeviceType.balloon
  public let queueSizes: [UInt16] = [128, 128, 64, 64, 64]
  /// Pages come back by being touched, so that a driver need not say when it uses them again (VIRTIO_BALLOON_F_MUST_TELL_HOST).
  public let features: VirtioFeatures = [
    Feature.statistics, Feature.deflateOnOutOfMemory, Feature.pagePoison, Feature.reporting,
  ]
  private let balloon: MemoryBalloon
  private let engine: VirtioBalloonEngine
  private let worker: DeviceWorker
  private let registers = Mutex(Registers())

  /// - Parameters:
  ///   - balloon: the host's end.
  ///   - memory: where the pages are.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(_ balloon: MemoryBalloon, memory: GuestMemory) throws(PlatformError) {
    self.balloon = balloon
    let engine = VirtioBalloonEngine(balloon, memory: memory)
    self.engine = engine
    worker = try DeviceWorker(
      name: "virtio-balloon", settle: { engine.putStatisticsBack() }, step: { engine.step() })
    balloon.connect(self)
  }

  deinit { worker.stop() }

  // MARK: For the host's end

  func targetDidChange() { engine.link.withLock { $0 }?.configurationDidChange() }

  func requestStatistics() {
    engine.wantsStatistics.store(true, ordering: .releasing)
    worker.notifier.signal()
  }

  // MARK: VirtioDevice

  public func attach(_ link: VirtioLink) { engine.link.withLock { $0 = link } }

  public func doorbell(forQueue index: Int) -> EventNotifier { worker.notifier }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    worker.hold()
    engine.activate(queues, features: features, poison: registers.withLock { $0.poison })
    worker.release()
    balloon.noteDriver(true)
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
    registers.withLock { $0 = Registers() }
    balloon.noteDriver(false)
  }

  public func pause() { worker.pause() }
  public func resume() { worker.resume() }
  public var queuePositions: [VirtioQueuePosition?] { engine.queues.map { $0?.position } }

  /// struct virtio_balloon_config (5.5.4).
  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    let written = registers.withLock { $0 }
    var bytes: [UInt8] = []
    bytes.append(littleEndian: balloon.wantedPages)
    bytes.append(littleEndian: written.actual)
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: written.poison)
    return virtioConfiguration(bytes, at: offset, width: width)
  }

  /// Legacy drivers write fields a byte at a time.
  public func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64) {
    let written = registers.withLock { registers in
      for index in 0..<UInt64(width.rawValue) {
        let (position, overflow) = offset.addingReportingOverflow(index)
        guard !overflow else { break }
        let byte = UInt8(truncatingIfNeeded: value >> (8 &* index))
        Self.set(byte, at: position, of: Self.actualOffset, &registers.actual)
        Self.set(byte, at: position, of: Self.poisonOffset, &registers.poison)
      }
      return registers
    }
    engine.setPoison(written.poison)
    balloon.noteActual(written.actual)
  }

  private static func set(
    _ byte: UInt8, at position: UInt64, of field: UInt64, _ value: inout UInt32
  ) {
    guard position >= field, position &- field < 4 else { return }
    let shift = UInt32(8 &* (position &- field))
    value = value & ~(0xFF << shift) | UInt32(byte) << shift
  }
}

extension VirtioBalloon: Snapshottable {
  public struct State: Codable, Sendable {
    var registers: Registers
    /// Pages that are to be in the balloon: a guest that goes on is to keep what it had.
    var wantedPages: UInt32
  }

  public static let stateVersion = 1

  public func saveState() -> State {
    State(registers: registers.withLock { $0 }, wantedPages: balloon.wantedPages)
  }

  /// After the transport's state, while paused.
  public func restoreState(_ state: State) {
    registers.withLock { $0 = state.registers }
    engine.setPoison(state.registers.poison)
    balloon.wantedPages = state.wantedPages
    balloon.noteActual(state.registers.actual)
  }
}
