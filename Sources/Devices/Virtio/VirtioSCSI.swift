// The virtio SCSI host adapter (Virtual I/O Device 1.2, 5.6).
//
// Queue 0: task management; queue 1: events, of which this adapter has none; from queue 2: requests.

import CLinux
import Platform
import Synchronization

/// An adapter with up to 256 targets, each with logical unit 0.
public final class VirtioSCSI: VirtioDevice, VirtioRequestProcessor {
  private static let controlQueue = 0
  private static let eventQueue = 1
  private static let requestQueue = 2
  private static let defaultSenseSize: UInt32 = 96
  private static let defaultCommandSize: UInt32 = 32

  public let type = VirtioDeviceType.scsi
  public let features: VirtioFeatures = []
  public let queueSizes: [UInt16] = [64, 64, 256]
  let targets: [any SCSITarget]
  private let control: VirtioQueueWorker
  private let requests: VirtioQueueWorker
  /// Nobody takes from it: only kept so that its position can be saved.
  private let events = Mutex<VirtioQueue?>(nil)
  private let senseSize = Atomic<UInt32>(defaultSenseSize)
  private let commandSize = Atomic<UInt32>(defaultCommandSize)
  /// The response of the request being processed, and where it goes; used by the request thread only.
  private nonisolated(unsafe) let response = UnsafeMutableRawBufferPointer.allocate(
    byteCount: responseHeaderSize + senseLimit, alignment: 8)
  private nonisolated(unsafe) let pieces = UnsafeMutableBufferPointer<iovec>.allocate(
    capacity: responseHeaderSize + senseLimit)

