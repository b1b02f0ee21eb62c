// What instructions the differential tests try: each form is an encoding with what of its operands may vary, and the flags
// that the manual leaves undefined (Intel SDM 2, "Flags Affected").
import CSoftProcessor

struct FormOptions: OptionSet {
  let rawValue: UInt32
  static let modRM = FormOptions(rawValue: 1 << 0)
  /// Byte operands.
  static let byte = FormOptions(rawValue: 1 << 1)
  static let immediate8 = FormOptions(rawValue: 1 << 2)
  /// 16 or 32 bits by operand size.
  static let immediateFull = FormOptions(rawValue: 1 << 3)
  static let memoryOnly = FormOptions(rawValue: 1 << 4)
  static let registerOnly = FormOptions(rawValue: 1 << 5)
  static let lockable = FormOptions(rawValue: 1 << 6)
  static let only64 = FormOptions(rawValue: 1 << 7)
  static let only32 = FormOptions(rawValue: 1 << 8)
  /// No operand-size prefix.
  static let fixedSize = FormOptions(rawValue: 1 << 9)
  /// A register in the low bits of the opcode.
  static let opcodeRegister = FormOptions(rawValue: 1 << 10)
  /// REX.W may be there although the size is fixed.
  static let wide = FormOptions(rawValue: 1 << 11)
  /// The shift count is 1, CL, or an immediate byte.
  static let shift = FormOptions(rawValue: 1 << 12)
  static let string = FormOptions(rawValue: 1 << 13)
  static let branch8 = FormOptions(rawValue: 1 << 14)
  static let branch32 = FormOptions(rawValue: 1 << 15)
  static let divide = FormOptions(rawValue: 1 << 16)
  /// Bit string: the register operand reaches beyond the memory operand.
  static let bitString = FormOptions(rawValue: 1 << 17)
  /// MOV with an immediate as wide as the operand.
  static let immediateQuad = FormOptions(rawValue: 1 << 18)
  static let vector = FormOptions(rawValue: 1 << 19)
  static let vex = FormOptions(rawValue: 1 << 20)
  static let x87 = FormOptions(rawValue: 1 << 21)
  /// Memory operands of 16 bytes must be aligned: mostly they are.
  static let aligned = FormOptions(rawValue: 1 << 22)
  /// The offset of the operand is in the instruction (MOV with AL).
  static let directOffset = FormOptions(rawValue: 1 << 23)
  static let immediate16 = FormOptions(rawValue: 1 << 24)
  /// No VEX.vvvv operand.
  static let unaryVEX = FormOptions(rawValue: 1 << 25)
  /// The memory operand holds the address of a branch.
  static let indirectBranch = FormOptions(rawValue: 1 << 26)
  /// The stack's top holds the address of a branch.
  static let returns = FormOptions(rawValue: 1 << 27)
  static let maskedStore = FormOptions(rawValue: 1 << 28)
}

struct InstructionForm {
  var name: String
  /// With the escape bytes. Of VEX forms: map, then opcode.
  var opcode: [UInt8]
  /// Mandatory, or 0.
  var prefix: UInt8 = 0
  /// ModRM.reg, or nil.
  var group: UInt8?
  var options: FormOptions = []
  /// Flags that are not compared.
  var undefined: UInt32 = 0
  /// Of `soft_vex_table`, or 0.
  var vexEntry: UInt32 = 0

  init(
    _ name: String, _ opcode: [UInt8], _ options: FormOptions, prefix: UInt8 = 0,
    group: UInt8? = nil, undefined: UInt32 = 0
  ) {
    self.name = name
    self.opcode = opcode
    self.options = options
    self.prefix = prefix
    self.group = group
    self.undefined = undefined
  }
}

extension InstructionForm {
  /// XSAVE and its kin.
  var isState: Bool { name.hasPrefix("xsave") || name.hasPrefix("xrstor") }
  /// Environments and whole states.
  var isLong: Bool {
    name == "fxsave" || isState
      || options.contains([.x87, .memoryOnly]) && [0xD9, 0xDD].contains(opcode[0])
        && [4, 6].contains(group)
  }
}

enum FlagBit {
  static let c: UInt32 = 1
  static let p: UInt32 = 4
  static let a: UInt32 = 16
  static let z: UInt32 = 64
  static let s: UInt32 = 128
  static let o: UInt32 = 2048
  static let all: UInt32 = 0x8D5
}

