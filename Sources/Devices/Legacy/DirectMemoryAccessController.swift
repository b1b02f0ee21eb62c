/// One 8237A DMA controller with four channels (Intel 8237A data sheet, 231466-005).
package struct DMA8237A: Codable, Sendable, Equatable {
  package enum Register {
    /// 0 to 7: address and count of the channels, low byte first by the flip-flop.
    package static let channels: ClosedRange<UInt64> = 0...7
    /// Status (read), command (write).
    package static let command: UInt64 = 8
    package static let request: UInt64 = 9
    package static let singleMask: UInt64 = 10
    package static let mode: UInt64 = 11
    package static let clearFlipFlop: UInt64 = 12
    /// Temporary register (read), master clear (write).
    package static let masterClear: UInt64 = 13
    package static let clearMask: UInt64 = 14
    package static let allMasks: UInt64 = 15
  }

  /// A channel as the device that uses it sees it.
  package struct Channel: Codable, Sendable, Equatable {
    package var baseAddress: UInt16 = 0
    package var baseCount: UInt16 = 0
    package var address: UInt16 = 0
    /// One less than the transfers that are left.
    package var count: UInt16 = 0
    /// Bits 7 and 6 demand, single, block or cascade; 5 down; 4 auto-initialize; 3 and 2 verify, write, read.
    package var mode: UInt8 = 0

    package var decrements: Bool { mode & 0x20 != 0 }
    package var reloads: Bool { mode & 0x10 != 0 }
  }

  package private(set) var channels = Array(repeating: Channel(), count: 4)
  private var command: UInt8 = 0
  /// Bits 3 to 0 terminal count, 7 to 4 requests.
  private var status: UInt8 = 0
  package private(set) var mask: UInt8 = 0x0F
  private var highByte = false

  package init() {}

  package mutating func read(_ register: UInt64) -> UInt8 {
    switch register {
    case Register.channels:
      let channel = channels[Int(register / 2)]
      return half(register & 1 == 0 ? channel.address : channel.count)
    case Register.command:
      // Reading the status clears the terminal counts.
      defer { status &= 0xF0 }
      return status
    case Register.masterClear: return 0
    case Register.allMasks: return mask | 0xF0
    default: return 0xFF
    }
  }

  private mutating func half(_ value: UInt16) -> UInt8 {
    defer { highByte.toggle() }
    return UInt8(truncatingIfNeeded: highByte ? value >> 8 : value)
  }

  package mutating func write(_ register: UInt64, _ value: UInt8) {
    let bit = UInt8(1) << (value & 3)
    switch register {
    case Register.channels: writeChannel(Int(register / 2), isCount: register & 1 != 0, value)
    case Register.command: command = value
    case Register.request:
      if value & 4 != 0 { status |= bit << 4 } else { status &= ~(bit << 4) }
    case Register.singleMask: if value & 4 != 0 { mask |= bit } else { mask &= ~bit }
    case Register.mode: channels[Int(value & 3)].mode = value & 0xFC
    case Register.clearFlipFlop: highByte = false
    case Register.masterClear:
      command = 0
      status = 0
      highByte = false
      mask = 0x0F
    case Register.clearMask: mask = 0
    case Register.allMasks: mask = value & 0x0F
    default: break
    }
  }

  private mutating func writeChannel(_ index: Int, isCount: Bool, _ value: UInt8) {
    func merged(_ old: UInt16) -> UInt16 {
      highByte ? old & 0x00FF | UInt16(value) << 8 : old & 0xFF00 | UInt16(value)
    }
    if isCount {
      channels[index].baseCount = merged(channels[index].baseCount)
      channels[index].count = channels[index].baseCount
    } else {
      channels[index].baseAddress = merged(channels[index].baseAddress)
      channels[index].address = channels[index].baseAddress
    }
    highByte.toggle()
  }

  /// Whether a device may transfer: enabled, not masked, not a cascade.
  package func isReady(_ index: Int) -> Bool {
    channels.indices.contains(index) && command & 4 == 0 && mask >> UInt8(index) & 1 == 0
      && channels[index].mode >> 6 != 3
  }

  /// The device has moved `count` units. True: the terminal count was reached.
  package mutating func transferred(_ index: Int, count: UInt16) -> Bool {
    guard isReady(index), count > 0 else { return false }
    let left = UInt32(channels[index].count) + 1
    let moved = UInt16(truncatingIfNeeded: min(UInt32(count), left))
    if channels[index].decrements {
      channels[index].address &-= moved
    } else {
      channels[index].address &+= moved
    }
    channels[index].count &-= moved
    guard UInt32(count) >= left else { return false }
    status |= 1 << UInt8(index)
    if channels[index].reloads {
      channels[index].address = channels[index].baseAddress
      channels[index].count = channels[index].baseCount
    } else {
      mask |= 1 << UInt8(index)
    }
    return true
  }

  mutating func normalize() {
    channels = Array((channels + Array(repeating: Channel(), count: 4)).prefix(4))
  }
}

