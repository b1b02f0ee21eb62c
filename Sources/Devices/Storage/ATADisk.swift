// A hard disk with ATA commands (ATA/ATAPI Command Set 2, chapter 7): 28 and 48-bit addresses, programmed, direct and
// queued transfers.

import Synchronization

/// A disk on a SATA port.
public final class ATADisk: ATADevice {
  static let sectorSize: UInt64 = 512
  /// Blocks of 64 ranges in one DATA SET MANAGEMENT command.
  static let rangeBlockLimit: UInt16 = 8

  public struct State: Codable, Sendable {
    var writesBack = true
    var looksAhead = true
    var monitorsHealth = true
    /// Sectors of READ MULTIPLE.
    var multiple: UInt8 = 16
    /// What the log of the failed queued command says; nil when there was none.
    var queuedError: QueuedError?

    struct QueuedError: Codable, Sendable {
      var tag: UInt8
      var answer: ATAAnswer
    }
  }

  let disk: any BlockBackend
  let serial: String
  public let statistics = BlockStatistics()
  private let onError: @Sendable (BlockBackendError) -> Void
  let state = Mutex(State())

  /// - Parameters:
  ///   - serial: what the guest reads as serial number; the first 20 bytes.
  ///   - onError: told of every error of the backend, on the port's thread.
  public init(
    backend: any BlockBackend, serial: String = "",
    onError: @escaping @Sendable (BlockBackendError) -> Void = { _ in }
  ) {
    disk = backend
    self.serial = serial
    self.onError = onError
  }

  var sectorCount: UInt64 { min(disk.size / Self.sectorSize, 1 << 48) }

  // MARK: ATADevice

  var backend: (any BlockBackend)? { disk }

  let signature = ATAAnswer(error: 1, block: 1, count: 1)

  var multipleSize: Int { state.withLock { Int($0.multiple) } * Int(Self.sectorSize) }

  func reset(isHard: Bool) {
    state.withLock { state in
      state.queuedError = nil
      if isHard { state = State() }
    }
  }

  func begin(_ command: ATACommand) -> ATAWork {
    if let work = beginTransfer(command) { return work }
    switch command.code {
    case Operation.identify: return .send(identification, .programmed)
    case Operation.dataSetManagement: return beginTrim(command)
    case Operation.readLog: return readLog(command, .programmed)
    case Operation.readLogDirect: return readLog(command, .direct)
    case Operation.smart: return health(command)
    case Operation.flush, Operation.flushExtended:
      return .transfer(ATATransfer(kind: .flush, transport: .direct))
    case Operation.readVerify, Operation.readVerifyAlways:
      return verify(Self.shortRange(command), command)
    case Operation.readVerifyExtended: return verify(Self.longRange(command), command)
    case Operation.diagnose: return .done(signature)
    default: return .done(control(command))
    }
  }

  func receive(_ command: ATACommand, _ bytes: [UInt8]) -> ATAAnswer { trim(bytes) }

  func execute(_ packet: SCSICommand, _ buffers: ScatterList) -> (ATAAnswer, UInt64) {
    (.aborted, 0)
  }

  func finish(
    _ transfer: ATATransfer, _ command: ATACommand, _ error: BlockBackendError?
  ) -> ATAAnswer {
    guard let error else {
      switch transfer.kind {
      case .read: statistics.didRead(transfer.count)
      case .write: statistics.didWrite(transfer.count)
      case .flush: statistics.flushCounter.add(1, ordering: .relaxed)
      }
      return .good
    }
    statistics.errorCounter.add(1, ordering: .relaxed)
    onError(error)
    let answer =
      transfer.kind == .read
      ? ATAAnswer.failed(
        ATAAnswer.ErrorBit.uncorrectable, block: transfer.offset / Self.sectorSize)
      : .aborted
    if transfer.transport == .queued { noteQueuedError(command, answer) }
    return answer
  }

  // MARK: Transfers

  /// Nil for commands that move no sectors.
  private func beginTransfer(_ command: ATACommand) -> ATAWork? {
    switch command.code {
    case Operation.readSectors, Operation.readSectorsAlways, Operation.readMultiple:
      return move(.read, Self.shortRange(command), .programmed)
    case Operation.readSectorsExtended, Operation.readMultipleExtended:
      return move(.read, Self.longRange(command), .programmed)
    case Operation.writeSectors, Operation.writeSectorsAlways, Operation.writeMultiple:
      return move(.write, Self.shortRange(command), .programmed)
    case Operation.writeSectorsExtended, Operation.writeMultipleExtended:
      return move(.write, Self.longRange(command), .programmed)
    case Operation.writeMultipleForced:
      return move(.write, Self.longRange(command), .programmed, forces: true)
    case Operation.readDirect, Operation.readDirectAlways:
      return move(.read, Self.shortRange(command), .direct)
    case Operation.readDirectExtended: return move(.read, Self.longRange(command), .direct)
    case Operation.writeDirect, Operation.writeDirectAlways:
      return move(.write, Self.shortRange(command), .direct)
    case Operation.writeDirectExtended: return move(.write, Self.longRange(command), .direct)
    case Operation.writeDirectForced:
      return move(.write, Self.longRange(command), .direct, forces: true)
    case Operation.readQueued: return moveQueued(.read, command)
    case Operation.writeQueued: return moveQueued(.write, command)
    default: return nil
    }
  }

