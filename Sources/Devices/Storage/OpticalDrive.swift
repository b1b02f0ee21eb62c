// A CD-ROM and DVD-ROM drive as a SCSI target (SPC-4, MMC-6): the tray, the medium and the commands about them. The
// commands that describe the medium are in OpticalDriveCommands.swift.

import CLinux
import Synchronization

/// A drive that reads one disc of 2048-byte blocks.
public final class OpticalDrive: SCSITarget {
  static let blockSize: UInt64 = 2048

  /// Media status events (MMC-6, 6.7): what GET EVENT STATUS NOTIFICATION tells next.
  enum MediaEvent: UInt8, Codable, Sendable {
    case none = 0
    case ejectRequest = 1
    case newMedia = 2
    case removal = 3
  }

  struct Guarded {
    var medium: (any BlockBackend)?
    var isOpen = false
    var isLocked = false
    var attention: SCSISense?
    var event = MediaEvent.none
  }

  let guarded: Mutex<Guarded>
  let serial: String
  private let onEject: @Sendable () -> Void
  public let statistics = BlockStatistics()

  /// - Parameters:
  ///   - medium: the disc; nil for an empty drive.
  ///   - serial: what the guest reads as the drive's serial number.
  ///   - onEject: the guest has taken the disc out; called on the adapter's thread.
  public init(
    medium: (any BlockBackend)? = nil, serial: String = "underjack-cd",
    onEject: @escaping @Sendable () -> Void = {}
  ) {
    guarded = Mutex(Guarded(medium: medium))
    self.serial = serial
    self.onEject = onEject
  }

  // MARK: The host's side

  /// Whether a disc is in the drive.
  public var hasMedium: Bool { guarded.withLock { $0.medium != nil } }

  /// The guest wants the disc to stay (PREVENT ALLOW MEDIUM REMOVAL).
  public var isLocked: Bool { guarded.withLock { $0.isLocked } }

  /// Puts a disc in and closes the tray, in place of what is there.
  public func insert(_ medium: any BlockBackend) {
    guarded.withLock { state in
      state.medium = medium
      state.isOpen = false
      state.attention = .mediumChanged
      state.event = .newMedia
    }
  }

  /// Takes the disc out. Returns false, and asks the guest to let it go, when the guest has locked the tray.
  ///
  /// - Parameter force: take it out all the same, as with a paper clip.
  @discardableResult
  public func eject(force: Bool = false) -> Bool {
    guarded.withLock { state in
      if state.isLocked && !force {
        state.event = .ejectRequest
        return false
      }
      Self.open(&state)
      return true
    }
  }

  private static func open(_ state: inout Guarded) {
    if state.medium != nil { state.event = .removal }
    state.medium = nil
    state.isOpen = true
    state.isLocked = false
    state.attention = nil
  }

  // MARK: SCSITarget

  public func reset() {
    guarded.withLock { state in
      state.isLocked = false
      state.attention = .deviceReset
    }
  }

  public func execute(
    _ command: SCSICommand, unit: UInt16, buffers: any SCSIBuffers
  ) -> SCSIOutcome {
    switch command.operation {
    case Operation.inquiry: return inquiry(command, unit: unit)
    case Operation.reportUnits: return reportUnits(command)
    case Operation.requestSense: return requestSense(command, unit: unit)
    default: break
    }
    guard unit == 0 else { return .failed(.unitNotSupported) }
    switch command.operation {
    // These report a change and do not trip over it.
    case Operation.getConfiguration: return getConfiguration(command)
    case Operation.getEventStatus: return getEventStatus(command)
    default: break
    }
    let attention = guarded.withLock { state in
      defer { state.attention = nil }
      return state.attention
    }
    if let attention { return .failed(attention) }
    return executeReady(command, buffers)
  }

  private func executeReady(_ command: SCSICommand, _ buffers: any SCSIBuffers) -> SCSIOutcome {
    switch command.operation {
    case Operation.startStopUnit: return startStop(command)
    case Operation.preventAllow:
      guarded.withLock { $0.isLocked = command[4] & 1 != 0 }
      return .done(0)
    case Operation.modeSense6: return modeSense(command, isLong: false)
    case Operation.modeSense10: return modeSense(command, isLong: true)
    case Operation.mechanismStatus: return mechanismStatus(command)
    case Operation.setSpeed, Operation.synchronizeCache: return .done(0)
    default: break
    }
    guard Operation.needingMedium.contains(command.operation) else {
      return .failed(.invalidOperation)
    }
    let (medium, isOpen) = guarded.withLock { ($0.medium, $0.isOpen) }
    guard let medium else {
      return .failed(isOpen ? .mediumNotPresentTrayOpen : .mediumNotPresent)
    }
    return execute(command, on: medium, buffers)
  }

