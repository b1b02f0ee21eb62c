// Commands of an ATA disk that move no sectors: settings, power, health and logs (ATA/ATAPI Command Set 2, chapter 7
// and annex A).

import Synchronization

extension ATADisk {
  enum Operation {
    static let dataSetManagement: UInt8 = 0x06
    static let readSectors: UInt8 = 0x20
    static let readSectorsAlways: UInt8 = 0x21
    static let readSectorsExtended: UInt8 = 0x24
    static let readDirectExtended: UInt8 = 0x25
    static let readNativeMaximumExtended: UInt8 = 0x27
    static let readMultipleExtended: UInt8 = 0x29
    static let readLog: UInt8 = 0x2F
    static let writeSectors: UInt8 = 0x30
    static let writeSectorsAlways: UInt8 = 0x31
    static let writeSectorsExtended: UInt8 = 0x34
    static let writeDirectExtended: UInt8 = 0x35
    static let writeMultipleExtended: UInt8 = 0x39
    static let writeDirectForced: UInt8 = 0x3D
    static let readVerify: UInt8 = 0x40
    static let readVerifyAlways: UInt8 = 0x41
    static let readVerifyExtended: UInt8 = 0x42
    static let readLogDirect: UInt8 = 0x47
    static let readQueued: UInt8 = 0x60
    static let writeQueued: UInt8 = 0x61
    static let seek: UInt8 = 0x70
    static let diagnose: UInt8 = 0x90
    static let initializeParameters: UInt8 = 0x91
    static let smart: UInt8 = 0xB0
    static let readMultiple: UInt8 = 0xC4
    static let writeMultiple: UInt8 = 0xC5
    static let setMultiple: UInt8 = 0xC6
    static let readDirect: UInt8 = 0xC8
    static let readDirectAlways: UInt8 = 0xC9
    static let writeDirect: UInt8 = 0xCA
    static let writeDirectAlways: UInt8 = 0xCB
    static let writeMultipleForced: UInt8 = 0xCE
    static let standbyImmediate: UInt8 = 0xE0
    static let idleImmediate: UInt8 = 0xE1
    static let standby: UInt8 = 0xE2
    static let idle: UInt8 = 0xE3
    static let checkPower: UInt8 = 0xE5
    static let sleep: UInt8 = 0xE6
    static let flush: UInt8 = 0xE7
    static let flushExtended: UInt8 = 0xEA
    static let identify: UInt8 = 0xEC
    static let setFeatures: UInt8 = 0xEF
    static let readNativeMaximum: UInt8 = 0xF8
  }

  /// Commands that change or tell something and have no data.
  func control(_ command: ATACommand) -> ATAAnswer {
    switch command.code {
    case Operation.setFeatures: return setFeatures(command)
    case Operation.setMultiple:
      let count = UInt8(truncatingIfNeeded: command.count)
      guard count <= 16, count.nonzeroBitCount <= 1 else { return .aborted }
      state.withLock { $0.multiple = count }
      return .good
    case Operation.checkPower: return ATAAnswer(count: 0xFF)
    case Operation.readNativeMaximum:
      var answer = ATAAnswer.good
      let last = min(sectorCount, 1 << 28) &- 1
      answer.block = last & 0xFF_FFFF
      answer.device = 0x40 | UInt8(truncatingIfNeeded: last >> 24 & 0xF)
      return answer
    case Operation.readNativeMaximumExtended:
      return ATAAnswer(block: sectorCount &- 1, device: 0x40)
    // There is no motor: power modes change nothing that can be seen.
    case Operation.standbyImmediate...Operation.idle, Operation.sleep, 0x94...0x97, 0x99,
      Operation.seek, Operation.initializeParameters, 0x10...0x1F:
      return .good
    case 0x98: return ATAAnswer(count: 0xFF)
    default: return .aborted
    }
  }

  /// SET FEATURES (7.45).
  private func setFeatures(_ command: ATACommand) -> ATAAnswer {
    switch UInt8(truncatingIfNeeded: command.features) {
    case 0x02: state.withLock { $0.writesBack = true }
    case 0x82: state.withLock { $0.writesBack = false }
    case 0xAA: state.withLock { $0.looksAhead = true }
    case 0x55: state.withLock { $0.looksAhead = false }
    // Transfer mode; revert to defaults at reset or not: nothing here depends on them.
    case 0x03, 0x66, 0xCC: break
    default: return .aborted
    }
    return .good
  }

  // MARK: Logs

  private static let pageSize = 512