  typealias Sectors = (first: UInt64, count: UInt64)

  /// 28-bit commands: a block number, or cylinder, head and sector.
  private static func shortRange(_ command: ATACommand) -> Sectors? {
    let count = command.count & 0xFF
    let low = command.block & 0xFF_FFFF
    let head = UInt64(command.device & 0xF)
    let length = UInt64(count == 0 ? 256 : count)
    if command.device & 0x40 != 0 { return (head << 24 | low, length) }
    guard low & 0xFF != 0 else { return nil }
    return (((low >> 8) &* 16 &+ head) &* 63 &+ (low & 0xFF) &- 1, length)
  }

  private static func longRange(_ command: ATACommand) -> Sectors? {
    (command.block, command.count == 0 ? 65_536 : UInt64(command.count))
  }

  private func isInside(_ sectors: Sectors) -> Bool {
    let size = sectorCount
    return sectors.first <= size && sectors.count <= size - sectors.first
  }

  private func move(
    _ kind: BlockTransfer, _ sectors: Sectors?, _ transport: ATAProtocol, forces: Bool = false
  ) -> ATAWork {
    guard let sectors else { return .done(.aborted) }
    guard isInside(sectors) else {
      return .done(.failed(ATAAnswer.ErrorBit.notFound, block: sectors.first))
    }
    if kind == .write && disk.isReadOnly { return .done(.aborted) }
    return .transfer(makeTransfer(kind, sectors, transport, forces: forces))
  }

  private func makeTransfer(
    _ kind: BlockTransfer, _ sectors: Sectors, _ transport: ATAProtocol, forces: Bool
  ) -> ATATransfer {
    ATATransfer(
      kind: kind, transport: transport, offset: sectors.first &* Self.sectorSize,
      count: sectors.count &* Self.sectorSize,
      flushes: kind == .write && (forces || !state.withLock { $0.writesBack }))
  }

  /// Count in the features, tag in the count, forced unit access in the device register (7.21, 7.58).
  private func moveQueued(_ kind: BlockTransfer, _ command: ATACommand) -> ATAWork {
    let sectors: Sectors = (
      command.block, command.features == 0 ? 65_536 : UInt64(command.features)
    )
    var failure: ATAAnswer?
    if !isInside(sectors) {
      failure = .failed(ATAAnswer.ErrorBit.notFound, block: sectors.first)
    } else if kind == .write && disk.isReadOnly || command.device & 0x40 == 0 {
      failure = .aborted
    }
    if let failure {
      noteQueuedError(command, failure)
      return .queuedFailure(failure)
    }
    return .transfer(
      makeTransfer(kind, sectors, .queued, forces: command.device & 0x80 != 0))
  }

  func noteQueuedError(_ command: ATACommand, _ answer: ATAAnswer) {
    let tag = UInt8(truncatingIfNeeded: command.count >> 3 & 0x1F)
    state.withLock { state in
      if state.queuedError == nil { state.queuedError = .init(tag: tag, answer: answer) }
    }
  }

  private func verify(_ sectors: Sectors?, _ command: ATACommand) -> ATAWork {
    guard let sectors else { return .done(.aborted) }
    return .done(
      isInside(sectors)
        ? .good : .failed(ATAAnswer.ErrorBit.notFound, block: sectors.first))
  }

  // MARK: DATA SET MANAGEMENT

  private func beginTrim(_ command: ATACommand) -> ATAWork {
    guard command.features == 1, command.count > 0, command.count <= Self.rangeBlockLimit,
      !disk.isReadOnly
    else { return .done(.aborted) }
    return .receive(Int(command.count) * Int(Self.sectorSize), .direct)
  }

  /// All ranges are checked before the first is given up: 48 bits of address, 16 bits of count.
  private func trim(_ bytes: [UInt8]) -> ATAAnswer {
    var ranges: [Sectors] = []
    for start in stride(from: 0, to: bytes.count - 7, by: 8) {
      var entry: UInt64 = 0
      for index in 0..<8 { entry |= UInt64(bytes[start + index]) << (8 * UInt64(index)) }
      let range: Sectors = (entry & 0xFFFF_FFFF_FFFF, entry >> 48)
      if range.count == 0 { continue }
      guard isInside(range) else {
        return .failed(
          ATAAnswer.ErrorBit.notFound | ATAAnswer.ErrorBit.aborted, block: range.first)
      }
      ranges.append(range)
    }
    for range in ranges {
      do throws(BlockBackendError) {
        try disk.discard(
          at: range.first &* Self.sectorSize, count: range.count &* Self.sectorSize)
      } catch {
        // It is a hint: an image that cannot give space back keeps it.
        if error == .unsupported { return .good }
        statistics.errorCounter.add(1, ordering: .relaxed)
        onError(error)
        return .aborted
      }
    }
    return .good
  }

  // MARK: State

  func saveState() -> ATADeviceState { .disk(state.withLock { $0 }) }

  func restoreState(_ saved: ATADeviceState) {
    guard case .disk(let saved) = saved else { return }
    state.withLock { $0 = saved }
  }
}