  private func execute(
    _ command: SCSICommand, on medium: any BlockBackend, _ buffers: any SCSIBuffers
  ) -> SCSIOutcome {
    let blocks = medium.size / Self.blockSize
    switch command.operation {
    case Operation.testUnitReady, Operation.seek10: return .done(0)
    case Operation.verify10:
      let end = UInt64(command.double(2)) + UInt64(command.word(7))
      return end <= blocks ? .done(0) : .failed(.addressOutOfRange)
    case Operation.read6:
      let count = command[4] == 0 ? 256 : UInt64(command[4])
      return read(UInt64(command.triple(1) & 0x1F_FFFF), count, medium, buffers)
    case Operation.read10:
      return read(UInt64(command.double(2)), UInt64(command.word(7)), medium, buffers)
    case Operation.read12:
      return read(UInt64(command.double(2)), UInt64(command.double(6)), medium, buffers)
    case Operation.read16:
      return read(command.quad(2), UInt64(command.double(10)), medium, buffers)
    case Operation.readCD: return readCD(command, medium, buffers)
    case Operation.readCapacity10: return readCapacity10(blocks)
    case Operation.serviceActionIn where command[1] & 0x1F == 0x10:
      return readCapacity16(command, blocks)
    case Operation.readContents: return readContents(command, blocks)
    case Operation.readDiscInformation: return readDiscInformation(command)
    default: return .failed(.invalidOperation)
    }
  }

  /// Only the 2048 bytes of user data of each block: there is nothing else on an image.
  private func readCD(
    _ command: SCSICommand, _ medium: any BlockBackend, _ buffers: any SCSIBuffers
  ) -> SCSIOutcome {
    let count = UInt64(command.triple(6))
    switch command[9] & 0xF8 {
    case 0: return .done(0)
    case 0x10: return read(UInt64(command.double(2)), count, medium, buffers)
    default: return .failed(.invalidField)
    }
  }

  private func read(
    _ block: UInt64, _ count: UInt64, _ medium: any BlockBackend, _ buffers: any SCSIBuffers
  ) -> SCSIOutcome {
    let blocks = medium.size / Self.blockSize
    guard block <= blocks, count <= blocks - block else { return .failed(.addressOutOfRange) }
    // An initiator with less room gets what fits.
    let length = min(count * Self.blockSize, buffers.room)
    guard length > 0 else { return .done(0) }
    do throws(BlockBackendError) {
      try medium.read(into: buffers.prefix(length), at: block * Self.blockSize)
    } catch {
      statistics.errorCounter.add(1, ordering: .relaxed)
      return .failed(.unrecoveredReadError)
    }
    statistics.didRead(length)
    return .done(length)
  }

  private func startStop(_ command: SCSICommand) -> SCSIOutcome {
    // Power conditions are taken and have no effect.
    if command[4] & 0xF0 != 0 || command[4] & 2 == 0 { return .done(0) }
    enum Result { case refused, ejected, closed }
    let result: Result = guarded.withLock { state in
      if command[4] & 1 != 0 {
        state.isOpen = false
        return .closed
      }
      if state.isLocked { return .refused }
      let hadMedium = state.medium != nil
      Self.open(&state)
      return hadMedium ? .ejected : .closed
    }
    switch result {
    case .refused: return .failed(.removalPrevented)
    case .ejected: onEject()
    case .closed: break
    }
    return .done(0)
  }
}

extension OpticalDrive: Snapshottable {
  public struct State: Codable, Sendable {
    var isOpen: Bool
    var isLocked: Bool
    var attention: SCSISense?
    var event: MediaEvent
  }

  public static let stateVersion = 1

  /// Which disc is in the drive is the host's to remember.
  public func saveState() -> State {
    guarded.withLock { state in
      State(
        isOpen: state.isOpen, isLocked: state.isLocked, attention: state.attention,
        event: state.event)
    }
  }

  public func restoreState(_ saved: State) {
    guarded.withLock { state in
      state.isOpen = saved.isOpen && state.medium == nil
      state.isLocked = saved.isLocked
      state.attention = saved.attention
      state.event = saved.event
    }
  }
}
