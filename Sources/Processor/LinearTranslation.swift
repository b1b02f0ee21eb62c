// From a linear address to a physical one, as a processor's tables have it (Intel SDM 3A, chapter 4), without setting
// accessed bits or raising faults: for whoever looks at a guest from outside.

import GuestMemory

extension ProcessorState {
  /// Physical addresses have 52 bits at most.
  private static let frameMask: UInt64 = 0x000F_FFFF_FFFF_F000
  private static let present: UInt64 = 1
  private static let large: UInt64 = 1 << 7
  /// CR4.PSE and CR4.LA57.
  private static let largePages32: UInt64 = 1 << 4
  private static let fiveLevels: UInt64 = 1 << 12

  /// Where a linear address is; nil where nothing is mapped. Rights are not looked at.
  public func physicalAddress(of linear: UInt64, in memory: GuestMemory) -> GuestAddress? {
    guard control0 & ControlBits.protection != 0, control0 & ControlBits.paging != 0 else {
      return GuestAddress(linear & 0xFFFF_FFFF)
    }
    if extendedFeatures & ControlBits.longModeActive != 0 {
      let levels = control4 & Self.fiveLevels != 0 ? 5 : 4
      // A sign-extended address, or none.
      let unused = UInt64(64 - (levels == 5 ? 57 : 48))
      guard UInt64(bitPattern: Int64(bitPattern: linear << unused) >> Int64(unused)) == linear
      else { return nil }
      return walk(linear, table: control3 & Self.frameMask, levels: levels, memory)
    }
    let linear = linear & 0xFFFF_FFFF
    if control4 & ControlBits.physicalAddressExtension != 0 {
      return walkThreeLevels(linear, memory)
    }
    return walkTwoLevels(linear, memory)
  }

  /// Tables of 512 entries of 8 bytes, from the highest of `levels` down.
  private func walk(
    _ linear: UInt64, table: UInt64, levels: Int, _ memory: GuestMemory
  ) -> GuestAddress? {
    var table = table
    for level in stride(from: levels - 1, through: 0, by: -1) {
      let shift = UInt64(12 + 9 * level)
      let place = GuestAddress(table &+ (linear >> shift & 511) * 8)
      guard let entry = memory.load(UInt64.self, at: place), entry & Self.present != 0 else {
        return nil
      }
      // 1 GiB and 2 MiB.
      if level == 0 || level <= 2 && entry & Self.large != 0 {
        let inside = (UInt64(1) << shift) - 1
        return GuestAddress(entry & Self.frameMask & ~inside | linear & inside)
      }
      table = entry & Self.frameMask
    }
    return nil
  }

  private func walkThreeLevels(_ linear: UInt64, _ memory: GuestMemory) -> GuestAddress? {
    let number = Int(linear >> 30)
    let pointer =
      pageDirectoryPointers.count == 4
      ? pageDirectoryPointers[number]
      : memory.load(UInt64.self, at: GuestAddress(control3 & 0xFFFF_FFE0 &+ UInt64(number) * 8))
    guard let pointer, pointer & Self.present != 0 else { return nil }
    return walk(linear, table: pointer & Self.frameMask, levels: 2, memory)
  }

  private func walkTwoLevels(_ linear: UInt64, _ memory: GuestMemory) -> GuestAddress? {
    let directory = GuestAddress(control3 & 0xFFFF_F000 &+ (linear >> 22) * 4)
    guard let first = memory.load(UInt32.self, at: directory), first & 1 != 0 else { return nil }
    let entry = UInt64(first)
    if control4 & Self.largePages32 != 0, entry & Self.large != 0 {
      // PSE-36: bits 39 to 32 of the address are bits 20 to 13 of the entry.
      let high = (entry >> 13 & 0xFF) << 32
      return GuestAddress(high | entry & 0xFFC0_0000 | linear & 0x3F_FFFF)
    }
    let place = GuestAddress(entry & 0xFFFF_F000 &+ (linear >> 12 & 1023) * 4)
    guard let second = memory.load(UInt32.self, at: place), second & 1 != 0 else { return nil }
    return GuestAddress(UInt64(second) & 0xFFFF_F000 | linear & 0xFFF)
  }
}