  /// - Parameter targets: target numbers are positions.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init(targets: [any SCSITarget]) throws(PlatformError) {
    self.targets = Array(targets.prefix(256))
    control = try VirtioQueueWorker(name: "virtio-scsi-c")
    requests = try VirtioQueueWorker(name: "virtio-scsi")
  }

  deinit {
    control.stop()
    requests.stop()
    pieces.deallocate()
    response.deallocate()
  }

  // MARK: VirtioDevice

  public func attach(_ link: VirtioLink) {
    control.attach(self, link: link)
    requests.attach(self, link: link)
  }

  public func doorbell(forQueue index: Int) -> EventNotifier {
    index == Self.requestQueue ? requests.notifier : control.notifier
  }

  public func activate(features: VirtioFeatures, queues: [VirtioQueue?]) {
    guard queues.count == queueSizes.count else { return }
    events.withLock { $0 = queues[Self.eventQueue] }
    control.activate(queues[Self.controlQueue])
    requests.activate(queues[Self.requestQueue])
  }

  public func deactivate() {
    control.deactivate()
    requests.deactivate()
    events.withLock { $0 = nil }
    senseSize.store(Self.defaultSenseSize, ordering: .relaxed)
    commandSize.store(Self.defaultCommandSize, ordering: .relaxed)
  }

  public func pause() {
    control.pause()
    requests.pause()
  }

  public func resume() {
    control.resume()
    requests.resume()
  }

  public var queuePositions: [VirtioQueuePosition?] {
    [control.position, events.withLock { $0?.position }, requests.position]
  }

  /// struct virtio_scsi_config (5.6.4).
  public func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64 {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt32(1))  // request queues
    bytes.append(littleEndian: UInt32(254))  // segments
    bytes.append(littleEndian: UInt32(0xFFFF))  // sectors of a transfer
    bytes.append(littleEndian: UInt32(128))  // commands a unit
    bytes.append(littleEndian: UInt32(16))  // size of an event
    bytes.append(littleEndian: senseSize.load(ordering: .relaxed))
    bytes.append(littleEndian: commandSize.load(ordering: .relaxed))
    bytes.append(littleEndian: UInt16(0))  // channel
    bytes.append(littleEndian: UInt16(max(targets.count, 1) - 1))
    bytes.append(littleEndian: UInt32(0))  // unit
    return virtioConfiguration(bytes, at: offset, width: width)
  }

  private static let senseOffset: UInt64 = 20
  private static let commandOffset: UInt64 = 24
  static let senseLimit = 252
  private static let commandLimit = 255

  public func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard width == .doubleword else { return }
    if offset == Self.senseOffset && value <= UInt64(Self.senseLimit) {
      senseSize.store(UInt32(value), ordering: .relaxed)
    } else if offset == Self.commandOffset && value > 0 && value <= UInt64(Self.commandLimit) {
      commandSize.store(UInt32(value), ordering: .relaxed)
    }
  }

  // MARK: Requests

  private enum Response {
    static let ok: UInt8 = 0
    static let badTarget: UInt8 = 3
    static let functionRejected: UInt8 = 11
  }

  private enum Status {
    static let good: UInt8 = 0
    static let checkCondition: UInt8 = 2
  }

  /// Unit, tag, attribute, priority and reference number in front of the command.
  private static let requestHeaderSize = 19
  /// Sense length, residue, status qualifier, status and response in front of the sense data.
  static let responseHeaderSize = 12

  func process(_ chain: VirtioChain, queue index: Int) throws(VirtioViolation) -> UInt32 {
    index == Self.controlQueue ? try manage(chain) : try perform(chain)
  }

  /// Target and unit of an address (5.6.6.1): 1, target, then the unit as a flat or peripheral number.
  private func resolve(_ bytes: UnsafeRawBufferPointer) -> (target: any SCSITarget, unit: UInt16)? {
    // 0xC1 0x01 is the well-known unit for REPORT LUNS; any target can answer that.
    if bytes[0] == 0xC1, let first = targets.first { return (first, 0) }
    guard bytes[0] == 1, Int(bytes[1]) < targets.count else { return nil }
    return (targets[Int(bytes[1])], UInt16(bytes[2] & 0x3F) << 8 | UInt16(bytes[3]))
  }

  private func perform(_ chain: VirtioChain) throws(VirtioViolation) -> UInt32 {
    let commandSize = Int(commandSize.load(ordering: .relaxed))
    let responseSize = Self.responseHeaderSize + Int(senseSize.load(ordering: .relaxed))
    var storage = InlineArray<274, UInt8>(repeating: 0)
    var span = storage.mutableSpan
    let header = span.withUnsafeMutableBytes {
      bytes -> (resolved: (any SCSITarget, UInt16)?, command: SCSICommand)? in
      let front = UnsafeMutableRawBufferPointer(
        rebasing: bytes.prefix(Self.requestHeaderSize + commandSize))
      guard chain.takeFront(front) else { return nil }
      let command = SCSICommand(
        UnsafeRawBufferPointer(rebasing: front.dropFirst(Self.requestHeaderSize)))
      return (resolve(UnsafeRawBufferPointer(front)), command)
    }
    guard let header, let pieceCount = chain.reserveFront(responseSize, in: pieces) else {
      throw .request
    }
    UnsafeMutableRawBufferPointer(rebasing: response.prefix(responseSize))
      .initializeMemory(as: UInt8.self, repeating: 0)
    var transferred: UInt64 = 0
    let room = chain.writableBytes
    if let (target, unit) = header.resolved {
      switch target.execute(header.command, unit: unit, buffers: chain) {
      case .done(let count): transferred = count
      case .data(let bytes): transferred = UInt64(bytes.withUnsafeBytes { chain.putFront($0) })
      case .failed(let sense): put(sense, limit: responseSize - Self.responseHeaderSize)
      }
    } else {
      response[11] = Response.badTarget
    }
    let residue = UInt32(clamping: room &- min(transferred, room))
    response.storeBytes(of: residue.littleEndian, toByteOffset: 4, as: UInt32.self)
    fill(pieceCount)
    return UInt32(clamping: UInt64(responseSize) &+ transferred)
  }

  private func put(_ sense: SCSISense, limit: Int) {
    response[10] = Status.checkCondition
    let bytes = sense.bytes.prefix(limit)
    response[0] = UInt8(bytes.count)
    for (index, byte) in bytes.enumerated() { response[Self.responseHeaderSize + index] = byte }
  }

  private func fill(_ pieceCount: Int) {
    guard var source = response.baseAddress else { return }
    for index in 0..<pieceCount {
      guard let target = pieces[index].iov_base else { return }
      memcpy(target, source, pieces[index].iov_len)
      source += pieces[index].iov_len
    }
  }

  // MARK: Task management

  /// Requests are finished one by one, so there is never one to abort (5.6.6.2).
  private func manage(_ chain: VirtioChain) throws(VirtioViolation) -> UInt32 {
    var type: UInt32 = 0
    guard withUnsafeMutableBytes(of: &type, { chain.takeFront($0) }) else { throw .request }
    switch UInt32(littleEndian: type) {
    case 0: return try manageTask(chain)
    case 1, 2: return try answerNotification(chain)
    default: throw .request
    }
  }

  private func manageTask(_ chain: VirtioChain) throws(VirtioViolation) -> UInt32 {
    var storage = InlineArray<20, UInt8>(repeating: 0)
    var span = storage.mutableSpan
    var target: (any SCSITarget)?
    var function: UInt8 = 0
    let isWhole = span.withUnsafeMutableBytes { bytes in
      guard chain.takeFront(bytes) else { return false }
      function = bytes[0]
      target = resolve(UnsafeRawBufferPointer(rebasing: bytes[4..<12]))?.target
      return true
    }
    guard isWhole, chain.writableBytes >= 1 else { throw .request }
    var response = Response.ok
    if let target {
      // 4: I_T nexus reset; 5: logical unit reset.
      if function == 4 || function == 5 { target.reset() }
      if function > 7 { response = Response.functionRejected }
    } else {
      response = Response.badTarget
    }
    withUnsafeBytes(of: &response) { _ = chain.putFront($0) }
    return 1
  }

  /// Asynchronous notifications: none is supported.
  private func answerNotification(_ chain: VirtioChain) throws(VirtioViolation) -> UInt32 {
    guard chain.writableBytes >= 5 else { throw .request }
    var response: (UInt32, UInt8) = (0, Response.ok)
    withUnsafeBytes(of: &response) {
      _ = chain.putFront(UnsafeRawBufferPointer(rebasing: $0.prefix(5)))
    }
    return 5
  }
}

extension VirtioSCSI: Snapshottable {
  public struct State: Codable, Sendable {
    var senseSize: UInt32
    var commandSize: UInt32
  }

  public static let stateVersion = 1

  /// The targets are saved by themselves, the queues by the transport.
  public func saveState() -> State {
    State(
      senseSize: senseSize.load(ordering: .relaxed),
      commandSize: commandSize.load(ordering: .relaxed))
  }

  public func check(_ state: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.senseSize <= UInt32(Self.senseLimit)
        && (1...UInt32(Self.commandLimit)).contains(state.commandSize),
      "its sizes of sense data and commands cannot be")
  }

  public func restoreState(_ state: State) {
    writeConfiguration(at: Self.senseOffset, width: .doubleword, value: UInt64(state.senseSize))
    writeConfiguration(
      at: Self.commandOffset, width: .doubleword, value: UInt64(state.commandSize))
  }
}