enum InstructionForms {
  static func arithmetic() -> [InstructionForm] {
    var forms: [InstructionForm] = []
    let names = ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"]
    for (number, name) in names.enumerated() {
      let base = UInt8(number * 8)
      let undefined = [1, 4, 6].contains(number) ? FlagBit.a : 0
      let lock: FormOptions = number == 7 ? [] : .lockable
      forms += [
        .init(name, [base], [.modRM, .byte, lock], undefined: undefined),
        .init(name, [base + 1], [.modRM, lock], undefined: undefined),
        .init(name, [base + 2], [.modRM, .byte], undefined: undefined),
        .init(name, [base + 3], .modRM, undefined: undefined),
        .init(name, [base + 4], [.byte, .immediate8], undefined: undefined),
        .init(name, [base + 5], .immediateFull, undefined: undefined),
        .init(
          name, [0x80], [.modRM, .byte, .immediate8, lock], group: UInt8(number),
          undefined: undefined),
        .init(
          name, [0x81], [.modRM, .immediateFull, lock], group: UInt8(number),
          undefined: undefined),
        .init(
          name, [0x83], [.modRM, .immediate8, lock], group: UInt8(number), undefined: undefined),
        .init(
          name, [0x82], [.modRM, .byte, .immediate8, .only32], group: UInt8(number),
          undefined: undefined),
      ]
    }
    forms += [
      .init("test", [0x84], [.modRM, .byte], undefined: FlagBit.a),
      .init("test", [0x85], .modRM, undefined: FlagBit.a),
      .init("test", [0xA8], [.byte, .immediate8], undefined: FlagBit.a),
      .init("test", [0xA9], .immediateFull, undefined: FlagBit.a),
    ]
    let multiply = FlagBit.s | FlagBit.z | FlagBit.a | FlagBit.p
    for (opcode, byte) in [(UInt8(0xF6), FormOptions.byte), (0xF7, [])] {
      let immediate: FormOptions = byte == [] ? .immediateFull : .immediate8
      forms += [
        .init("test", [opcode], [.modRM, byte, immediate], group: 0, undefined: FlagBit.a),
        .init("test /1", [opcode], [.modRM, byte, immediate], group: 1, undefined: FlagBit.a),
        .init("not", [opcode], [.modRM, byte, .lockable], group: 2),
        .init("neg", [opcode], [.modRM, byte, .lockable], group: 3),
        .init("mul", [opcode], [.modRM, byte], group: 4, undefined: multiply),
        .init("imul", [opcode], [.modRM, byte], group: 5, undefined: multiply),
        .init("div", [opcode], [.modRM, byte, .divide], group: 6, undefined: FlagBit.all),
        .init("idiv", [opcode], [.modRM, byte, .divide], group: 7, undefined: FlagBit.all),
      ]
    }
    for (opcode, byte) in [(UInt8(0xFE), FormOptions.byte), (0xFF, [])] {
      forms += [
        .init("inc", [opcode], [.modRM, byte, .lockable], group: 0),
        .init("dec", [opcode], [.modRM, byte, .lockable], group: 1),
      ]
    }
    forms += [
      .init("inc", [0x40], [.opcodeRegister, .only32]),
      .init("dec", [0x48], [.opcodeRegister, .only32]),
      .init("imul", [0x69], [.modRM, .immediateFull], undefined: multiply),
      .init("imul", [0x6B], [.modRM, .immediate8], undefined: multiply),
      .init("imul", [0x0F, 0xAF], .modRM, undefined: multiply),
      .init("cbw", [0x98], []), .init("cwd", [0x99], []),
      .init("daa", [0x27], [.only32, .fixedSize], undefined: FlagBit.o),
      .init("das", [0x2F], [.only32, .fixedSize], undefined: FlagBit.o),
      .init(
        "aaa", [0x37], [.only32, .fixedSize],
        undefined: FlagBit.o | FlagBit.s | FlagBit.z | FlagBit.p),
      .init(
        "aas", [0x3F], [.only32, .fixedSize],
        undefined: FlagBit.o | FlagBit.s | FlagBit.z | FlagBit.p),
      .init(
        "aam", [0xD4], [.only32, .fixedSize, .immediate8],
        undefined: FlagBit.o | FlagBit.a | FlagBit.c),
      .init(
        "aad", [0xD5], [.only32, .fixedSize, .immediate8],
        undefined: FlagBit.o | FlagBit.a | FlagBit.c),
      .init("adcx", [0x0F, 0x38, 0xF6], [.modRM, .fixedSize, .wide], prefix: 0x66),
      .init("adox", [0x0F, 0x38, 0xF6], [.modRM, .fixedSize, .wide], prefix: 0xF3),
    ]
    return forms
  }

