// Writes machine code of the host (x86-64, Intel SDM 2): what the translator needs of it and no more.

/// Registers by their number in ModRM.
enum HostRegister {
  static let rax: UInt8 = 0
  static let rcx: UInt8 = 1
  static let rdx: UInt8 = 2
  static let rbx: UInt8 = 3
  static let rbp: UInt8 = 5
  static let rsi: UInt8 = 6
  /// The processor, always.
  static let rdi: UInt8 = 7
  /// No base or no index.
  static let none: UInt8 = 0xFF
}

/// A place in memory: base + index << scale + displacement.
struct HostAddress {
  var base = HostRegister.none
  var index = HostRegister.none
  var scale: UInt8 = 0
  var displacement: Int32 = 0

  /// A field of the processor.
  static func field(_ offset: Int) -> HostAddress {
    HostAddress(base: HostRegister.rdi, displacement: Int32(truncatingIfNeeded: offset))
  }
  static func at(_ base: UInt8, _ offset: Int = 0) -> HostAddress {
    HostAddress(base: base, displacement: Int32(truncatingIfNeeded: offset))
  }
}

/// ModRM's second operand.
enum HostOperand {
  case register(UInt8)
  case memory(HostAddress)
}

struct HostAssembler {
  /// Where bytes are written; the code runs elsewhere, but moves with all it refers to.
  let bytes: UnsafeMutablePointer<UInt8>
  let capacity: Int
  private(set) var position = 0
  /// Something did not fit: what was written is no use.
  private(set) var isFull = false

  init(_ bytes: UnsafeMutablePointer<UInt8>, capacity: Int) {
    self.bytes = bytes
    self.capacity = capacity
  }

  mutating func byte(_ value: UInt8) {
    guard position < capacity else {
      isFull = true
      return
    }
    bytes[position] = value
    position &+= 1
  }

  /// `count` bytes, little-endian.
  mutating func number(_ value: UInt64, count: Int) {
    for index in 0..<count { byte(UInt8(truncatingIfNeeded: value >> UInt64(index * 8))) }
  }

  /// An instruction with ModRM.
  ///
  /// - Parameters:
  ///   - opcode: one byte, or 0x0F00 and the second.
  ///   - size: log2 of the operand's bytes.
  ///   - reg: register or opcode extension.
  ///   - namesBytes: byte registers are among the operands: SPL to DIL want a REX prefix.
  mutating func code(
    _ opcode: Int, size: UInt8, _ reg: UInt8, _ operand: HostOperand, isLocked: Bool = false,
    namesBytes: Bool = false
  ) {
    if isLocked { byte(0xF0) }
    if size == 1 { byte(0x66) }
    var rex: UInt8 = size == 3 ? 0x48 : 0x40
    rex |= (reg & 8) >> 1
    switch operand {
    case .register(let number): rex |= (number & 8) >> 3
    case .memory(let address):
      if address.base != HostRegister.none { rex |= (address.base & 8) >> 3 }
      if address.index != HostRegister.none { rex |= (address.index & 8) >> 2 }
    }
    if rex != 0x40 || namesBytes || size == 0 { byte(rex) }
    if opcode > 0xFF { byte(0x0F) }
    byte(UInt8(truncatingIfNeeded: opcode))
    modRM(reg, operand)
  }

  private mutating func modRM(_ reg: UInt8, _ operand: HostOperand) {
    let middle = (reg & 7) << 3
    guard case .memory(let address) = operand else {
      if case .register(let number) = operand { byte(0xC0 | middle | number & 7) }
      return
    }
    let displacement = address.displacement
    if address.base == HostRegister.none {
      let index = address.index == HostRegister.none ? 4 : address.index & 7
      byte(middle | 4)
      byte(address.scale << 6 | index << 3 | 5)
      return number(UInt64(UInt32(bitPattern: displacement)), count: 4)
    }
    let base = address.base & 7
    let kind: UInt8 =
      displacement == 0 && base != 5
      ? 0 : displacement == Int32(Int8(truncatingIfNeeded: displacement)) ? 0x40 : 0x80
    if address.index != HostRegister.none || base == 4 {
      let index = address.index == HostRegister.none ? 4 : address.index & 7
      byte(kind | middle | 4)
      byte(address.scale << 6 | index << 3 | base)
    } else {
      byte(kind | middle | base)
    }
    if kind == 0x40 {
      byte(UInt8(truncatingIfNeeded: displacement))
    } else if kind == 0x80 {
      number(UInt64(UInt32(bitPattern: displacement)), count: 4)
    }
  }

  // MARK: By name

  mutating func load(_ register: UInt8, _ address: HostAddress, size: UInt8 = 3) {
    code(0x8B, size: size, register, .memory(address))
  }
  mutating func store(_ register: UInt8, _ address: HostAddress, size: UInt8 = 3) {
    code(0x89, size: size, register, .memory(address))
  }
  mutating func move(_ target: UInt8, _ source: UInt8, size: UInt8 = 3) {
    code(0x89, size: size, source, .register(target))
  }
  mutating func loadAddress(_ register: UInt8, _ address: HostAddress, size: UInt8 = 3) {
    code(0x8D, size: size, register, .memory(address))
  }
  /// A constant in the shortest form; flags stay.
  mutating func constant(_ register: UInt8, _ value: UInt64) {
    if value <= UInt64(UInt32.max) {
      if register & 8 != 0 { byte(0x41) }
      byte(0xB8 | register & 7)
      number(value, count: 4)
    } else if value >= UInt64(bitPattern: Int64(Int32.min)) {
      code(0xC7, size: 3, 0, .register(register))
      number(value, count: 4)
    } else {
      byte(0x48 | (register & 8) >> 3)
      byte(0xB8 | register & 7)
      number(value, count: 8)
    }
  }
  /// Group 1 with an immediate of 32 bits: 0 ADD, 4 AND, 5 SUB, 7 CMP.
  mutating func immediate(_ kind: UInt8, _ operand: HostOperand, _ value: Int32, size: UInt8 = 3) {
    let isShort = value == Int32(Int8(truncatingIfNeeded: value))
    code(isShort ? 0x83 : 0x81, size: size, kind, operand)
    number(UInt64(UInt32(bitPattern: value)), count: isShort ? 1 : 4)
  }

  // MARK: Jumps

  /// A conditional jump (0 to 15), or an unconditional one (16), to a place that is not known yet.
  mutating func jump(_ condition: UInt8) -> Int {
    if condition < 16 {
      byte(0x0F)
      byte(0x80 | condition)
    } else {
      byte(0xE9)
    }
    number(0, count: 4)
    return position
  }

  /// Lets a jump lead here, or to `target`.
  mutating func bind(_ jump: Int, to target: Int? = nil) {
    guard !isFull else { return }
    let distance = Int32(truncatingIfNeeded: (target ?? position) - jump)
    UnsafeMutableRawPointer(bytes + (jump - 4)).storeBytes(of: distance, as: Int32.self)
  }

  mutating func jump(through address: HostAddress) {
    code(0xFF, size: 2, 4, .memory(address))
  }
  mutating func jump(register: UInt8) {
    code(0xFF, size: 2, 4, .register(register))
  }
}

/// Conditions as in Jcc.
enum HostCondition {
  static let equal: UInt8 = 4
  static let notEqual: UInt8 = 5
  static let always: UInt8 = 16
}
