// A driver of one virtio function that does right what it is asked to do right (Virtual I/O Device 1.2, 2.7 and 4.1),
// so that the fuzzer has something running to break.

import Devices
import GuestMemory
import Processor

/// Sets queues up and offers chains, through configuration space, BARs and RAM as a guest does.
struct FuzzDriver {
  /// One descriptor.
  struct Buffer {
    var address: UInt64
    var length: UInt32
    var isWritable: Bool
  }

  enum Register {
    static let featureSelect: UInt64 = 0x00
    static let features: UInt64 = 0x04
    static let driverFeatureSelect: UInt64 = 0x08
    static let driverFeatures: UInt64 = 0x0C
    static let status: UInt64 = 0x14
    static let queueSelect: UInt64 = 0x16
    static let queueSize: UInt64 = 0x18
    static let queueVector: UInt64 = 0x1A
    static let queueEnable: UInt64 = 0x1C
    static let queueDescriptors: UInt64 = 0x20
    static let queueAvailable: UInt64 = 0x28
    static let queueUsed: UInt64 = 0x30
    static let notify: UInt64 = 0x3000
  }

  /// Descriptor flags.
  enum Flag {
    static let next: UInt16 = 1
    static let write: UInt16 = 2
    static let indirect: UInt16 = 4
  }

  enum Status {
    static let driver: UInt64 = 1 | 2
    static let featuresAccepted: UInt64 = 8
    static let ready: UInt64 = 4
    static let needsReset: UInt64 = 0x40
  }

  struct Queue {
    var size: UInt16 = 0
    var descriptors: UInt64 = 0
    var available: UInt64 = 0
    var used: UInt64 = 0
    var nextAvailable: UInt16 = 0
  }

  let board: FuzzBoard
  let slot: UInt8
  let queueCount: Int
  private(set) var queues: [Queue] = []
  private(set) var isLegacy = false

  init(_ board: FuzzBoard, index: Int) {
    self.board = board
    slot = FuzzBoard.firstVirtioSlot + UInt8(index)
    queueCount = board.transports[index].device.queueSizes.count
  }

  // MARK: Places

  var portBase: UInt16 { 0xC000 + UInt16(slot) * 0x100 }
  var vectorBase: UInt64 { 0xFE00_0000 + UInt64(slot) << 16 }
  var modernBase: UInt64 { 0xFE80_0000 + UInt64(slot) << 16 }
  /// 2 MiB a device: rings first, 64 KiB a queue, then buffers.
  var ringBase: UInt64 { 0x20_0000 * UInt64(slot - FuzzBoard.firstVirtioSlot + 1) }
  var bufferBase: UInt64 { ringBase + 0x10_0000 }
  static let bufferSize: UInt64 = 0x10_0000

  // MARK: Registers

  func configure(_ register: Int, _ value: UInt64) {
    board.selectConfiguration(slot: slot, function: 0, register: register)
    board.ports.write(port: 0xCFC, width: .doubleword, value: value)
  }

  private func store(_ register: UInt64, _ value: UInt64, _ width: AccessWidth = .word) {
    board.memoryBus.write(at: GuestAddress(modernBase + register), width: width, value: value)
  }

  private func load(_ register: UInt64, _ width: AccessWidth = .word) -> UInt64 {
    board.memoryBus.read(at: GuestAddress(modernBase + register), width: width)
  }

  var status: UInt64 { load(Register.status, .byte) }

  // MARK: Starting

  /// Base addresses where this driver looks for them.
  func placeBaseAddresses() {
    configure(0x04, 0)
    configure(0x10, UInt64(portBase))
    configure(0x14, vectorBase)
    configure(0x20, modernBase)
    configure(0x24, 0)
    configure(0x04, 7)
  }

  /// From reset to DRIVER_OK, with the features of `wanted` that the device offers.
  mutating func start(wanted: UInt64, maximumSize: UInt16 = 256) {
    placeBaseAddresses()
    isLegacy = false
    store(Register.status, 0, .byte)
    store(Register.status, Status.driver, .byte)
    for half: UInt64 in 0...1 {
      store(Register.featureSelect, half, .doubleword)
      let offered = load(Register.features, .doubleword)
      store(Register.driverFeatureSelect, half, .doubleword)
      store(Register.driverFeatures, offered & (wanted >> (32 * half)), .doubleword)
    }
    store(Register.status, Status.driver | Status.featuresAccepted, .byte)
    queues = (0..<queueCount).map { setUp($0, maximumSize: maximumSize) }
    store(Register.status, Status.driver | Status.featuresAccepted | Status.ready, .byte)
  }

  private func setUp(_ index: Int, maximumSize: UInt16) -> Queue {
    let base = ringBase + UInt64(index) * 0x1_0000
    store(Register.queueSelect, UInt64(index))
    var queue = Queue(descriptors: base, available: base + 0x4000, used: base + 0x8000)
    queue.size = min(UInt16(truncatingIfNeeded: load(Register.queueSize)), maximumSize)
    clear(base)
    store(Register.queueSize, UInt64(queue.size))
    store(Register.queueVector, UInt64(index))
    for (register, address) in [
      (Register.queueDescriptors, queue.descriptors), (Register.queueAvailable, queue.available),
      (Register.queueUsed, queue.used),
    ] {
      store(register, address & 0xFFFF_FFFF, .doubleword)
      store(register + 4, address >> 32, .doubleword)
    }
    store(Register.queueEnable, 1)
    return queue
  }

