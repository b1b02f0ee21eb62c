// The virtio console (Virtual I/O Device 1.2, 5.3) with several ports.
//
// Queues: 0 and 1 input and output of port 0, 2 and 3 the control messages, then two for each further port. One thread
// serves them all.

import CLinux
import Platform
import Synchronization

/// A console device. Its ports are `CharacterDevice`s.
public final class VirtioConsole: VirtioDevice {
  public struct PortOptions: Sendable {
    /// What a guest finds as /sys/class/virtio-ports/*/name; empty for none.
    public var name: String
    /// A terminal (hvc in Linux), rather than a channel of bytes.
    public var isTerminal: Bool
    public var backend: any CharacterBackend

    public init(name: String = "", isTerminal: Bool = true, backend: any CharacterBackend) {
      self.name = name
      self.isTerminal = isTerminal
      self.backend = backend
    }
  }

  enum Feature {
    static let size = VirtioFeatures(bit: 0)
    static let multiplePorts = VirtioFeatures(bit: 1)
    static let emergencyWrite = VirtioFeatures(bit: 2)
  }

  static let portLimit = 16
  static let controlInput = 2
  static let controlOutput = 3
  private static let emergencyOffset: UInt64 = 8

  public let type = VirtioDeviceType.console
  public let queueSizes: [UInt16]
  public let ports: [VirtioConsolePort]
  private let worker: DeviceWorker
  private let engine: VirtioConsoleEngine
  private let size = Mutex<(columns: UInt16, rows: UInt16)>((80, 25))

  /// - Parameter ports: one to sixteen; the first is the console that a driver without multiple ports uses.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(ports options: [PortOptions]) throws(PlatformError) {
    precondition(!options.isEmpty && options.count <= Self.portLimit, "1 to 16 console ports")
    let ports = options.enumerated().map { VirtioConsolePort(number: $0, options: $1) }
    self.ports = ports
    queueSizes = Array(repeating: 128, count: 2 * (ports.count + 1))
    let engine = VirtioConsoleEngine(ports: ports)
    self.engine = engine
    let worker = try DeviceWorker(name: "virtio-console") { engine.step() }
    self.worker = worker
    for port in ports { port.wake = { [notifier = worker.notifier] in notifier.signal() } }
  }

  deinit { worker.stop() }

  /// The terminal behind port 0 has another size.
  public func setSize(columns: UInt16, rows: UInt16) {
    size.withLock { $0 = (columns, rows) }
    engine.requestResize(columns: columns, rows: rows)
    engine.link.withLock { $0 }?.configurationDidChange()
    worker.notifier.signal()
  }

  // MARK: VirtioDevice

  /// A single nameless terminal does without control messages: its size is in the configuration, where no driver has
  /// mistaken columns for rows.
  public var features: VirtioFeatures {
    let isPlain = ports.count == 1 && ports[0].isTerminal && ports[0].name.isEmpty
    let always: VirtioFeatures = [Feature.size, Feature.emergencyWrite]
    return isPlain ? always : always.union(Feature.multiplePorts)
  }

  public func attach(_ link: VirtioLink) { engine.link.withLock { $0 = link } }

  public func doorbell(forQueue index: Int) -> EventNotifier { worker.notifier }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    worker.hold()
    engine.activate(queues, hasControl: features.contains(Feature.multiplePorts))
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

  /// struct virtio_console_config (5.3.4).
  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    let (columns, rows) = size.withLock { $0 }
    var bytes: [UInt8] = []
    bytes.append(littleEndian: columns)
    bytes.append(littleEndian: rows)
    bytes.append(littleEndian: UInt32(ports.count))
    bytes.append(littleEndian: UInt32(0))
    return virtioConfiguration(bytes, at: offset, width: width)
  }

  /// Emergency write: one byte for port 0, with no queue set up.
  public func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard offset == Self.emergencyOffset else { return }
    var byte = UInt8(truncatingIfNeeded: value)
    withUnsafeBytes(of: &byte) { ports[0].backend.guestDidSend($0) }
  }
}

extension VirtioConsole: Snapshottable {
  public struct State: Codable, Sendable {
    var columns: UInt16
    var rows: UInt16
    var ports: [VirtioConsolePort.State]
  }

  public static let stateVersion = 1

  public func saveState() -> State {
    let (columns, rows) = size.withLock { $0 }
    return State(columns: columns, rows: rows, ports: ports.map { $0.saveState() })
  }

  public func check(_ state: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.ports.count == ports.count,
      "it has \(state.ports.count) ports and not \(ports.count)")
    for (port, saved) in zip(ports, state.ports) { try port.check(saved) }
  }

  /// After the transport's state, while paused.
  public func restoreState(_ state: State) {
    size.withLock { $0 = (state.columns, state.rows) }
    for (port, saved) in zip(ports, state.ports) { port.restoreState(saved) }
  }
}
