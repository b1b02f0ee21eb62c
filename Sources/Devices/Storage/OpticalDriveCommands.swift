// Commands of an optical drive that answer with a description (SPC-4 chapter 6, MMC-6 chapter 6).

import Synchronization

extension OpticalDrive {
  enum Operation {
    static let testUnitReady: UInt8 = 0x00
    static let requestSense: UInt8 = 0x03
    static let read6: UInt8 = 0x08
    static let inquiry: UInt8 = 0x12
    static let modeSense6: UInt8 = 0x1A
    static let startStopUnit: UInt8 = 0x1B
    static let preventAllow: UInt8 = 0x1E
    static let readCapacity10: UInt8 = 0x25
    static let read10: UInt8 = 0x28
    static let seek10: UInt8 = 0x2B
    static let verify10: UInt8 = 0x2F
    static let synchronizeCache: UInt8 = 0x35
    static let readContents: UInt8 = 0x43
    static let getConfiguration: UInt8 = 0x46
    static let getEventStatus: UInt8 = 0x4A
    static let readDiscInformation: UInt8 = 0x51
    static let modeSense10: UInt8 = 0x5A
    static let read16: UInt8 = 0x88
    static let serviceActionIn: UInt8 = 0x9E
    static let reportUnits: UInt8 = 0xA0
    static let read12: UInt8 = 0xA8
    static let setSpeed: UInt8 = 0xBB
    static let mechanismStatus: UInt8 = 0xBD
    static let readCD: UInt8 = 0xBE

    static let needingMedium: Set<UInt8> = [
      testUnitReady, read6, readCapacity10, read10, seek10, verify10, readContents,
      readDiscInformation, read16, serviceActionIn, read12, readCD,
    ]
  }

  /// More blocks than any CD holds (90 minutes): a DVD.
  private static let largestCD: UInt64 = 90 * 60 * 75

  private static func text(_ string: String, _ count: Int) -> [UInt8] {
    let bytes = string.utf8.prefix(count).map { $0 >= 0x20 && $0 < 0x7F ? $0 : 0x20 }
    return bytes + [UInt8](repeating: 0x20, count: count - bytes.count)
  }

  private func limited(_ bytes: [UInt8], _ length: UInt32) -> SCSIOutcome {
    .data([UInt8](bytes.prefix(Int(length))))
  }

  // MARK: SPC

  func inquiry(_ command: SCSICommand, unit: UInt16) -> SCSIOutcome {
    let length = command.word(3)
    // Qualifier 3, type 31: no such unit.
    let type: UInt8 = unit == 0 ? 0x05 : 0x7F
    guard command[1] & 1 != 0 else {
      guard command[2] == 0 else { return .failed(.invalidField) }
      var bytes: [UInt8] = [type, 0x80, 0x05, 0x02, 31, 0, 0, 0x02]
      bytes += Self.text("UNDRJACK", 8) + Self.text("CD-ROM", 16) + Self.text("1.0", 4)
      return limited(bytes, length)
    }
    let page: [UInt8]
    switch command[2] {
    case 0x00: page = [0x00, 0x80, 0x83]
    case 0x80: page = Self.text(serial, min(serial.utf8.count, 36))
    case 0x83:
      let name = Self.text("UNDRJACK", 8) + Self.text(serial, min(serial.utf8.count, 36))
      // ASCII, T10 vendor identification, of the unit.
      page = [0x02, 0x01, 0, UInt8(name.count)] + name
    default: return .failed(.invalidField)
    }
    return limited([type, command[2], 0, UInt8(page.count)] + page, length)
  }

  func reportUnits(_ command: SCSICommand) -> SCSIOutcome {
    guard command[2] <= 2 else { return .failed(.invalidField) }
    // One unit, number 0; none is well known.
    let count: UInt8 = command[2] == 1 ? 0 : 1
    let bytes = [0, 0, 0, 8 * count, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 8 * Int(count))
    return limited(bytes, command.double(6))
  }

  /// Sense goes with the command that failed; what is left is a unit attention that nobody has seen.
  func requestSense(_ command: SCSICommand, unit: UInt16) -> SCSIOutcome {
    guard unit == 0 else { return limited(SCSISense.unitNotSupported.bytes, UInt32(command[4])) }
    let attention = guarded.withLock { state in
      defer { state.attention = nil }
      return state.attention
    }
    return limited((attention ?? SCSISense.none).bytes, UInt32(command[4]))
  }