  static func shifts() -> [InstructionForm] {
    var forms: [InstructionForm] = []
    let names = ["rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar"]
    for (number, name) in names.enumerated() {
      let group = UInt8(number)
      forms += [
        .init(name, [0xC0], [.modRM, .byte, .immediate8, .shift], group: group),
        .init(name, [0xC1], [.modRM, .immediate8, .shift], group: group),
        .init(name, [0xD0], [.modRM, .byte, .shift], group: group),
        .init(name, [0xD1], [.modRM, .shift], group: group),
        .init(name, [0xD2], [.modRM, .byte, .shift], group: group),
        .init(name, [0xD3], [.modRM, .shift], group: group),
      ]
    }
    forms += [
      .init("shld", [0x0F, 0xA4], [.modRM, .immediate8, .shift]),
      .init("shld", [0x0F, 0xA5], [.modRM, .shift]),
      .init("shrd", [0x0F, 0xAC], [.modRM, .immediate8, .shift]),
      .init("shrd", [0x0F, 0xAD], [.modRM, .shift]),
    ]
    return forms
  }

  static func bits() -> [InstructionForm] {
    var forms: [InstructionForm] = []
    let test = FlagBit.o | FlagBit.s | FlagBit.a | FlagBit.p
    for (number, name) in ["bt", "bts", "btr", "btc"].enumerated() {
      let opcode = UInt8(0xA3 + number * 8)
      let lock: FormOptions = number == 0 ? [] : .lockable
      forms += [
        .init(name, [0x0F, opcode], [.modRM, .bitString, lock], undefined: test),
        .init(
          name, [0x0F, 0xBA], [.modRM, .immediate8, lock], group: UInt8(4 + number),
          undefined: test),
      ]
    }
    let scan = FlagBit.c | FlagBit.o | FlagBit.s | FlagBit.a | FlagBit.p
    let count = FlagBit.o | FlagBit.s | FlagBit.a | FlagBit.p
    forms += [
      .init("bsf", [0x0F, 0xBC], .modRM, undefined: scan),
      .init("bsr", [0x0F, 0xBD], .modRM, undefined: scan),
      .init("tzcnt", [0x0F, 0xBC], .modRM, prefix: 0xF3, undefined: count),
      .init("lzcnt", [0x0F, 0xBD], .modRM, prefix: 0xF3, undefined: count),
      .init("popcnt", [0x0F, 0xB8], .modRM, prefix: 0xF3),
      .init("bswap", [0x0F, 0xC8], [.opcodeRegister, .fixedSize, .wide]),
      .init("andn", [2, 0xF2], [.vex, .modRM], undefined: FlagBit.a | FlagBit.p),
      .init("blsr", [2, 0xF3], [.vex, .modRM], group: 1, undefined: FlagBit.a | FlagBit.p),
      .init("blsmsk", [2, 0xF3], [.vex, .modRM], group: 2, undefined: FlagBit.a | FlagBit.p),
      .init("blsi", [2, 0xF3], [.vex, .modRM], group: 3, undefined: FlagBit.a | FlagBit.p),
      .init("bzhi", [2, 0xF5], [.vex, .modRM], undefined: FlagBit.a | FlagBit.p),
      .init("pext", [2, 0xF5], [.vex, .modRM], prefix: 0xF3),
      .init("pdep", [2, 0xF5], [.vex, .modRM], prefix: 0xF2),
      .init("mulx", [2, 0xF6], [.vex, .modRM], prefix: 0xF2),
      .init(
        "bextr", [2, 0xF7], [.vex, .modRM], undefined: FlagBit.a | FlagBit.p | FlagBit.s),
      .init("shlx", [2, 0xF7], [.vex, .modRM], prefix: 0x66),
      .init("sarx", [2, 0xF7], [.vex, .modRM], prefix: 0xF3),
      .init("shrx", [2, 0xF7], [.vex, .modRM], prefix: 0xF2),
      .init("rorx", [3, 0xF0], [.vex, .modRM, .immediate8, .unaryVEX], prefix: 0xF2),
      .init("crc32", [0x0F, 0x38, 0xF0], [.modRM, .byte, .fixedSize, .wide], prefix: 0xF2),
      .init("crc32", [0x0F, 0x38, 0xF1], [.modRM], prefix: 0xF2),
    ]
    return forms
  }

