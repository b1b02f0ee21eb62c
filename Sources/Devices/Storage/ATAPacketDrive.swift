// An optical drive on a SATA port: the PACKET command and the few others that such a device knows (ATA/ATAPI Command
// Set 2, 4.3 and 7.18). What the packets mean is the drive's own business.

import Synchronization

/// A CD-ROM drive on a SATA port.
public final class ATAPacketDrive: ATADevice {
  private enum Operation {
    static let deviceReset: UInt8 = 0x08
    static let readSectors: UInt8 = 0x20
    static let diagnose: UInt8 = 0x90
    static let packet: UInt8 = 0xA0
    static let identifyPacket: UInt8 = 0xA1
    static let identify: UInt8 = 0xEC
    static let setFeatures: UInt8 = 0xEF
  }

  public struct State: Codable, Sendable {
    /// Why the last packet failed, until it is asked for.
    var sense: SCSISense?
  }

  /// Bytes that one packet may move: more than any drive reads at once.
  static let transferLimit: UInt64 = 128 << 20

  let drive: OpticalDrive
  private let state = Mutex(State())

  public init(_ drive: OpticalDrive) { self.drive = drive }

  let signature = ATAAnswer(status: 0, error: 1, block: 0xEB_1401, count: 1)
  var backend: (any BlockBackend)? { nil }
  let multipleSize = 0

  func reset(isHard: Bool) {
    state.withLock { $0.sense = nil }
    drive.reset()
  }

  func begin(_ command: ATACommand) -> ATAWork {
    switch command.code {
    case Operation.packet:
      return .packet(command.features & 1 != 0 ? .direct : .programmed)
    case Operation.identifyPacket: return .send(identification, .programmed)
    // Commands of disks are refused in a way that shows what this is.
    case Operation.identify, Operation.readSectors:
      var answer = signature
      answer.status = ATAAnswer.Status.ready | ATAAnswer.Status.error
      answer.error = ATAAnswer.ErrorBit.aborted
      return .done(answer)
    case Operation.deviceReset:
      reset(isHard: false)
      return .done(signature)
    case Operation.diagnose: return .done(signature)
    case Operation.setFeatures:
      // Transfer mode; keep settings over resets or not.
      let isKnown = [0x03, 0x66, 0xCC].contains(command.features & 0xFF)
      return .done(isKnown ? .good : .aborted)
    // Power: nothing to see.
    case 0xE0...0xE3, 0xE6: return .done(.good)
    case 0xE5: return .done(ATAAnswer(count: 0xFF))
    // A cache that holds no writes.
    case 0xE7, 0xEA: return .done(.good)
    default: return .done(.aborted)
    }
  }

  func receive(_ command: ATACommand, _ bytes: [UInt8]) -> ATAAnswer { .aborted }

  func finish(
    _ transfer: ATATransfer, _ command: ATACommand, _ error: BlockBackendError?
  ) -> ATAAnswer { .aborted }

  func execute(_ packet: SCSICommand, _ buffers: ScatterList) -> (ATAAnswer, UInt64) {
    // Input is over, and it was no command: the reason register says both (4.3).
    let good = ATAAnswer(count: 3)
    if packet.operation == OpticalDrive.Operation.requestSense, let sense = takeSense() {
      let bytes = [UInt8](sense.bytes.prefix(Int(packet[4])))
      return (good, UInt64(buffers.put(bytes)))
    }
    state.withLock { $0.sense = nil }
    switch drive.execute(packet, unit: 0, buffers: buffers) {
    case .done(let count): return (good, count)
    case .data(let bytes): return (good, UInt64(buffers.put(bytes)))
    case .failed(let sense):
      state.withLock { $0.sense = sense }
      var answer = ATAAnswer.failed(
        sense.key << 4 | (sense.key == 5 ? ATAAnswer.ErrorBit.aborted : 0))
      answer.count = 3
      return (answer, 0)
    }
  }

  private func takeSense() -> SCSISense? {
    state.withLock { state in
      defer { state.sense = nil }
      return state.sense
    }
  }

  private var identification: [UInt8] {
    var data = ATAIdentification()
    data.setCommon(model: "UNDERJACK CD-ROM", serial: drive.serial)
    // A packet device, CD-ROM, removable, answers a packet within 50 us, packets of 12 bytes.
    data[0] = 0x85C0
    // Generations 1 to 3 of the link, of which the third is used.
    data[76] = 0x000E
    data[77] = 0x0006
    // Device reset, packets, power management.
    data[82] = 0x0218
    data[83] = 0x4000
    data[84] = 0x4000
    data[85] = 0x0218
    data[87] = 0x4000
    return data.bytes
  }

  func saveState() -> ATADeviceState { .packet(state.withLock { $0 }) }

  func restoreState(_ saved: ATADeviceState) {
    guard case .packet(let saved) = saved else { return }
    state.withLock { $0 = saved }
  }
}