  func modeSense(_ command: SCSICommand, isLong: Bool) -> SCSIOutcome {
    let length = isLong ? command.word(7) : UInt32(command[4])
    guard command[2] >> 6 != 3 else { return .failed(.savingNotSupported) }
    // Changeable values: none.
    let isMask = command[2] >> 6 == 1
    let wanted = command[2] & 0x3F
    var pages: [UInt8] = []
    for page in [errorRecoveryPage, capabilitiesPage]
    where wanted == 0x3F || wanted == page[0] {
      pages += isMask ? [page[0], page[1]] + [UInt8](repeating: 0, count: page.count - 2) : page
    }
    guard !pages.isEmpty else { return .failed(.invalidField) }
    if isLong {
      let count = UInt16(pages.count + 6)
      return limited([UInt8(count >> 8), UInt8(count & 0xFF), 0, 0, 0, 0, 0, 0] + pages, length)
    }
    return limited([UInt8(pages.count + 3), 0, 0, 0] + pages, length)
  }

  private var errorRecoveryPage: [UInt8] { [0x01, 10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0] }

  /// C/DVD capabilities and mechanical status (MMC-3, 5.5.10).
  private var capabilitiesPage: [UInt8] {
    let isLocked = guarded.withLock { $0.isLocked }
    var page: [UInt8] = [0x2A, 20]
    // Reads CD-R, CD-RW and DVD-ROM; multiple sessions.
    page += [0x0B, 0x00, 0x40, 0x00]
    // Tray; ejects; can lock; locked now.
    page += [0x29 | (isLocked ? 2 : 0), 0x00]
    // 50 times CD speed, no audio volume levels, 512 KiB buffer.
    page += [0x22, 0x5C, 0x00, 0x02, 0x02, 0x00, 0x22, 0x5C]
    page += [0, 0, 0, 0, 0, 0]
    return page
  }

  // MARK: Capacity

  func readCapacity10(_ blocks: UInt64) -> SCSIOutcome {
    let last = UInt32(clamping: blocks == 0 ? 0 : blocks - 1)
    return .data(Self.bigEndian(last) + Self.bigEndian(UInt32(Self.blockSize)))
  }

  func readCapacity16(_ command: SCSICommand, _ blocks: UInt64) -> SCSIOutcome {
    let last = blocks == 0 ? 0 : blocks - 1
    let bytes =
      Self.bigEndian(last) + Self.bigEndian(UInt32(Self.blockSize))
      + [UInt8](repeating: 0, count: 20)
    return limited(bytes, command.double(10))
  }

  // MARK: MMC

  /// READ TOC/PMA/ATIP (6.22): one data track in one session.
  func readContents(_ command: SCSICommand, _ blocks: UInt64) -> SCSIOutcome {
    let isTime = command[1] & 2 != 0
    let length = command.word(7)
    // The format once stood in the control byte.
    let format = command[2] & 0xF != 0 ? command[2] & 0xF : command[9] >> 6
    let end = UInt32(clamping: blocks)
    func descriptor(_ track: UInt8, _ block: UInt32) -> [UInt8] {
      [0, 0x14, track, 0] + (isTime ? [0] + Self.time(block) : Self.bigEndian(block))
    }
    switch format {
    case 0:
      let start = command[6]
      guard start <= 1 || start == 0xAA else { return .failed(.invalidField) }
      let tracks = (start <= 1 ? descriptor(1, 0) : []) + descriptor(0xAA, end)
      return limited([0, UInt8(tracks.count + 2), 1, 1] + tracks, length)
    case 1: return limited([0, 10, 1, 1] + descriptor(1, 0), length)
    case 2:
      // Points A0 and A1: first and last track; A2: lead-out; then the track.
      func point(_ number: UInt8, _ time: [UInt8]) -> [UInt8] {
        [1, 0x14, 0, number, 0, 0, 0, 0] + time
      }
      let points =
        point(0xA0, [1, 0, 0]) + point(0xA1, [1, 0, 0]) + point(0xA2, Self.time(end))
        + point(1, Self.time(0))
      return limited([0, UInt8(points.count + 2), 1, 1] + points, length)
    default: return .failed(.invalidField)
    }
  }