  static func moves() -> [InstructionForm] {
    var forms: [InstructionForm] = [
      .init("xchg", [0x86], [.modRM, .byte, .lockable]),
      .init("xchg", [0x87], [.modRM, .lockable]),
      .init("mov", [0x88], [.modRM, .byte]), .init("mov", [0x89], .modRM),
      .init("mov", [0x8A], [.modRM, .byte]), .init("mov", [0x8B], .modRM),
      .init("lea", [0x8D], [.modRM, .memoryOnly]),
      .init("mov", [0xC6], [.modRM, .byte, .immediate8], group: 0),
      .init("mov", [0xC7], [.modRM, .immediateFull], group: 0),
      .init("mov", [0xB0], [.opcodeRegister, .byte, .immediate8]),
      .init("mov", [0xB8], [.opcodeRegister, .immediateQuad]),
      .init("mov", [0xA0], [.byte, .directOffset]), .init("mov", [0xA1], .directOffset),
      .init("mov", [0xA2], [.byte, .directOffset]), .init("mov", [0xA3], .directOffset),
      .init("movsxd", [0x63], [.modRM, .only64]),
      .init("xchg", [0x90], .opcodeRegister),
      .init("movzx", [0x0F, 0xB6], [.modRM]), .init("movzx", [0x0F, 0xB7], [.modRM]),
      .init("movsx", [0x0F, 0xBE], [.modRM]), .init("movsx", [0x0F, 0xBF], [.modRM]),
      .init("cmpxchg", [0x0F, 0xB0], [.modRM, .byte, .lockable]),
      .init("cmpxchg", [0x0F, 0xB1], [.modRM, .lockable]),
      .init("xadd", [0x0F, 0xC0], [.modRM, .byte, .lockable]),
      .init("xadd", [0x0F, 0xC1], [.modRM, .lockable]),
      .init(
        "cmpxchg8b", [0x0F, 0xC7], [.modRM, .memoryOnly, .lockable, .fixedSize, .wide, .aligned],
        group: 1),
      .init("movbe", [0x0F, 0x38, 0xF0], [.modRM, .memoryOnly]),
      .init("movbe", [0x0F, 0x38, 0xF1], [.modRM, .memoryOnly]),
      .init("movnti", [0x0F, 0xC3], [.modRM, .memoryOnly, .fixedSize, .wide]),
      .init("sahf", [0x9E], .fixedSize), .init("lahf", [0x9F], .fixedSize),
      .init("cmc", [0xF5], .fixedSize), .init("clc", [0xF8], .fixedSize),
      .init("stc", [0xF9], .fixedSize), .init("cld", [0xFC], .fixedSize),
      .init("std", [0xFD], .fixedSize), .init("salc", [0xD6], [.only32, .fixedSize]),
      .init("nop", [0x0F, 0x1F], .modRM, group: 0), .init("prefetch", [0x0F, 0x18], .modRM),
      .init("prefetchw", [0x0F, 0x0D], [.modRM, .memoryOnly], group: 1),
      .init("xlat", [0xD7], .fixedSize),
      .init("bound", [0x62], [.modRM, .memoryOnly, .only32]),
      .init("ud2", [0x0F, 0x0B], .fixedSize),
    ]
    for code in UInt8(0)..<16 {
      forms += [
        .init("cmov", [0x0F, 0x40 + code], .modRM),
        .init("set", [0x0F, 0x90 + code], [.modRM, .byte]),
      ]
    }
    return forms
  }

