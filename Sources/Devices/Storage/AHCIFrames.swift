// What passes through guest memory between driver and port: command headers and tables, and the frames that a port
// receives from its device (Serial ATA AHCI 1.3.1, chapter 4; Serial ATA 2.6, 10.3).

import CLinux
import GuestMemory

/// One entry of the command list (4.2.2), read once.
struct AHCICommandHeader {
  static let size: UInt64 = 32
  private static let tableHead: UInt64 = 0x80
  private static let packetOffset = 0x40

  let command: ATACommand
  let packet: SCSICommand
  /// The last word of a descriptor asked for an interrupt.
  private(set) var signalsDescriptors = false
  let clearsBusy: Bool
  /// Where the header stands.
  private let header: UnsafeMutableRawPointer
  private let descriptors: UnsafeMutableRawPointer
  private let descriptorCount: Int

  enum Failure: Error {
    /// The header or the table is not in RAM.
    case address
    /// There is no command that a host may send.
    case frame
    /// Data is not in RAM.
    case dataAddress
  }

  /// Reads header, frame and packet of a slot.
  init(slot: UInt32, list: UInt64, memory: GuestMemory) throws(Failure) {
    let offset = UInt64(slot) * Self.size
    guard let header = memory.pointer(at: GuestAddress(list &+ offset), count: Self.size) else {
      throw .address
    }
    let flags = UInt64(littleEndian: linux_load_once_64(header))
    let table = UInt64(littleEndian: linux_load_once_64(header + 8)) & ~0x7F
    self.header = header
    descriptorCount = Int(flags >> 16 & 0xFFFF)
    clearsBusy = flags & 1 << 10 != 0
    let length = Self.tableHead + 16 * UInt64(descriptorCount)
    guard let start = memory.pointer(at: GuestAddress(table), count: length) else { throw .address }
    descriptors = start + Int(Self.tableHead)
    // Five double words make the frame of a command.
    guard flags & 0x1F >= 5,
      let command = ATACommand(
        low: UInt64(littleEndian: linux_load_once_64(start)),
        high: UInt64(littleEndian: linux_load_once_64(start + 8)))
    else { throw .frame }
    self.command = command
    var bytes = (
      linux_load_once_64(start + Self.packetOffset),
      linux_load_once_64(start + Self.packetOffset + 8)
    )
    packet = withUnsafeBytes(of: &bytes) { SCSICommand(UnsafeRawBufferPointer($0)) }
  }

  /// Collects the places of up to `limit` bytes of data.
  mutating func read(
    into list: ScatterList, limit: UInt64, memory: GuestMemory
  ) throws(Failure) {
    list.removeAll()
    for index in 0..<descriptorCount where list.byteCount < limit {
      let address = UInt64(littleEndian: linux_load_once_64(descriptors + 16 * index)) & ~1
      let rest = UInt64(littleEndian: linux_load_once_64(descriptors + 16 * index + 8))
      // Bytes less one, of which bit 0 is always set.
      let length = (rest >> 32 & 0x3F_FFFF | 1) + 1
      if rest >> 63 != 0 { signalsDescriptors = true }
      guard let pointer = memory.pointer(at: GuestAddress(address), count: length) else {
        throw .dataAddress
      }
      list.append(pointer, count: Int(length))
    }
    list.limit(to: limit)
  }

  /// Bytes that were moved: the second double word of the header.
  func setTransferred(_ count: UInt64, memory: GuestMemory) {
    linux_store_relaxed_32(header + 4, UInt32(clamping: count).littleEndian)
    memory.markDirty(host: header + 4, count: 4)
  }
}

/// Frames from device to host.
enum AHCIFrame {
  private static let programmedSetupOffset: UInt64 = 0x20
  private static let registersOffset: UInt64 = 0x40
  private static let deviceBitsOffset: UInt64 = 0x58
  private static let interrupts: UInt64 = 1 << 14

  /// Register FIS.
  static func storeRegisters(
    _ answer: ATAAnswer, interrupts: Bool, at area: UInt64, memory: GuestMemory
  ) -> Bool {
    let low =
      0x34 | (interrupts ? Self.interrupts : 0) | UInt64(answer.status) << 16
      | UInt64(answer.error) << 24 | (answer.block & 0xFF_FFFF) << 32
      | UInt64(answer.device) << 56
    let high = answer.block >> 24 & 0xFF_FFFF | UInt64(answer.count) << 32
    return store(low, high, 0, count: 20, at: area &+ registersOffset, memory)
  }

  /// PIO Setup FIS of data to the host.
  static func storeProgrammedSetup(
    _ answer: ATAAnswer, count: UInt64, toHost: Bool, at area: UInt64, memory: GuestMemory
  ) -> Bool {
    let before = answer.status | ATAAnswer.Status.dataRequest
    let low =
      0x5F | interrupts | (toHost ? 1 << 13 : 0) | UInt64(before) << 16
      | UInt64(answer.error) << 24 | (answer.block & 0xFF_FFFF) << 32
      | UInt64(answer.device) << 56
    let high =
      answer.block >> 24 & 0xFF_FFFF | UInt64(answer.count) << 32 | UInt64(answer.status) << 56
    let length = UInt16(truncatingIfNeeded: count)
    return store(low, high, UInt32(length), count: 20, at: area &+ programmedSetupOffset, memory)
  }

  /// Set Device Bits FIS: queued commands that are done.
  static func storeDeviceBits(
    status: UInt8, error: UInt8, done: UInt32, at area: UInt64, memory: GuestMemory
  ) -> Bool {
    let low =
      0xA1 | interrupts | UInt64(status & 0x77) << 16 | UInt64(error) << 24 | UInt64(done) << 32
    return store(low, 0, 0, count: 8, at: area &+ deviceBitsOffset, memory)
  }

  private static func store(
    _ low: UInt64, _ high: UInt64, _ last: UInt32, count: Int, at address: UInt64,
    _ memory: GuestMemory
  ) -> Bool {
    guard let target = memory.pointer(at: GuestAddress(address), count: UInt64(count)) else {
      return false
    }
    var frame = (low.littleEndian, high.littleEndian, last.littleEndian)
    withUnsafeBytes(of: &frame) { bytes in
      if let source = bytes.baseAddress { memcpy(target, source, count) }
    }
    memory.markDirty(host: target, count: count)
    return true
  }
}