  /// Minute, second and frame of a block: 75 frames a second, after a lead-in of two seconds.
  private static func time(_ block: UInt32) -> [UInt8] {
    let frames = UInt64(block) + 150
    let minutes = UInt8(clamping: frames / (60 * 75))
    return [minutes, UInt8(frames / 75 % 60), UInt8(frames % 75)]
  }

  /// GET CONFIGURATION (6.5): profiles and features.
  func getConfiguration(_ command: SCSICommand) -> SCSIOutcome {
    let requested = command[1] & 3
    guard requested != 3 else { return .failed(.invalidField) }
    let medium = guarded.withLock { $0.medium }
    let isDVD = (medium?.size ?? 0) / Self.blockSize > Self.largestCD
    let profile: UInt16 = medium == nil ? 0 : isDVD ? 0x10 : 0x08
    let isReadable = medium != nil
    func profileEntry(_ number: UInt8) -> [UInt8] {
      [0, number, UInt16(number) == profile ? 1 : 0, 0]
    }
    // (number, current, whole feature descriptor)
    let features: [(number: UInt16, isCurrent: Bool, body: [UInt8])] = [
      (0x0000, true, profileEntry(0x10) + profileEntry(0x08)),
      // Core: ATAPI-like physical interface, device busy events.
      (0x0001, true, [0, 0, 0, 1, 1, 0, 0, 0]),
      // Removable medium: tray, ejects, locks.
      (0x0003, true, [0x29, 0, 0, 0]),
      // Random readable: block size, one block at a time.
      (0x0010, isReadable, Self.bigEndian(UInt32(Self.blockSize)) + [0, 1, 0, 0]),
      (0x001E, isReadable && !isDVD, [0, 0, 0, 0]),
      (0x001F, isReadable && isDVD, [0, 0, 0, 0]),
    ]
    let start = UInt16(truncatingIfNeeded: command.word(2))
    var list: [UInt8] = []
    for feature in features {
      switch requested {
      case 0 where feature.number < start: continue
      case 1 where feature.number < start || !feature.isCurrent: continue
      case 2 where feature.number != start: continue
      default: break
      }
      let isPersistent = feature.number < 4 && feature.number != 0
      let version: UInt8 = feature.number == 1 ? 2 << 2 : 0
      list += [UInt8(feature.number >> 8), UInt8(feature.number & 0xFF)]
      list += [
        version | (isPersistent || feature.number == 0 ? 2 : 0) | (feature.isCurrent ? 1 : 0)
      ]
      list += [UInt8(feature.body.count)] + feature.body
    }
    let header =
      Self.bigEndian(UInt32(list.count + 4)) + [0, 0, UInt8(profile >> 8), UInt8(profile & 0xFF)]
    return limited(header + list, command.word(7))
  }

  /// GET EVENT STATUS NOTIFICATION (6.7): media events, polled.
  func getEventStatus(_ command: SCSICommand) -> SCSIOutcome {
    guard command[1] & 1 != 0 else { return .failed(.invalidField) }
    let media: UInt8 = 1 << 4
    guard command[4] & media != 0 else {
      // No event available, and what would be.
      return limited([0, 2, 0x80, media], command.word(7))
    }
    let (event, status) = guarded.withLock { state in
      defer { state.event = .none }
      return (state.event, UInt8(state.isOpen ? 1 : 0) | (state.medium != nil ? 2 : 0))
    }
    return limited([0, 6, 4, media, event.rawValue, status, 0, 0], command.word(7))
  }

  func mechanismStatus(_ command: SCSICommand) -> SCSIOutcome {
    let isOpen = guarded.withLock { $0.isOpen }
    return limited([0, isOpen ? 0x10 : 0, 0, 0, 0, 0, 0, 0], command.word(8))
  }

  /// READ DISC INFORMATION (6.21), standard: a finished disc with one session.
  func readDiscInformation(_ command: SCSICommand) -> SCSIOutcome {
    guard command[1] & 7 == 0 else { return .failed(.invalidField) }
    var bytes: [UInt8] = [0, 32, 0x0E, 1, 1, 1, 1, 0x20]
    bytes += [UInt8](repeating: 0, count: 34 - bytes.count)
    return limited(bytes, command.word(7))
  }

  private static func bigEndian<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    (0..<MemoryLayout<Value>.size).reversed().map {
      UInt8(truncatingIfNeeded: value >> Value(8 * $0))
    }
  }
}