  static func stackAndBranches() -> [InstructionForm] {
    var forms: [InstructionForm] = [
      .init("push", [0x50], .opcodeRegister), .init("pop", [0x58], .opcodeRegister),
      .init("push", [0x68], .immediateFull), .init("push", [0x6A], .immediate8),
      .init("push", [0xFF], .modRM, group: 6), .init("pop", [0x8F], .modRM, group: 0),
      .init("pushf", [0x9C], []),
      .init("pusha", [0x60], .only32), .init("popa", [0x61], .only32),
      .init("leave", [0xC9], []), .init("enter", [0xC8], [.immediate16, .immediate8]),
      .init("jmp", [0xEB], [.branch8, .fixedSize]), .init("jmp", [0xE9], [.branch32, .fixedSize]),
      .init("call", [0xE8], [.branch32, .fixedSize]),
      .init("call", [0xFF], [.modRM, .indirectBranch, .fixedSize], group: 2),
      .init("jmp", [0xFF], [.modRM, .indirectBranch, .fixedSize], group: 4),
      .init("ret", [0xC3], [.returns, .fixedSize]),
      .init("ret", [0xC2], [.returns, .fixedSize, .immediate16]),
      .init("loopne", [0xE0], [.branch8, .fixedSize]),
      .init("loope", [0xE1], [.branch8, .fixedSize]),
      .init("loop", [0xE2], [.branch8, .fixedSize]), .init("jcxz", [0xE3], [.branch8, .fixedSize]),
    ]
    for code in UInt8(0)..<16 {
      forms += [
        .init("j", [0x70 + code], [.branch8, .fixedSize]),
        .init("j", [0x0F, 0x80 + code], [.branch32, .fixedSize]),
      ]
    }
    return forms
  }

  /// What a process may not do: #GP, or #UD.
  static func privileged() -> [InstructionForm] {
    let single: [(String, [UInt8])] = [
      ("hlt", [0xF4]), ("cli", [0xFA]), ("sti", [0xFB]), ("in", [0xEC]), ("in", [0xED]),
      ("out", [0xEE]), ("out", [0xEF]), ("ins", [0x6C]), ("ins", [0x6D]), ("outs", [0x6E]),
      ("outs", [0x6F]), ("clts", [0x0F, 0x06]), ("sysret", [0x0F, 0x07]), ("invd", [0x0F, 0x08]),
      ("wbinvd", [0x0F, 0x09]), ("wrmsr", [0x0F, 0x30]), ("rdmsr", [0x0F, 0x32]),
      ("ud1", [0x0F, 0xFF, 0xC0]), ("ud0", [0x0F, 0xB9, 0xC0]), ("rsm", [0x0F, 0xAA]),
      ("swapgs", [0x0F, 0x01, 0xF8]),
    ]
    var forms = single.map { InstructionForm($0.0, $0.1, .fixedSize) }
    forms += [
      .init("in", [0xE4], [.fixedSize, .immediate8]),
      .init("in", [0xE5], [.fixedSize, .immediate8]),
      .init("out", [0xE6], [.fixedSize, .immediate8]),
      .init("out", [0xE7], [.fixedSize, .immediate8]),
      .init("mov", [0x0F, 0x20], [.fixedSize, .modRM, .registerOnly], group: 0),
      .init("mov", [0x0F, 0x22], [.fixedSize, .modRM, .registerOnly], group: 3),
      .init("mov", [0x0F, 0x21], [.fixedSize, .modRM, .registerOnly], group: 7),
      .init("mov", [0x0F, 0x23], [.fixedSize, .modRM, .registerOnly], group: 0),
      .init("lgdt", [0x0F, 0x01], [.fixedSize, .modRM, .memoryOnly], group: 2),
      .init("lidt", [0x0F, 0x01], [.fixedSize, .modRM, .memoryOnly], group: 3),
      .init("lmsw", [0x0F, 0x01], [.fixedSize, .modRM], group: 6),
      .init("invlpg", [0x0F, 0x01], [.fixedSize, .modRM, .memoryOnly], group: 7),
      .init("lldt", [0x0F, 0x00], [.fixedSize, .modRM], group: 2),
      .init("ltr", [0x0F, 0x00], [.fixedSize, .modRM], group: 3),
    ]
    // One-byte opcodes that 64-bit mode has taken away.
    for opcode: UInt8 in [
      0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61,
      0xCE, 0xD4, 0xD5, 0xD6, 0x82,
    ] {
      forms.append(.init("gone", [opcode], [.fixedSize, .only64, .immediate8]))
    }
    return forms
  }

  static func strings() -> [InstructionForm] {
    var forms: [InstructionForm] = []
    for (opcode, name) in [
      (UInt8(0xA4), "movs"), (0xA6, "cmps"), (0xAA, "stos"), (0xAC, "lods"), (0xAE, "scas"),
    ] {
      forms += [
        .init(name, [opcode], [.string, .byte]), .init(name, [opcode + 1], .string),
      ]
    }
    return forms
  }

