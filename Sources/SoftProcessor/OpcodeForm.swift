// What follows an opcode: ModRM, immediates (Intel SDM 2D, appendix A).

/// The bytes after opcode and ModRM.
enum ImmediateKind {
  case none, byte, word
  /// 16 or 32 bits by operand size.
  case full
  /// 16, 32 or 64 bits by operand size.
  case quad
  /// As wide as an address.
  case address
  /// Offset of 16 or 32 bits, then a selector.
  case farPointer
  /// ENTER.
  case wordAndByte
  /// Displacement of a near branch: 32 bits in 64-bit mode.
  case branch
}

struct OpcodeForm {
  var hasModRM = false
  var immediate = ImmediateKind.none
  /// ModRM.reg and ModRM.rm name byte registers.
  var regIsByte = false
  var rmIsByte = false
  /// The low three bits of the opcode name a register.
  var registerInOpcode = false
  /// ModRM.reg extends the opcode.
  var isGroup = false

  static func modRM(_ immediate: ImmediateKind = .none) -> OpcodeForm {
    OpcodeForm(hasModRM: true, immediate: immediate)
  }
  static func bytes(_ immediate: ImmediateKind = .none) -> OpcodeForm {
    OpcodeForm(hasModRM: true, immediate: immediate, regIsByte: true, rmIsByte: true)
  }
  static func group(_ immediate: ImmediateKind = .none, isByte: Bool = false) -> OpcodeForm {
    OpcodeForm(hasModRM: true, immediate: immediate, rmIsByte: isByte, isGroup: true)
  }
  static func plain(_ immediate: ImmediateKind = .none) -> OpcodeForm {
    OpcodeForm(immediate: immediate)
  }
  static func register(_ immediate: ImmediateKind = .none, isByte: Bool = false) -> OpcodeForm {
    OpcodeForm(immediate: immediate, rmIsByte: isByte, registerInOpcode: true)
  }

  init(
    hasModRM: Bool = false, immediate: ImmediateKind = .none, regIsByte: Bool = false,
    rmIsByte: Bool = false, registerInOpcode: Bool = false, isGroup: Bool = false
  ) {
    self.hasModRM = hasModRM
    self.immediate = immediate
    self.regIsByte = regIsByte
    self.rmIsByte = rmIsByte
    self.registerInOpcode = registerInOpcode
    self.isGroup = isGroup
  }

  /// The one-byte map. Prefixes and escapes are not asked for.
  static func oneByte(_ opcode: UInt8, isLong: Bool) -> OpcodeForm {
    switch opcode {
    case 0x00..<0x40:
      switch opcode & 7 {
      case 0, 2: return .bytes()
      case 1, 3: return .modRM()
      case 4: return .plain(.byte)
      case 5: return .plain(.full)
      default: return .plain()
      }
    case 0x40...0x5F, 0x90...0x97: return .register()
    case 0x62, 0x63, 0x8D, 0xC4, 0xC5: return .modRM()
    case 0x68: return .plain(.full)
    case 0x69: return .modRM(.full)
    case 0x6A, 0xA8, 0xCD, 0xD4, 0xD5, 0xE4...0xE7: return .plain(.byte)
    case 0x6B: return .modRM(.byte)
    case 0x70...0x7F, 0xE0...0xE3, 0xEB: return .plain(.byte)
    case 0x80, 0x82: return .group(.byte, isByte: true)
    case 0x81: return .group(.full)
    case 0x83: return .group(.byte)
    case 0x84, 0x86, 0x88, 0x8A: return .bytes()
    case 0x85, 0x87, 0x89, 0x8B: return .modRM()
    case 0x8C, 0x8E, 0x8F: return .group()
    case 0x9A, 0xEA: return .plain(.farPointer)
    case 0xA0...0xA3: return .plain(.address)
    case 0xA9: return .plain(.full)
    case 0xB0...0xB7: return .register(.byte, isByte: true)
    case 0xB8...0xBF: return .register(.quad)
    case 0xC0: return .group(.byte, isByte: true)
    case 0xC1: return .group(.byte)
    case 0xC2, 0xCA: return .plain(.word)
    case 0xC6: return .group(.byte, isByte: true)
    case 0xC7: return .group(.full)
    case 0xC8: return .plain(.wordAndByte)
    case 0xD0, 0xD2: return .group(isByte: true)
    case 0xD1, 0xD3, 0xD8...0xDF: return .group()
    case 0xE8, 0xE9: return .plain(.branch)
    // F6 and F7: TEST alone has an immediate; the decoder looks at ModRM.
    case 0xF6, 0xFE: return .group(isByte: true)
    case 0xF7, 0xFF: return .group()
    default: return .plain()
    }
  }

  /// The map behind 0F.
  static func twoBytes(_ opcode: UInt8) -> OpcodeForm {
    switch opcode {
    case 0x00, 0x01, 0x18, 0xAE, 0xC7: return .group()
    case 0x04...0x0C, 0x0E, 0x30...0x37, 0x77, 0xA0...0xA2, 0xA8...0xAA: return .plain()
    case 0x0F: return .modRM(.byte)
    case 0x70, 0xC2, 0xC4, 0xC5, 0xC6: return .modRM(.byte)
    case 0x71, 0x72, 0x73, 0xBA: return .group(.byte)
    case 0x80...0x8F: return .plain(.branch)
    case 0x90...0x9F: return .group(isByte: true)
    case 0xA4, 0xAC: return .modRM(.byte)
    case 0xB0, 0xC0: return .bytes()
    case 0xB6, 0xBE: return OpcodeForm(hasModRM: true, rmIsByte: true)
    case 0xC8...0xCF: return .register()
    default: return .modRM()
    }
  }
}
