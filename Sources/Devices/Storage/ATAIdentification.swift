// IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA/ATAPI Command Set 2, 7.16 and 7.17): 256 words about a device.

import Synchronization

/// 256 words under construction.
struct ATAIdentification {
  private var words = [UInt16](repeating: 0, count: 256)

  subscript(index: Int) -> UInt16 {
    get { words[index] }
    set { words[index] = newValue }
  }

  /// Stores a number, low word first.
  mutating func set(_ value: UInt64, at index: Int, count: Int) {
    for offset in 0..<count {
      words[index + offset] = UInt16(truncatingIfNeeded: value >> (16 * UInt64(offset)))
    }
  }

  /// Stores text, padded with blanks: the first character of a word is in its upper half.
  mutating func set(_ text: String, at index: Int, count: Int) {
    var bytes = text.utf8.prefix(2 * count).map { $0 >= 0x20 && $0 < 0x7F ? $0 : 0x20 }
    bytes += [UInt8](repeating: 0x20, count: 2 * count - bytes.count)
    for offset in 0..<count {
      words[index + offset] = UInt16(bytes[2 * offset]) << 8 | UInt16(bytes[2 * offset + 1])
    }
  }

  /// What disks and packet devices have in common.
  mutating func setCommon(model: String, serial: String) {
    set(serial, at: 10, count: 10)
    set("1.0", at: 23, count: 4)
    set(model, at: 27, count: 20)
    // Direct transfers and block addresses; IORDY.
    words[49] = 0x0F00
    // Words 64 to 70 and 88 are valid; multiword modes 0 to 2, programmed modes 3 and 4, 120 ns each.
    words[53] = 0x0006
    words[63] = 0x0007
    words[64] = 0x0003
    for index in 65...68 { words[index] = 120 }
    // ATA/ATAPI-4 to ACS-2.
    words[80] = 0x03F0
    // Ultra mode 5 is selected, up to 5 are there.
    words[88] = 0x203F
    // Serial, up to Serial ATA 3.0.
    words[222] = 0x103F
  }

  /// The same about a drive on a parallel cable behind a PIIX3: no queue, no serial link, multiword mode 2.
  static func parallel(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count == 512 else { return bytes }
    var data = ATAIdentification()
    for index in 0..<256 {
      data[index] = UInt16(bytes[2 * index]) | UInt16(bytes[2 * index + 1]) << 8
    }
    for index in 75...79 { data[index] = 0 }
    data[53] &= ~4
    data[63] = 0x0407
    data[88] = 0
    data[222] = 0
    return data.bytes
  }

  /// The bytes, ended by signature and checksum.
  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(512)
    for word in words { bytes.append(littleEndian: word) }
    bytes[510] = 0xA5
    bytes.setChecksum()
    return bytes
  }
}

extension ATADisk {
  var identification: [UInt8] {
    let state = state.withLock { $0 }
    var data = ATAIdentification()
    data.setCommon(model: "UNDERJACK DISK", serial: serial)
    data[0] = 0x0040
    setCapacity(&data)
    // Up to 16 sectors between two interrupts of READ MULTIPLE.
    data[47] = 0x8010
    data[50] = 0x4000
    data[53] |= 1
    data[59] = state.multiple > 0 ? 0x0100 | UInt16(state.multiple) : 0
    // Queues 32 commands; generations 1 to 3 of the link, of which the third is used.
    data[75] = 31
    data[76] = 0x010E
    data[77] = 0x0006
    setFeatures(&data, state)
    // A sector on the medium is 8 of those that are addressed; the first begins one.
    data[106] = 0x6003
    data[209] = 0x4000
    // World-wide name: a local assignment out of the serial number.
    data.set(worldWideName, at: 108, count: 4)
    // No rotation.
    data[217] = 1
    return data.bytes
  }

  private func setCapacity(_ data: inout ATAIdentification) {
    let sectors = sectorCount
    let cylinders = UInt16(min(sectors / (16 * 63), 16_383))
    data[1] = cylinders
    data[3] = 16
    data[6] = 63
    data[54] = cylinders
    data[55] = 16
    data[56] = 63
    data.set(UInt64(cylinders) * 16 * 63, at: 57, count: 2)
    data.set(min(sectors, (1 << 28) - 1), at: 60, count: 2)
    data.set(sectors, at: 100, count: 4)
  }

  private func setFeatures(_ data: inout ATAIdentification, _ state: State) {
    // Health, power management, write cache, look-ahead.
    data[82] = 0x0069
    // FLUSH CACHE and its extended form, 48-bit addresses.
    data[83] = 0x7400
    // World-wide name, forced unit access, logs.
    data[84] = 0x4160
    data[85] =
      0x0008 | (state.monitorsHealth ? 1 : 0) | (state.writesBack ? 0x20 : 0)
      | (state.looksAhead ? 0x40 : 0)
    data[86] = 0x3400
    data[87] = 0x4160
    if !disk.isReadOnly {
      data[105] = Self.rangeBlockLimit
      data[169] = 1
    }
  }

  /// NAA 3 (locally assigned), words in the order of IDENTIFY: the most significant first.
  private var worldWideName: UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in serial.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    let name = 0x3 << 60 | hash >> 4
    return name >> 48 | name >> 16 & 0xFFFF_0000 | name << 16 & 0xFFFF_0000_0000 | name << 48
  }
}
