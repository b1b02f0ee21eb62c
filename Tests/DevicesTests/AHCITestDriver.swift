import Devices
import GuestMemory

/// What a driver does to an AHCI adapter, with everything in its hands that can be wrong.
final class AHCITestDriver {
  static let slot = 5
  static let base: UInt64 = 0xF000_0000
  static let list: UInt64 = 0x1_0000
  static let frames: UInt64 = 0x1_0800
  static let tables: UInt64 = 0x2_0000
  static let data: UInt64 = 0x10_0000

  enum Port {
    static let list: UInt64 = 0x00
    static let frames: UInt64 = 0x08
    static let interruptStatus: UInt64 = 0x10
    static let interruptEnable: UInt64 = 0x14
    static let command: UInt64 = 0x18
    static let taskFile: UInt64 = 0x20
    static let signature: UInt64 = 0x24
    static let status: UInt64 = 0x28
    static let control: UInt64 = 0x2C
    static let error: UInt64 = 0x30
    static let active: UInt64 = 0x34
    static let issue: UInt64 = 0x38
  }

  let board: PCITestBoard
  let controller: AHCIController
  var memory: GuestMemory { board.memory }

  init(_ drives: [AHCIController.Drive], board: PCITestBoard? = nil) throws {
    let board = try board ?? PCITestBoard()
    self.board = board
    controller = try AHCIController(drives: drives, memory: board.memory, sink: board.sink)
    board.host.attach(controller, at: PCIAddress(device: UInt8(Self.slot)))
    board.setConfig(Self.slot, 0x24, Self.base)
    board.setConfig(Self.slot, 0x04, 6, .word)
  }

  func read(_ register: UInt64) -> UInt32 {
    UInt32(
      truncatingIfNeeded: board.memoryBus.read(
        at: GuestAddress(Self.base + register), width: .doubleword))
  }

  func write(_ register: UInt64, _ value: UInt32) {
    board.memoryBus.write(
      at: GuestAddress(Self.base + register), width: .doubleword, value: UInt64(value))
  }

  subscript(register: UInt64) -> UInt32 {
    get { read(0x100 + register) }
    set { write(0x100 + register, newValue) }
  }

  /// Starts port 0, as a driver that finds the adapter after power-on.
  func start() -> Bool {
    write(0x04, 1 << 31 | 2)
    self[Port.list] = UInt32(Self.list)
    self[Port.list + 4] = 0
    self[Port.frames] = UInt32(Self.frames)
    self[Port.frames + 4] = 0
    self[Port.error] = .max
    self[Port.interruptStatus] = .max
    self[Port.command] = 1 << 4
    guard eventually({ self[Port.taskFile] & 0x88 == 0 }) else { return false }
    self[Port.interruptEnable] = 0x7DC0_007F
    self[Port.command] = 1 << 4 | 1
    return eventually { self[Port.command] & 1 << 15 != 0 }
  }

  /// Clears ST and waits for the engine.
  func stop() -> Bool {
    self[Port.command] = 1 << 4
    return eventually { self[Port.command] & 1 << 15 == 0 }
  }

  struct Piece {
    var address: UInt64
    var count: UInt32
    var signals = false
  }

  /// Builds a command without issuing it. `bytes` are those of the frame from its third.
  func prepare(
    _ slot: UInt32 = 0, command: UInt8, block: UInt64 = 0, count: UInt16 = 0,
    features: UInt16 = 0, device: UInt8 = 0x40, pieces: [Piece]? = nil, length: UInt32 = 512,
    packet: [UInt8] = [], writes: Bool = false, isCommand: Bool = true, control: UInt8 = 0,
    clearsBusy: Bool = false
  ) {
    let pieces = pieces ?? (length == 0 ? [] : [Piece(address: data(slot), count: length)])
    let table = Self.tables + UInt64(slot) * 0x1000
    let header = Self.list + UInt64(slot) * 32
    var flags = UInt32(pieces.count) << 16 | 5
    if !packet.isEmpty { flags |= 1 << 5 }
    if writes { flags |= 1 << 6 }
    if clearsBusy { flags |= 1 << 10 }
    memory.store(flags, at: GuestAddress(header))
    memory.store(UInt32(0xDEAD), at: GuestAddress(header + 4))
    memory.store(table, at: GuestAddress(header + 8))
    func byte(_ value: UInt64, _ index: UInt64) -> UInt8 {
      UInt8(truncatingIfNeeded: value >> (8 * index))
    }
    let kind: UInt8 = isCommand ? 0x80 : 0
    let frame: [UInt8] = [
      0x27, kind, command, UInt8(features & 0xFF),
      byte(block, 0), byte(block, 1), byte(block, 2), device,
      byte(block, 3), byte(block, 4), byte(block, 5), UInt8(features >> 8),
      UInt8(count & 0xFF), UInt8(count >> 8), 0, control, 0, 0, 0, 0,
    ]
    for (index, byte) in frame.enumerated() {
      memory.store(byte, at: GuestAddress(table + UInt64(index)))
    }
    for index in 0..<16 {
      let byte: UInt8 = index < packet.count ? packet[index] : 0
      memory.store(byte, at: GuestAddress(table + 0x40 + UInt64(index)))
    }
    for (index, piece) in pieces.enumerated() {
      let entry = table + 0x80 + 16 * UInt64(index)
      memory.store(piece.address, at: GuestAddress(entry))
      var last: UInt32 = (piece.count &- 1) & 0x3F_FFFF
      if piece.signals { last |= 1 << 31 }
      memory.store(UInt64(last) << 32, at: GuestAddress(entry + 8))
    }
  }

  func data(_ slot: UInt32 = 0) -> UInt64 { Self.data + UInt64(slot) * 0x4_0000 }

  func issue(_ slot: UInt32 = 0, queued: Bool = false) {
    if queued { self[Port.active] = 1 << slot }
    self[Port.issue] = 1 << slot
  }

  /// Waits for the end of slot 0; false when it ended by an error.
  func runs() -> Bool {
    issue()
    let isOver = eventually {
      let issue = self[Port.issue] & 1
      return issue == 0 || self[Port.interruptStatus] >> 24 != 0
    }
    return isOver && self[Port.issue] & 1 == 0
  }

  /// Issues what was prepared and waits for this interrupt cause.
  func fails(with bit: UInt32) -> Bool {
    issue()
    let mask: UInt32 = 1 << bit
    return eventually { self[Port.interruptStatus] & mask != 0 }
  }

  /// After an error: stop, clear, start.
  func recover() -> Bool {
    guard stop() else { return false }
    self[Port.error] = .max
    self[Port.interruptStatus] = .max
    self[Port.command] = 1 << 4 | 1 << 3
    self[Port.command] = 1 << 4 | 1
    return self[Port.command] & 1 << 15 != 0
  }

  var transferred: UInt32 { memory.load(UInt32.self, at: GuestAddress(Self.list + 4)) ?? 0 }

  func bytes(_ address: UInt64, _ count: Int) -> [UInt8] {
    (try? memory.bytes(at: GuestAddress(address), count: count)) ?? []
  }

  func isFilled(_ address: UInt64, _ count: Int, with value: UInt8) -> Bool {
    let bytes = bytes(address, count)
    return bytes.count == count && !bytes.contains { $0 != value }
  }

  func word(_ index: Int) -> UInt16 {
    memory.load(UInt16.self, at: GuestAddress(data() + 2 * UInt64(index))) ?? 0
  }
}
