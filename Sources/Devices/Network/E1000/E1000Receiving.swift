// What the receiver's registers say (Intel 317453, 13.4.22, 13.5): which frames are wanted and how they are laid down.

extension E1000Registers {
  private enum Receive {
    static let enable: UInt32 = 1 << 1
    static let allUnicast: UInt32 = 1 << 3
    static let allMulticast: UInt32 = 1 << 4
    static let longFrames: UInt32 = 1 << 5
    static let broadcast: UInt32 = 1 << 15
    static let filterNetworks: UInt32 = 1 << 18
    static let extendedSize: UInt32 = 1 << 25
    static let stripChecksum: UInt32 = 1 << 26
  }

  /// Without long frames: a tag before the largest packet of the wire, and the checksum.
  private static let longestFrame = 1522 - 4

  private var receive: UInt32 { self[Offset.receiveControl] }

  var receives: Bool { receive & Receive.enable != 0 }
  var stripsChecksum: Bool { receive & Receive.stripChecksum != 0 }
  var separatesTags: Bool { self[Offset.control] & Control.tags != 0 }
  var tagType: UInt16 { UInt16(truncatingIfNeeded: self[Offset.tagType]) }

  /// Bytes of each buffer.
  var bufferSize: Int {
    let code = Int(receive >> 16 & 3)
    return receive & Receive.extendedSize != 0 && code > 0 ? 32_768 >> code : 2048 >> code
  }

  /// RDMTS: the low-water mark is a half, a quarter or an eighth of the ring.
  var lowThreshold: UInt32 { min(receive >> 8 & 3, 2) }

  /// Bits of a descriptor's status: checksums that were looked at and are right, or that nobody looked at.
  func checksumStatus(_ header: NetworkHeader, isPlain: Bool) -> UInt64 {
    let wanted = self[Offset.receiveChecksums]
    guard header.isValid || header.needsChecksum, isPlain else { return 0x04 }
    let status: UInt64 = (wanted & 1 << 8 != 0 ? 0x40 : 0) | (wanted & 1 << 9 != 0 ? 0x20 : 0)
    return status == 0 ? 0x04 : status
  }

  func accepts(_ frame: UnsafeRawBufferPointer) -> Bool {
    guard frame.count >= 14, let base = frame.baseAddress else { return false }
    if frame.count > Self.longestFrame && receive & Receive.longFrames == 0 { return false }
    if receive & Receive.filterNetworks != 0, frame.count >= 18,
      UInt16(frame[12]) << 8 | UInt16(frame[13]) == tagType
    {
      let number = Int(frame[14] & 0x0F) << 8 | Int(frame[15])
      let word = self[Offset.networkTable.lowerBound + 4 * (number >> 5)]
      guard word >> UInt32(number & 31) & 1 != 0 else { return false }
    }
    let target = HardwareAddress(base.assumingMemoryBound(to: UInt8.self))
    if target.isBroadcast { return receive & Receive.broadcast != 0 }
    if target.isMulticast {
      return receive & Receive.allMulticast != 0 || isInTable(target) || isListed(target)
    }
    return receive & Receive.allUnicast != 0 || isListed(target)
  }

  /// The sixteen exact addresses.
  private func isListed(_ target: HardwareAddress) -> Bool {
    for index in 0..<16 {
      let high = self[Offset.addresses.lowerBound + 8 * index + 4]
      guard high & 1 << 31 != 0 else { continue }
      let low = self[Offset.addresses.lowerBound + 8 * index]
      let wire = UInt64(low) | UInt64(high & 0xFFFF) << 32
      if wire.byteSwapped >> 16 == target.value { return true }
    }
    return false
  }

  /// The table of 4096 bits, by twelve bits of the address's last two bytes.
  private func isInTable(_ target: HardwareAddress) -> Bool {
    let last =
      UInt32(truncatingIfNeeded: target.value >> 8 & 0xFF)
      | UInt32(truncatingIfNeeded: target.value & 0xFF) << 8
    let shift: UInt32 = [4, 3, 2, 0][Int(receive >> 12 & 3)]
    let hash = last >> shift & 0xFFF
    return self[Offset.multicastTable.lowerBound + 4 * Int(hash >> 5)] >> (hash & 31) & 1 != 0
  }
}
