import Devices
import GuestMemory
import Platform

/// A virtio driver as a guest has it: everything goes through ports, the memory bus and guest RAM.
final class VirtioTestDriver {
  enum Interface { case legacy, modern, window }

  struct Buffer {
    var address: UInt64
    var length: UInt32
    var isWritable = false
  }

  static let portBase: UInt16 = 0xC000
  static let vectorBase: UInt64 = 0xFE00_0000
  static let modernBase: UInt64 = 0xFE80_0000
  /// Where the modern registers begin in offsets that the transport sees.
  static let modernTag: UInt64 = 1 << 32

  let board: PCITestBoard
  let device: Int
  let interface: Interface
  var features: UInt64 = 0
  var available: [UInt16] = []
  var used: [UInt16] = []
  var size: [UInt16] = []
  var layouts: [VirtioQueueLayout] = []
  /// Where rings and buffers are laid out.
  let ringBase: UInt64
  let bufferBase: UInt64

  init(
    _ board: PCITestBoard, device: Int, interface: Interface, ringBase: UInt64 = 0x10_0000
  ) {
    self.board = board
    self.device = device
    self.interface = interface
    self.ringBase = ringBase
    bufferBase = ringBase + 0x10_0000
    board.setConfig(device, 0x10, UInt64(Self.portBase) + UInt64(device) * 0x100)
    board.setConfig(device, 0x14, Self.vectorBase + UInt64(device) << 16)
    board.setConfig(device, 0x20, Self.modernBase + UInt64(device) << 16)
    board.setConfig(device, 0x24, 0)
    board.setConfig(device, 0x04, 0x7, .word)
  }

  var port: UInt16 { Self.portBase + UInt16(device) * 0x100 }
  var modern: UInt64 { Self.modernBase + UInt64(device) << 16 }

  // MARK: Registers

  private func windowOffset() -> Int {
    board.capability(device) {
      board.config(device, $0, .byte) == 9 && board.config(device, $0 + 3, .byte) == 5
    } ?? 0
  }

  func readModern(_ offset: UInt64, _ width: AccessWidth) -> UInt64 {
    if interface != .window { return board.load(modern + offset, width) }
    let window = windowOffset()
    board.setConfig(device, window + 4, 4, .byte)
    board.setConfig(device, window + 8, offset)
    board.setConfig(device, window + 12, UInt64(width.rawValue))
    return board.config(device, window + 16, width)
  }

  func writeModern(_ offset: UInt64, _ value: UInt64, _ width: AccessWidth) {
    if interface != .window { return board.store(modern + offset, value, width) }
    let window = windowOffset()
    board.setConfig(device, window + 4, 4, .byte)
    board.setConfig(device, window + 8, offset)
    board.setConfig(device, window + 12, UInt64(width.rawValue))
    board.setConfig(device, window + 16, value, width)
  }

  var status: UInt8 {
    get {
      interface == .legacy
        ? UInt8(board.ports.read(port: port + 0x12, width: .byte)) : UInt8(readModern(0x14, .byte))
    }
    set {
      if interface == .legacy {
        board.ports.write(port: port + 0x12, width: .byte, value: UInt64(newValue))
      } else {
        writeModern(0x14, UInt64(newValue), .byte)
      }
    }
  }

  var offeredFeatures: UInt64 {
    if interface == .legacy { return board.ports.read(port: port, width: .doubleword) }
    writeModern(0, 0, .doubleword)
    let low = readModern(4, .doubleword)
    writeModern(0, 1, .doubleword)
    return low | readModern(4, .doubleword) << 32
  }

  func deviceConfiguration(_ offset: UInt64, _ width: AccessWidth) -> UInt64 {
    guard interface == .legacy else { return readModern(0x2000 + offset, width) }
    return board.ports.read(port: port + 0x14 + UInt16(offset), width: width)
  }

  func interruptStatus() -> UInt64 {
    interface == .legacy
      ? board.ports.read(port: port + 0x13, width: .byte) : readModern(0x1000, .byte)
  }

  // MARK: Starting

  /// Reset to FEATURES_OK.
  func negotiate(wanted: UInt64 = .max) {
    status = 0
    status = 1
    status = 3
    features = offeredFeatures & wanted
    if interface == .legacy {
      board.ports.write(port: port + 4, width: .doubleword, value: features & 0xFFFF_FFFF)
      return
    }
    writeModern(8, 0, .doubleword)
    writeModern(0xC, features & 0xFFFF_FFFF, .doubleword)
    writeModern(8, 1, .doubleword)
    writeModern(0xC, features >> 32, .doubleword)
    status = 3 | 8
  }

  /// Lays queue `index` out and tells the device.
  func setUpQueue(
    _ index: Int, vector: UInt64? = nil, change: (inout VirtioQueueLayout) -> Void = { _ in }
  ) {
    let base = ringBase + UInt64(index) * 0x1_0000
    while layouts.count <= index {
      layouts.append(VirtioQueueLayout(size: 0, legacyPage: 0))
      available.append(0)
      used.append(0)
      size.append(0)
    }
    if interface == .legacy {
      board.ports.write(port: port + 0xE, width: .word, value: UInt64(index))
      size[index] = UInt16(board.ports.read(port: port + 0xC, width: .word))
      layouts[index] = VirtioQueueLayout(size: size[index], legacyPage: UInt32(base >> 12))
      clear(index)
      if let vector { board.ports.write(port: port + 0x16, width: .word, value: vector) }
      board.ports.write(port: port + 8, width: .doubleword, value: base >> 12)
      return
    }
    writeModern(0x16, UInt64(index), .word)
    size[index] = UInt16(readModern(0x18, .word))
    var layout = VirtioQueueLayout(
      size: size[index], descriptors: base, available: base + 0x4000, used: base + 0x8000)
    change(&layout)
    size[index] = layout.size
    layouts[index] = layout
    clear(index)
    writeModern(0x18, UInt64(layout.size), .word)
    if let vector { writeModern(0x1A, vector, .word) }
    for (offset, value) in [
      (0x20, layout.descriptors), (0x28, layout.available), (0x30, layout.used),
    ] {
      writeModern(UInt64(offset), value & 0xFFFF_FFFF, .doubleword)
      writeModern(UInt64(offset) + 4, value >> 32, .doubleword)
    }
    writeModern(0x1C, 1, .word)
  }