  /// READ LOG EXT (7.24): the directory and the error of a queued command.
  func readLog(_ command: ATACommand, _ transport: ATAProtocol) -> ATAWork {
    let page = command.block >> 8 & 0xFF | (command.block >> 32 & 0xFF) << 8
    guard command.count == 1, page == 0 else { return .done(.aborted) }
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    switch command.block & 0xFF {
    case 0x00:
      bytes[0] = 1
      bytes[2 * 0x10] = 1
    case 0x10: fillQueuedError(&bytes)
    default: return .done(.aborted)
    }
    return .send(bytes, transport)
  }

  /// Reading it ends the error (A.14).
  private func fillQueuedError(_ bytes: inout [UInt8]) {
    let error = state.withLock { state in
      defer { state.queuedError = nil }
      return state.queuedError
    }
    guard let error else {
      // The last error was not one of a queued command.
      bytes[0] = 0x80
      bytes.setChecksum()
      return
    }
    bytes[0] = error.tag
    bytes[2] = error.answer.status
    bytes[3] = error.answer.error
    for index in 0..<3 {
      bytes[4 + index] = UInt8(truncatingIfNeeded: error.answer.block >> (8 * UInt64(index)))
      bytes[8 + index] = UInt8(truncatingIfNeeded: error.answer.block >> (8 * UInt64(index) + 24))
    }
    bytes[7] = 0x40
    bytes.setChecksum()
  }

  // MARK: SMART

  private enum Health {
    static let readData: UInt8 = 0xD0
    static let readThresholds: UInt8 = 0xD1
    static let autosave: UInt8 = 0xD2
    static let executeTest: UInt8 = 0xD4
    static let readLog: UInt8 = 0xD5
    static let enable: UInt8 = 0xD8
    static let disable: UInt8 = 0xD9
    static let status: UInt8 = 0xDA
  }

  /// SMART (7.48): a disk that is always well.
  func health(_ command: ATACommand) -> ATAWork {
    let function = UInt8(truncatingIfNeeded: command.features)
    guard command.block >> 8 & 0xFFFF == 0xC24F else { return .done(.aborted) }
    if function == Health.enable {
      state.withLock { $0.monitorsHealth = true }
      return .done(.good)
    }
    guard state.withLock({ $0.monitorsHealth }) else { return .done(.aborted) }
    switch function {
    case Health.disable:
      state.withLock { $0.monitorsHealth = false }
      return .done(.good)
    case Health.autosave: return .done(.good)
    // Off-line collection and self-tests are done at once, and find nothing.
    case Health.executeTest: return .done(.good)
    case Health.status: return .done(ATAAnswer(block: 0xC24F << 8))
    case Health.readData: return .send(healthData(thresholds: false), .programmed)
    case Health.readThresholds: return .send(healthData(thresholds: true), .programmed)
    case Health.readLog:
      guard command.count & 0xFF == 1 else { return .done(.aborted) }
      var bytes = [UInt8](repeating: 0, count: Self.pageSize)
      switch command.block & 0xFF {
      case 0x00, 0x01: bytes[0] = 1
      case 0x06: bytes[0] = 1
      default: return .done(.aborted)
      }
      if command.block & 0xFF == 0 {
        bytes[2 * 0x01] = 1
        bytes[2 * 0x06] = 1
      } else {
        bytes.setChecksum()
      }
      return .send(bytes, .programmed)
    default: return .done(.aborted)
    }
  }

  /// Reallocated sectors, power cycles, pending sectors: none are, and nothing was.
  private func healthData(thresholds: Bool) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    bytes[0] = 0x10
    for (index, attribute) in [UInt8(5), 12, 197].enumerated() {
      let start = 2 + 12 * index
      bytes[start] = attribute
      if thresholds {
        bytes[start + 1] = 10
      } else {
        // Kept over power cycles, updated on line; normalized value and the worst so far.
        bytes[start + 1] = 0x32
        bytes[start + 3] = 100
        bytes[start + 4] = 100
      }
    }
    if !thresholds {
      bytes[362] = 0x82
      bytes[367] = 0x11
      bytes[368] = 0x02
      bytes[370] = 0x01
      bytes[372] = 1
      bytes[373] = 1
    }
    bytes.setChecksum()
    return bytes
  }
}

extension [UInt8] {
  /// Makes the sum of all bytes zero by the last one.
  mutating func setChecksum() {
    guard !isEmpty else { return }
    self[count - 1] = 0
    self[count - 1] = 0 &- reduce(0, &+)
  }
}