  /// From the table of kernels itself: what the host has.
  static func vectors() -> [InstructionForm] {
    var forms: [InstructionForm] = []
    for number in 1..<soft_vector_count() {
      let entry = soft_vector_at(number).pointee
      guard soft_vector_host_has(UInt32(entry.feature)) != 0 else { continue }
      var opcode: [UInt8] = [0x0F]
      if entry.map == 2 { opcode.append(0x38) }
      if entry.map == 3 { opcode.append(0x3A) }
      opcode.append(entry.opcode)
      var options: FormOptions = [.modRM, .vector, .fixedSize, .wide]
      if entry.flags & UInt8(SOFT_VECTOR_REGISTER_ONLY) != 0 { options.insert(.registerOnly) }
      if entry.flags & UInt8(SOFT_VECTOR_MEMORY_ONLY) != 0 { options.insert(.memoryOnly) }
      if entry.flags & UInt8(SOFT_VECTOR_IMMEDIATE) != 0 { options.insert(.immediate8) }
      if entry.flags & UInt8(SOFT_VECTOR_ALIGNED) != 0 { options.insert(.aligned) }
      if Int(entry.shape) == Int(SOFT_SHAPE_MASKED_STORE) { options.insert(.maskedStore) }
      forms.append(
        InstructionForm(
          "vector \(number)", opcode, options, prefix: entry.prefix,
          group: entry.group == UInt8(SOFT_VECTOR_ANY) ? nil : entry.group))
    }
    forms += [
      .init("emms", [0x0F, 0x77], [.vector, .fixedSize]),
      .init("ldmxcsr", [0x0F, 0xAE], [.modRM, .memoryOnly, .fixedSize, .vector], group: 2),
      .init("stmxcsr", [0x0F, 0xAE], [.modRM, .memoryOnly, .fixedSize, .vector], group: 3),
      .init(
        "fxsave", [0x0F, 0xAE], [.modRM, .memoryOnly, .fixedSize, .wide, .vector, .aligned],
        group: 0),
      .init("clflush", [0x0F, 0xAE], [.modRM, .memoryOnly, .fixedSize], group: 7),
      .init("fence", [0x0F, 0xAE], [.modRM, .registerOnly, .fixedSize], group: 6),
    ]
    return forms
  }

  /// XSAVE, XSAVEOPT, XSAVEC and XRSTOR of x87, SSE and AVX, which all hosts lay out alike.
  static func states() -> [InstructionForm] {
    guard soft_vex_host_has() != 0 else { return [] }
    return [("xsave", 0xAE, 4), ("xrstor", 0xAE, 5), ("xsaveopt", 0xAE, 6), ("xsavec", 0xC7, 4)]
      .map { name, opcode, group in
        InstructionForm(
          name, [0x0F, opcode], [.memoryOnly, .fixedSize, .wide, .vector], group: group)
      }
  }

  /// The same of VEX instructions.
  static func vexVectors() -> [InstructionForm] {
    guard soft_vex_host_has() != 0 else { return [] }
    return (1..<soft_vex_count()).map { number in
      let entry = soft_vex_table_entry(number)
      var options: FormOptions = [.modRM, .vector, .fixedSize, .wide, .vex]
      if entry.flags & UInt16(SOFT_VEX_REGISTER_ONLY) != 0 { options.insert(.registerOnly) }
      if entry.flags & UInt16(SOFT_VEX_MEMORY_ONLY) != 0 { options.insert(.memoryOnly) }
      if entry.flags & UInt16(SOFT_VEX_IMMEDIATE) != 0 { options.insert(.immediate8) }
      if entry.flags & UInt16(SOFT_VEX_ALIGNED) != 0 { options.insert(.aligned) }
      if Int(entry.shape) == Int(SOFT_SHAPE_MASKED_STORE) { options.insert(.maskedStore) }
      var form = InstructionForm(
        "vex \(number)", [entry.map, entry.opcode], options, prefix: entry.prefix,
        group: entry.group == UInt8(SOFT_VECTOR_ANY) ? nil : entry.group)
      form.vexEntry = number
      return form
    }
  }

  static func x87() -> [InstructionForm] {
    var forms: [InstructionForm] = []
    for opcode in UInt8(0xD8)...0xDF {
      for group in UInt8(0)..<8 {
        forms.append(
          .init(
            "x87 \(opcode) /\(group)", [opcode], [.modRM, .memoryOnly, .x87, .fixedSize],
            group: group))
        forms.append(
          .init(
            "x87 \(opcode) /\(group)", [opcode], [.modRM, .registerOnly, .x87, .fixedSize],
            group: group))
      }
    }
    forms.append(.init("wait", [0x9B], [.x87, .fixedSize]))
    return forms
  }
}