  private func clear(_ index: Int) {
    for address in stride(
      from: ringBase + UInt64(index) * 0x1_0000, to: ringBase + UInt64(index + 1) * 0x1_0000, by: 8)
    {
      board.memory.store(UInt64(0), at: GuestAddress(address))
    }
    available[index] = 0
    used[index] = 0
  }

  func start(queues: Int = 1, wanted: UInt64 = .max) {
    negotiate(wanted: wanted)
    for index in 0..<queues { setUpQueue(index) }
    status = status | 4
  }

  // MARK: Rings

  func setDescriptor(
    _ queue: Int, _ number: Int, address: UInt64, length: UInt32, flags: UInt16, next: UInt16 = 0,
    table: UInt64? = nil
  ) {
    let entry = (table ?? layouts[queue].descriptors) + UInt64(number) * 16
    board.memory.store(address, at: GuestAddress(entry))
    board.memory.store(length, at: GuestAddress(entry + 8))
    board.memory.store(flags, at: GuestAddress(entry + 12))
    board.memory.store(next, at: GuestAddress(entry + 14))
  }

  /// Puts a head in the available ring; does not kick.
  func offer(_ queue: Int, head: UInt16) {
    let slot = UInt64(available[queue] & (size[queue] &- 1))
    board.memory.store(head, at: GuestAddress(layouts[queue].available + 4 + 2 * slot))
    available[queue] &+= 1
    board.memory.store(available[queue], at: GuestAddress(layouts[queue].available + 2))
  }

  func kick(_ queue: Int) {
    if interface == .legacy {
      board.ports.write(port: port + 0x10, width: .word, value: UInt64(queue))
    } else {
      writeModern(0x3000 + UInt64(queue) * 4, UInt64(queue), .word)
    }
  }

  func chain(_ queue: Int, _ buffers: [Buffer], first: Int = 0, indirect: UInt64? = nil) {
    for (index, buffer) in buffers.enumerated() {
      let isLast = index == buffers.count - 1
      setDescriptor(
        queue, indirect == nil ? first + index : index, address: buffer.address,
        length: buffer.length, flags: (isLast ? 0 : 1) | (buffer.isWritable ? 2 : 0),
        next: UInt16((indirect == nil ? first : 0) + index + 1), table: indirect)
    }
    if let indirect {
      setDescriptor(
        queue, first, address: indirect, length: UInt32(buffers.count * 16), flags: 4)
    }
  }

  /// Offers a chain and waits until it is used. Returns the length that the device wrote, nil if it never came back.
  func run(_ queue: Int, _ buffers: [Buffer], indirect: UInt64? = nil) -> UInt32? {
    chain(queue, buffers, indirect: indirect)
    offer(queue, head: 0)
    kick(queue)
    return waitUsed(queue)
  }

  func usedIndex(_ queue: Int) -> UInt16 {
    board.memory.load(at: GuestAddress(layouts[queue].used + 2)) ?? 0
  }

  func waitUsed(_ queue: Int, seconds: Double = 5) -> UInt32? {
    guard eventually(seconds: seconds, { usedIndex(queue) != used[queue] }) else { return nil }
    let slot = UInt64(used[queue] & (size[queue] &- 1))
    used[queue] &+= 1
    return board.memory.load(at: GuestAddress(layouts[queue].used + 4 + 8 * slot + 4))
  }

  // MARK: Block requests

  /// One request with header, data and status in descriptors of their own. Returns the status byte.
  func block(
    type: UInt32, sector: UInt64, data: [Buffer] = [], queue: Int = 0, indirect: UInt64? = nil
  ) -> UInt8? {
    let header = bufferBase
    let status = bufferBase + 0x100
    board.memory.store(type, at: GuestAddress(header))
    board.memory.store(UInt32(0), at: GuestAddress(header + 4))
    board.memory.store(sector, at: GuestAddress(header + 8))
    board.memory.store(UInt8(0xFF), at: GuestAddress(status))
    let buffers =
      [Buffer(address: header, length: 16)] + data
      + [Buffer(address: status, length: 1, isWritable: true)]
    guard run(queue, buffers, indirect: indirect) != nil else { return nil }
    return board.memory.load(at: GuestAddress(status))
  }

  /// Turns MSI-X on with message `0xFEE00000`, data 0x40 + vector, for `count` vectors.
  func enableVectors(_ count: Int) {
    guard let offset = board.capability(device, where: { board.config(device, $0, .byte) == 0x11 })
    else { return }
    for vector in 0..<UInt64(count) {
      let entry = Self.vectorBase + UInt64(device) << 16 + vector * 16
      board.store(entry, 0xFEE0_0000, .quadword)
      board.store(entry + 8, 0x40 + vector, .doubleword)
      board.store(entry + 12, 0, .doubleword)
    }
    board.setConfig(device, offset + 2, 0x8000, .word)
  }
}