  /// As `start`, through the legacy registers of a transitional function.
  mutating func startLegacy(wanted: UInt64) {
    placeBaseAddresses()
    isLegacy = true
    let ports = board.ports
    ports.write(port: portBase + 0x12, width: .byte, value: 0)
    ports.write(port: portBase + 0x12, width: .byte, value: Status.driver)
    let offered = ports.read(port: portBase, width: .doubleword)
    ports.write(port: portBase + 4, width: .doubleword, value: offered & wanted)
    queues = (0..<queueCount).map { index in
      let base = ringBase + UInt64(index) * 0x1_0000
      ports.write(port: portBase + 0xE, width: .word, value: UInt64(index))
      let size = UInt16(truncatingIfNeeded: ports.read(port: portBase + 0xC, width: .word))
      let layout = VirtioQueueLayout(size: size, legacyPage: UInt32(base >> 12))
      clear(base)
      ports.write(port: portBase + 8, width: .doubleword, value: base >> 12)
      return Queue(
        size: size == 0xFFFF ? 0 : size, descriptors: layout.descriptors,
        available: layout.available, used: layout.used)
    }
    ports.write(port: portBase + 0x12, width: .byte, value: Status.driver | Status.ready)
  }

  private func clear(_ base: UInt64) {
    board.memory.slice(at: GuestAddress(base), count: 0x1_0000)?.initializeMemory(
      as: UInt8.self, repeating: 0)
  }

  /// Turns MSI-X on, every vector open.
  func enableVectors() {
    for vector in 0..<UInt64(queueCount + 1) {
      let entry = GuestAddress(vectorBase + vector * 16)
      board.memoryBus.write(at: entry, width: .quadword, value: 0xFEE0_0000)
      board.memoryBus.write(at: entry &+ 8, width: .doubleword, value: 0x50 + vector)
      board.memoryBus.write(at: entry &+ 12, width: .doubleword, value: 0)
    }
    var offset = readConfiguration(0x34)
    for _ in 0..<48 where offset >= 0x40 {
      if readConfiguration(Int(offset)) == 0x11 {
        board.selectConfiguration(slot: slot, function: 0, register: Int(offset))
        board.ports.write(port: 0xCFE, width: .word, value: 0x8000)
        return
      }
      offset = readConfiguration(Int(offset) + 1)
    }
  }

  private func readConfiguration(_ register: Int) -> UInt64 {
    board.selectConfiguration(slot: slot, function: 0, register: register)
    return board.ports.read(port: 0xCFC + UInt16(register & 3), width: .byte)
  }

  // MARK: Rings

  func describe(_ table: UInt64, _ number: Int, _ buffer: Buffer, flags: UInt16, next: UInt16) {
    let entry = table &+ UInt64(number) &* 16
    board.memory.store(buffer.address, at: GuestAddress(entry))
    board.memory.store(buffer.length, at: GuestAddress(entry &+ 8))
    board.memory.store(
      flags | (buffer.isWritable ? Flag.write : 0), at: GuestAddress(entry &+ 12))
    board.memory.store(next, at: GuestAddress(entry &+ 14))
  }

  /// Writes `buffers` as a chain that begins at descriptor `first`, or into a table of its own.
  func chain(_ index: Int, _ buffers: [Buffer], first: Int, indirect: UInt64?) {
    let queue = queues[index]
    for (position, buffer) in buffers.enumerated() {
      let number = indirect == nil ? (first + position) % Int(queue.size) : position
      let next = indirect == nil ? (number + 1) % Int(queue.size) : number + 1
      describe(
        indirect ?? queue.descriptors, number, buffer,
        flags: position == buffers.count - 1 ? 0 : Flag.next, next: UInt16(next))
    }
    if let indirect {
      describe(
        queue.descriptors, first,
        Buffer(address: indirect, length: UInt32(buffers.count * 16), isWritable: false),
        flags: Flag.indirect, next: 0)
    }
  }

  /// Makes a chain available; does not kick.
  mutating func offer(_ index: Int, head: UInt16) {
    let queue = queues[index]
    let slot = UInt64(queue.nextAvailable & (queue.size &- 1))
    board.memory.store(head, at: GuestAddress(queue.available + 4 + 2 * slot))
    queues[index].nextAvailable &+= 1
    board.memory.store(
      queues[index].nextAvailable, at: GuestAddress(queue.available + 2))
  }

  func kick(_ index: UInt64) {
    if isLegacy {
      board.ports.write(port: portBase + 0x10, width: .word, value: index)
    } else {
      store(Register.notify + index * 4, index)
    }
  }

  /// What the device has given back so far.
  func usedIndex(_ index: Int) -> UInt16 {
    board.memory.load(at: GuestAddress(queues[index].used + 2)) ?? 0
  }
}

extension FuzzBoard {
  func selectConfiguration(slot: UInt8, function: UInt8, register: Int) {
    let address =
      0x8000_0000 | UInt64(slot & 31) << 11 | UInt64(function & 7) << 8 | UInt64(register & 0xFC)
    ports.write(port: 0xCF8, width: .doubleword, value: address)
  }
}
