/// The two 8259As of a PC, cascaded over input 2, with the edge/level control registers (Intel 82371AB data sheet, 4.1.4
/// and 4.1.5): ports 0x20, 0x21, 0xA0, 0xA1, 0x4D0 and 0x4D1, at offsets from port 0x20.
///
/// Edges of input 0 that come while one is pending and not masked are counted and made up for one by one, so that a
/// guest that counts timer ticks loses none when its host was busy. At most `edgeLimit` are owed.
package struct ProgrammableInterruptController: Codable, Sendable, Equatable {
  package enum Offset {
    package static let master: UInt64 = 0
    package static let slave: UInt64 = 0x80
    package static let edgeLevelControl: UInt64 = 0x4B0
  }
  /// Where the board maps the offsets.
  package static let ports: [(port: UInt16, count: Int, offset: UInt64)] = [
    (0x20, 2, Offset.master), (0xA0, 2, Offset.slave), (0x4D0, 2, Offset.edgeLevelControl),
  ]
  package static let inputCount = 16
  package static let edgeLimit = 1024
  private static let cascadeInput = 2
  /// Inputs that may be level-triggered: not the timer, keyboard, cascade, clock and coprocessor.
  private static let levelCapable: [UInt8] = [0xF8, 0xDE]

  private var master = PIC8259A(cascade: 1 << UInt8(cascadeInput))
  private var slave = PIC8259A()
  private var owedEdges = 0

  package init() {}

  /// INTR to the processor.
  package var output: Bool { master.output }

  package mutating func setInput(_ input: Int, _ level: Bool) {
    switch input {
    case Self.cascadeInput: break
    case 0..<8:
      let coalesced = master.setInput(input, level)
      if coalesced && input == 0 && !master.isMasked(0) && owedEdges < Self.edgeLimit {
        owedEdges += 1
      }
    case 8..<Self.inputCount:
      slave.setInput(input - 8, level)
      update()
    default: break
    }
  }

  /// INTA: the vector that the processor takes. Without a request it is the spurious interrupt 7 or 15.
  package mutating func acknowledge() -> UInt8 {
    defer { update() }
    guard let input = master.acknowledge() else { return master.vector(of: PIC8259A.lowest) }
    if input == 0 { payEdge() }
    guard input == Self.cascadeInput else { return master.vector(of: input) }
    return slave.vector(of: slave.acknowledge() ?? PIC8259A.lowest)
  }

  private mutating func payEdge() {
    guard owedEdges > 0 else { return }
    owedEdges -= 1
    master.request(0)
  }

  /// The slave's INT is an input of the master's. It falls and rises again where one request follows another; a request
  /// that goes away after its edge leaves the master with a spurious interrupt 15.
  private mutating func update() {
    let requests = slave.output
    master.setInput(Self.cascadeInput, requests)
    if requests { master.request(Self.cascadeInput) }
  }

  // MARK: Ports

  package mutating func read(at offset: UInt64) -> UInt8 {
    defer { update() }
    switch offset {
    case 0, 1:
      let ready = master.isRequested(0)
      let value = master.read(at: offset)
      if ready && !master.isRequested(0) { payEdge() }
      return value
    case 0x80, 0x81: return slave.read(at: offset - Offset.slave)
    case 0x4B0: return master.levelTriggered
    case 0x4B1: return slave.levelTriggered
    default: return 0xFF
    }
  }

  package mutating func write(at offset: UInt64, value: UInt8) {
    switch offset {
    case 0, 1:
      master.write(at: offset, value: value)
      if offset == 0 && value & PIC8259A.ICW1.initialize != 0 { owedEdges = 0 }
      // A masked timer is not waited for.
      if master.isMasked(0) { owedEdges = 0 }
    case 0x80, 0x81: slave.write(at: offset - Offset.slave, value: value)
    case 0x4B0: master.setLevelTriggered(value & Self.levelCapable[0])
    case 0x4B1: slave.setLevelTriggered(value & Self.levelCapable[1])
    default: break
    }
    update()
  }

  mutating func normalize() {
    master.normalize()
    slave.normalize()
    owedEdges = min(max(owedEdges, 0), Self.edgeLimit)
  }
}

extension ProgrammableInterruptController {
  /// - Parameter chips: struct kvm_pic_state of the first and the second.
  init(kernel chips: (first: [UInt8], second: [UInt8])) throws(DeviceStateError) {
    master = try PIC8259A(kernel: chips.first, cascade: 1 << UInt8(Self.cascadeInput))
    slave = try PIC8259A(kernel: chips.second, cascade: 0)
  }

  /// struct kvm_pic_state of the first and the second.
  var kernelBytes: [[UInt8]] {
    [
      master.kernelBytes(levelCapable: Self.levelCapable[0]),
      slave.kernelBytes(levelCapable: Self.levelCapable[1]),
    ]
  }

  /// Undoes `acknowledge` for a vector that no processor took.
  mutating func takeBack(_ vector: UInt8) {
    let input = Int(vector & 7)
    if vector & 0xF8 == slave.vector(of: 0), slave.serviced >> UInt8(input) & 1 != 0 {
      slave.takeBack(input)
      master.takeBack(Self.cascadeInput)
    } else if vector & 0xF8 == master.vector(of: 0), master.serviced >> UInt8(input) & 1 != 0 {
      master.takeBack(input)
    }
  }
}
