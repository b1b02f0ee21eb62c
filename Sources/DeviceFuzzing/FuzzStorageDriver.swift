// A driver of the SATA adapter that does right what it is asked to do right (Serial ATA AHCI 1.3.1, 10.1).

import Devices
import GuestMemory
import Processor

/// Starts ports and builds commands, through configuration space, registers and RAM as a guest does.
struct FuzzStorageDriver {
  static let base: UInt64 = 0xFEA0_0000
  static let portCount = 2
  /// 1 MiB a port: list and frames, 32 tables of 4 KiB, then data.
  static let memoryBase: UInt64 = 0xB0_0000
  static let tableSize: UInt64 = 0x1000
  static let dataOffset: UInt64 = 0x8_0000
  static let dataSize: UInt64 = 0x8_0000

  enum Port {
    static let list: UInt64 = 0x00
    static let frames: UInt64 = 0x08
    static let interruptStatus: UInt64 = 0x10
    static let interruptEnable: UInt64 = 0x14
    static let command: UInt64 = 0x18
    static let taskFile: UInt64 = 0x20
    static let control: UInt64 = 0x2C
    static let error: UInt64 = 0x30
    static let active: UInt64 = 0x34
    static let issue: UInt64 = 0x38
  }

  enum Command {
    static let start: UInt64 = 1
    static let override: UInt64 = 1 << 3
    static let receive: UInt64 = 1 << 4
    static let running: UInt64 = 1 << 15
  }

  let board: FuzzBoard

  init(_ board: FuzzBoard) { self.board = board }

  func list(_ port: Int) -> UInt64 { Self.memoryBase + UInt64(port) << 20 }
  func table(_ port: Int, _ slot: Int) -> UInt64 {
    list(port) + 0x1_0000 + UInt64(slot) * Self.tableSize
  }
  func data(_ port: Int) -> UInt64 { list(port) + Self.dataOffset }

  func placeBaseAddress() {
    board.selectConfiguration(slot: FuzzBoard.storageSlot, function: 0, register: 0x24)
    board.ports.write(port: 0xCFC, width: .doubleword, value: Self.base)
    board.selectConfiguration(slot: FuzzBoard.storageSlot, function: 0, register: 0x04)
    board.ports.write(port: 0xCFC, width: .word, value: 6)
  }

  func store(_ port: Int, _ register: UInt64, _ value: UInt64) {
    board.memoryBus.write(
      at: GuestAddress(Self.base + 0x100 + UInt64(port) * 0x80 + register), width: .doubleword,
      value: value)
  }

  func load(_ port: Int, _ register: UInt64) -> UInt64 {
    board.memoryBus.read(
      at: GuestAddress(Self.base + 0x100 + UInt64(port) * 0x80 + register), width: .doubleword)
  }

  func setControl(_ value: UInt64) {
    board.memoryBus.write(at: GuestAddress(Self.base + 4), width: .doubleword, value: value)
  }

  /// Stops a port if it runs, and sets it up and going without waiting for anything.
  func start(_ port: Int, overrides: Bool) {
    store(port, Port.command, Command.receive | (overrides ? Command.override : 0))
    store(port, Port.list, list(port))
    store(port, Port.list + 4, 0)
    store(port, Port.frames, list(port) + 0x800)
    store(port, Port.frames + 4, 0)
    store(port, Port.error, 0xFFFF_FFFF)
    store(port, Port.interruptStatus, 0xFFFF_FFFF)
    store(port, Port.interruptEnable, 0x7DC0_007F)
    store(port, Port.command, Command.receive | Command.start)
  }

  struct Piece {
    var address: UInt64
    /// Bytes less one.
    var last: UInt32
  }

  /// Builds a command; `frame` is its first 16 bytes.
  func build(
    _ port: Int, _ slot: Int, flags: UInt64, frame: (UInt64, UInt64), packet: [UInt8],
    pieces: [Piece]
  ) {
    let memory = board.memory
    let header = list(port) + UInt64(slot) * 32
    let table = table(port, slot)
    memory.store(flags | UInt64(pieces.count) << 16, at: GuestAddress(header))
    memory.store(table, at: GuestAddress(header + 8))
    memory.store(frame.0, at: GuestAddress(table))
    memory.store(frame.1, at: GuestAddress(table + 8))
    for (index, byte) in packet.enumerated() {
      memory.store(byte, at: GuestAddress(table + 0x40 + UInt64(index)))
    }
    for (index, piece) in pieces.enumerated() {
      let entry = table + 0x80 + 16 * UInt64(index)
      memory.store(piece.address, at: GuestAddress(entry))
      memory.store(UInt64(piece.last) << 32, at: GuestAddress(entry + 8))
    }
  }
}