/// The two DMA controllers of a PC with the page registers (Intel 82371AB data sheet, 4.1.1): channels 0 to 3 move
/// bytes, 5 to 7 words, 4 is the cascade. The board has no device that uses them; software still programs them.
package struct DirectMemoryAccessController: ByteWideChip, Snapshottable, Codable, Equatable {
  package static let stateVersion = 1

  /// Ports and their offsets: those of the port numbers themselves.
  package static let ports: [(port: UInt16, count: Int, offset: UInt64)] = [
    (0x00, 16, 0x00), (0x80, 16, 0x80), (0xC0, 32, 0xC0),
  ]

  /// Page registers by channel, as offsets from port 0x80; channel 4's is that of refresh.
  private static let pageOfChannel: [Int] = [0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA]

  private var bytes = DMA8237A()
  private var words = DMA8237A()
  private var pages = Array(repeating: UInt8(0), count: 16)

  package init() {}

  /// Where channel 0 to 7 transfers next, in guest memory, and how many bytes are left.
  package func transfer(ofChannel channel: Int) -> (address: UInt64, count: Int)? {
    guard (0..<8).contains(channel), channel != 4 else { return nil }
    let controller = channel < 4 ? bytes : words
    guard controller.isReady(channel & 3) else { return nil }
    let state = controller.channels[channel & 3]
    let page = UInt64(pages[Self.pageOfChannel[channel]])
    let units = Int(state.count) + 1
    if channel < 4 { return (page << 16 | UInt64(state.address), units) }
    // Word channels count words: bit 0 of the page is not used.
    return ((page & 0xFE) << 16 | UInt64(state.address) << 1, units * 2)
  }

  /// A device has moved `count` bytes or words over a channel. True: the terminal count was reached.
  package mutating func transferred(channel: Int, count: UInt16) -> Bool {
    switch channel {
    case 0..<4: bytes.transferred(channel, count: count)
    case 5..<8: words.transferred(channel - 4, count: count)
    default: false
    }
  }

  /// Power-on state.
  package mutating func reset() { self = Self() }

  package var outputs: UInt32 { 0 }
  package var deadline: MachineTime? { nil }
  package mutating func advance(to now: MachineTime) {}

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    switch offset {
    case 0x00...0x0F: bytes.read(offset)
    case 0x80...0x8F: pages[Int(offset & 15)]
    case 0xC0...0xDF: words.read((offset - 0xC0) / 2)
    default: 0xFF
    }
  }

  package mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime) {
    switch offset {
    case 0x00...0x0F: bytes.write(offset, value)
    case 0x80...0x8F: pages[Int(offset & 15)] = value
    case 0xC0...0xDF: words.write((offset - 0xC0) / 2, value)
    default: break
    }
  }

  package func saveState() -> DirectMemoryAccessController { self }

  package func check(_ state: Self) throws(DeviceStateError) { try checkByRestoring(state) }

  package mutating func restoreState(_ state: DirectMemoryAccessController) {
    self = state
    bytes.normalize()
    words.normalize()
    pages = Array((pages + Array(repeating: 0, count: 16)).prefix(16))
  }
}
