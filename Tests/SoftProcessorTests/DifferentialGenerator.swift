// Instruction cases for the differential tests: bytes, registers, memory operands. Values lean to extremes.
import CSoftProcessor
import NativeProcessor

/// A generator of its own, so that a seed gives the same cases everywhere (xorshift64*).
struct CaseRandom {
  private var state: UInt64
  init(seed: UInt64) { state = seed | 1 }
  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
  mutating func below(_ limit: UInt64) -> UInt64 { (next() >> 33) % limit }
  mutating func chance(_ percent: UInt64) -> Bool { below(100) < percent }
  mutating func pick<Element>(_ from: [Element]) -> Element { from[Int(below(UInt64(from.count)))] }

  /// A 64-bit value, mostly near a boundary of some width.
  mutating func value() -> UInt64 {
    switch below(8) {
    case 0: return below(4)
    case 1: return 0 &- below(4)
    case 2, 3: return (1 << below(64)) &+ below(3) &- 1
    case 4: return UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: next())))
    case 5: return below(0x10000)
    default: return next()
    }
  }
  mutating func single() -> UInt32 {
    let specials: [UInt32] = [
      0, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000,
      0x7F80_0001, 1, 0x807F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x4F00_0000, 0xCF00_0000, 0x5F00_0000,
      0x3F00_0000,
    ]
    switch below(4) {
    case 0: return pick(specials)
    case 1: return Float(Int32(truncatingIfNeeded: next()) >> 12).bitPattern
    case 2: return UInt32(truncatingIfNeeded: next()) & 0x87FF_FFFF | 0x3C00_0000
    default: return UInt32(truncatingIfNeeded: next())
    }
  }
  mutating func double() -> UInt64 {
    let specials: [UInt64] = [
      0, 1 << 63, 0x3FF0_0000_0000_0000, 0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000,
      0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001, 1, 0x000F_FFFF_FFFF_FFFF,
      0x0010_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF, 0x41E0_0000_0000_0000, 0x43E0_0000_0000_0000,
      0x380F_FFFF_FFFF_FFFF, 0x36A0_0000_0000_0000, 0x47EF_FFFF_F000_0000,
    ]
    switch below(4) {
    case 0: return pick(specials)
    case 1: return Double(Int64(bitPattern: next()) >> 30).bitPattern
    case 2: return next() & 0x807F_FFFF_FFFF_FFFF | 0x3F80_0000_0000_0000
    default: return next()
    }
  }
  mutating func vector() -> (UInt64, UInt64) {
    switch below(4) {
    case 0: return (value(), value())
    case 1, 2:
      if chance(50) {
        return (
          UInt64(single()) | UInt64(single()) << 32, UInt64(single()) | UInt64(single()) << 32
        )
      }
      return (double(), double())
    default: return (next(), next())
    }
  }
  /// Significand and exponent of an x87 register.
  mutating func extended() -> (UInt64, UInt16) {
    let sign: UInt16 = chance(50) ? 0x8000 : 0
    switch below(10) {
    case 0: return (0, sign)
    case 1: return (1 << 63, sign | 0x3FFF)
    case 2: return (1 << 63, sign | 0x7FFF)
    case 3: return (1 << 63 | next() >> 1, sign | 0x7FFF)
    case 4: return (next() >> below(64), sign)
    case 5: return (next(), UInt16(truncatingIfNeeded: next()))
    case 6: return (1 << 63 | value() << below(60), sign | UInt16(0x3FF0 + below(80)))
    default: return (1 << 63 | next(), sign | UInt16(0x3FFF - 40 + below(110)))
    }
  }
}

/// One case: run `code` from `state`.
struct InstructionCase {
  var form: InstructionForm
  var code: [UInt8] = []
  var state = native_state()
  var is32Bit = false
  /// Flags that are not compared.
  var undefined: UInt32 = 0
  /// Offset of the memory operand from the start of the data.
  var operand: Int?
  /// The manual leaves the whole result open.
  var isUndefined = false
  /// Upper halves of the YMM registers; empty: zeroes.
  var upper: [UInt8] = []
}

/// Makes cases of forms.
struct CaseGenerator {
  var random: CaseRandom
  /// Bytes to be put into both data areas before the case: offset and 8 bytes each.
  var pokes: [(offset: Int, value: UInt64)] = []
  var registers = [UInt64](repeating: 0, count: 16)
  var code: [UInt8] = []

  init(seed: UInt64) { random = CaseRandom(seed: seed) }

  private static let dataSize = UInt64(NATIVE_DATA_SIZE)

  /// Where a memory operand shall be: mostly well inside, sometimes at the seams.
  private mutating func target(aligned: Bool) -> UInt64 {
    let base = UInt64(NATIVE_DATA)
    switch random.below(200) {
    case 0: return base &- random.below(17)
    case 1: return base &+ Self.dataSize &- random.below(17)
    case 2: return base &+ Self.dataSize &+ random.below(0x800)
    case 3: return base &+ Self.dataSize &+ 0x1000 &- random.below(17)
    case 4...12: return base &+ 0x1000 &- random.below(17)
    default:
      let offset = 0x200 &+ random.below(0x1A00)
      return base &+ (aligned && !random.chance(2) ? offset & ~15 : offset)
    }
  }

  mutating func make(_ form: InstructionForm, is32Bit: Bool) -> InstructionCase {
    var result = InstructionCase(form: form)
    result.is32Bit = is32Bit
    result.undefined = form.undefined
    pokes.removeAll(keepingCapacity: true)
    gatherIndex = nil
    code.removeAll(keepingCapacity: true)
    for number in 0..<16 {
      registers[number] = random.value()
      if is32Bit { registers[number] &= 0xFFFF_FFFF }
    }
    registers[4] = UInt64(NATIVE_DATA) &+ 0x800 &+ random.below(0x100) &* 8
    if random.chance(3) { registers[4] &+= random.below(8) }

    let options = form.options
    var isWide = false
    var isWord = false
    if !is32Bit, !options.contains(.fixedSize) || options.contains(.wide) {
      isWide = random.chance(35)
    }
    if !options.contains(.fixedSize), !options.contains(.byte), !options.contains(.vex) {
      isWord = random.chance(25)
    }
    let addressPrefix = !is32Bit && random.chance(4)

    // Prefixes
    if options.contains(.lockable), random.chance(20) { code.append(0xF0) }
    if random.chance(2), !options.contains(.vex), !options.contains(.string) {
      code.append(random.pick(is32Bit ? [0x26, 0x3E] : [0x26, 0x2E, 0x36, 0x3E]))
    }
    if addressPrefix { code.append(0x67) }
    if isWord { code.append(0x66) }
    if options.contains(.string) {
      switch random.below(3) {
      case 0: code.append(0xF3)
      case 1: code.append(0xF2)
      default: break
      }
    }
    if form.prefix != 0, !options.contains(.vex) { code.append(form.prefix) }

    if options.contains(.vex) {
      makeVEX(form, is32Bit: is32Bit, isWide: isWide, addressPrefix: addressPrefix)
    } else {
      var rex: UInt8 = 0
      if !is32Bit {
        if isWide { rex |= 0x48 }
        if random.chance(40) { rex |= 0x40 | UInt8(random.below(8)) }
      }
      if rex != 0 { code.append(rex) }
      code += form.opcode
      if options.contains(.opcodeRegister) { code[code.count - 1] |= UInt8(random.below(8)) }
      if form.isState { makeState(form, rex: rex) }
      if options.contains(.modRM) {
        makeModRM(form, rex: rex, is32Bit: is32Bit, addressPrefix: addressPrefix)
      }
    }
    makeImmediates(form, is32Bit: is32Bit, isWide: isWide, isWord: isWord, addressPrefix)
    prepare(form, &result, isWide: isWide, isWord: isWord, addressPrefix: addressPrefix)
    result.code = code
    let offset = Int(truncatingIfNeeded: operand &- UInt64(NATIVE_DATA))
    result.operand = offset >= 0 && offset < 0x3000 - 512 ? offset : nil
    fill(&result)
    return result
  }

  private mutating func makeVEX(
    _ form: InstructionForm, is32Bit: Bool, isWide: Bool, addressPrefix: Bool
  ) {
    let pp: UInt8 = form.prefix == 0x66 ? 1 : form.prefix == 0xF3 ? 2 : form.prefix == 0xF2 ? 3 : 0
    let rex: UInt8 = is32Bit ? 0 : UInt8(random.below(8))
    var unused = form.options.contains(.unaryVEX)
    var (isWide, isLong) = (isWide && !is32Bit, false)
    var flags: UInt16 = 0
    if form.vexEntry != 0 {
      let entry = soft_vex_table_entry(form.vexEntry)
      flags = entry.flags
      unused = flags & UInt16(SOFT_VEX_FIRST) == 0 && form.group == nil
      if flags & UInt16(SOFT_VEX_W0) != 0 { isWide = false }
      if flags & UInt16(SOFT_VEX_W1) != 0 { isWide = true }
      isLong = random.chance(50)
      if flags & UInt16(SOFT_VEX_ONLY_128) != 0 { isLong = false }
      if flags & UInt16(SOFT_VEX_ONLY_256) != 0 { isLong = true }
      // What must not be so, now and then.
      if random.chance(1) { isLong.toggle() }
      if random.chance(1), !is32Bit { isWide.toggle() }
      if random.chance(1) { unused.toggle() }
    }
    let register = unused ? 0 : UInt8(random.below(is32Bit ? 8 : 16))
    let last = (~register & 15) << 3 | (isLong ? 4 : 0) | pp
    // The short form: without W, X and B.
    if form.opcode[0] == 1, !isWide, rex & 3 == 0, random.chance(50) {
      code += [0xC5, (~rex & 4) << 5 | last, form.opcode[1]]
    } else {
      code += [
        0xC4, (~rex & 7) << 5 | form.opcode[0], (isWide ? 0x80 : 0) | last, form.opcode[1],
      ]
    }
    if flags & UInt16(SOFT_VEX_GATHER) != 0 {
      if random.chance(98) { return makeGather(rex: rex, is32Bit: is32Bit) }
      // Without memory it is no instruction.
      code.append(0xC0 | UInt8(random.below(64)))
      return
    }
    makeModRM(form, rex: rex, is32Bit: is32Bit, addressPrefix: addressPrefix)
  }

  /// A base in the data pages; the vector of distances is made short by `fill`.
  private mutating func makeGather(rex: UInt8, is32Bit: Bool) {
    var base = UInt8(random.below(8))
    if base == 5 { base = 3 }
    let index = UInt8(random.below(8))
    code += [
      UInt8(random.below(8)) << 3 | 4, UInt8(random.below(4)) << 6 | index << 3 | base,
    ]
    registers[Int(base | (rex & 1) << 3)] = UInt64(NATIVE_DATA) &+ 0x1000 &+ random.below(0x100)
    gatherIndex = Int(index | (rex & 2) << 2)
    operand = 0
  }

  /// ModRM, SIB and displacement, with registers set so that the operand lies where it shall.
  private mutating func makeModRM(
    _ form: InstructionForm, rex: UInt8, is32Bit: Bool, addressPrefix: Bool
  ) {
    let reg = form.group ?? UInt8(random.below(8))
    let isRegister =
      form.options.contains(.registerOnly)
      || !form.options.contains(.memoryOnly) && random.chance(50)
    if isRegister {
      code.append(0xC0 | reg << 3 | UInt8(random.below(8)))
      if form.options.contains(.indirectBranch) {
        var number = Int(code[code.count - 1] & 7 | (rex & 1) << 3)
        if number == 4 {
          // CALL would push into the code.
          code[code.count - 1] |= 1
          number = 5
        }
        registers[number] = slotAddress()
      }
      return
    }
    let aligned = form.options.contains(.aligned)
    var target = self.target(aligned: aligned)
    if random.chance(1), !is32Bit, !addressPrefix { target |= 0x8000_0000_0000 }
    if form.options.contains(.bitString) {
      // The bit's number moves the operand: keep it near.
      let number = Int(reg | (rex & 4) << 1)
      if number != 4 { registers[number] = UInt64(bitPattern: Int64(random.below(2000)) - 1000) }
      if is32Bit { registers[number] &= 0xFFFF_FFFF }
      target = UInt64(NATIVE_DATA) &+ 0x400 &+ random.below(0x1600)
    }
    let mask: UInt64 = is32Bit || addressPrefix ? 0xFFFF_FFFF : .max
    let displacement8 = Int8(truncatingIfNeeded: random.next())
    let displacement32 = Int32(truncatingIfNeeded: random.next() >> 8 & 0xFFF) - 0x800
    let kind = UInt8(random.below(3))
    let displacement: Int64 =
      kind == 0 ? 0 : kind == 1 ? Int64(displacement8) : Int64(displacement32)
    let wanted = target &- UInt64(bitPattern: displacement)
    let high = (rex & 1) << 3
    if random.chance(8), !is32Bit {
      // RIP-relative: the distance from the end of the instruction, whose length follows.
      code.append(5 | reg << 3)
      target &= 0xFFFF_FFFF
      ripTarget = (code.count, target)
      appendLittle(0, 4)
    } else if random.chance(8) {
      // Absolute, by SIB without base and index, or directly.
      if is32Bit {
        code.append(5 | reg << 3)
      } else {
        code += [4 | reg << 3, 0x25]
      }
      target &= 0xFFFF_FFFF
      // REX.X would make the index R12.
      if !is32Bit, rex & 2 != 0 { registers[12] = 0 }
      appendLittle(target, 4)
    } else if random.chance(60) {
      var base = UInt8(random.below(8))
      if base == 4 || base == 5 && kind == 0 { base = 3 }
      code.append(kind << 6 | reg << 3 | base)
      registers[Int(base | high)] = wanted & mask
      appendDisplacement(kind, displacement)
    } else {
      var base = UInt8(random.below(8))
      if base == 5 && kind == 0 { base = 3 }
      let index = UInt8(random.below(8))
      let scale = UInt8(random.below(4))
      code += [kind << 6 | reg << 3 | 4, scale << 6 | index << 3 | base]
      let indexNumber = Int(index | (rex & 2) << 2)
      let baseNumber = Int(base | high)
      if indexNumber == 4 {
        registers[baseNumber] = wanted & mask
      } else if indexNumber == baseNumber {
        // Base plus its own multiple: wherever it leads, it must not be far.
        let multiple: UInt64 = 1 &+ 1 << UInt64(scale)
        registers[baseNumber] = (wanted & mask) / multiple
        target = registers[baseNumber] &* multiple &+ UInt64(bitPattern: displacement)
      } else {
        if indexNumber != 4 { registers[indexNumber] = random.below(0x100) }
        registers[baseNumber] = (wanted &- registers[indexNumber] << UInt64(scale)) & mask
      }
      appendDisplacement(kind, displacement)
    }
    operand = target
    let offset = Int(truncatingIfNeeded: target &- UInt64(NATIVE_DATA))
    if offset >= 0, offset < 0x2FE0 {
      if form.options.contains(.indirectBranch) {
        pokes.append((offset, slotAddress()))
      } else if form.options.contains(.vector) || form.options.contains(.x87) {
        let (low, highPart) = form.options.contains(.x87) ? x87Operand() : random.vector()
        pokes.append((offset, low))
        pokes.append((offset + 8, highPart))
      } else if random.chance(70) {
        pokes.append((offset, random.value()))
      }
    }
  }

  var operand: UInt64 = 0
  private var gatherIndex: Int?
  private var ripTarget: (position: Int, target: UInt64)?

  private mutating func x87Operand() -> (UInt64, UInt64) {
    switch random.below(4) {
    case 0: return (UInt64(random.single()), random.next())
    case 1: return (random.double(), random.next())
    case 2: return (random.value(), UInt64(random.next() & 0xFF))
    default:
      let (significand, exponent) = random.extended()
      return (significand, UInt64(exponent))
    }
  }

  private mutating func slotAddress() -> UInt64 {
    UInt64(NATIVE_CODE) &+ UInt64(NATIVE_SLOT_START)
      &+ (1 &+ random.below(14)) &* UInt64(NATIVE_SLOT_SIZE)
  }

  private mutating func appendDisplacement(_ kind: UInt8, _ value: Int64) {
    if kind == 1 { appendLittle(UInt64(bitPattern: value), 1) }
    if kind == 2 { appendLittle(UInt64(bitPattern: value), 4) }
  }
  private mutating func appendLittle(_ value: UInt64, _ count: Int) {
    for index in 0..<count { code.append(UInt8(truncatingIfNeeded: value >> UInt64(index * 8))) }
  }

  private mutating func makeImmediates(
    _ form: InstructionForm, is32Bit: Bool, isWide: Bool, isWord: Bool, _ addressPrefix: Bool
  ) {
    let options = form.options
    if options.contains(.immediateFull) { appendLittle(random.value(), isWord && !isWide ? 2 : 4) }
    if options.contains(.immediateQuad) {
      appendLittle(random.value(), isWide ? 8 : isWord ? 2 : 4)
    }
    if options.contains(.immediate16) { appendLittle(random.below(64), 2) }
    if options.contains(.immediate8) {
      appendLittle(form.name == "enter" ? random.below(4) : random.value(), 1)
    }
    if options.contains(.directOffset) {
      appendLittle(target(aligned: false), is32Bit || addressPrefix ? 4 : 8)
    }
    let entry = UInt64(NATIVE_ENTRY)
    if options.contains(.branch8) {
      // The nearest slots are out of reach of a byte: only what follows is.
      appendLittle(0, 1)
    }
    if options.contains(.branch32) {
      appendLittle(slotAddress() &- entry &- UInt64(code.count + 4), 4)
    }
    if let rip = ripTarget {
      ripTarget = nil
      let distance = rip.target &- entry &- UInt64(code.count)
      for index in 0..<4 {
        code[rip.position + index] = UInt8(truncatingIfNeeded: distance >> UInt64(index * 8))
      }
    }
  }

  /// Registers that the instruction uses without naming them; flags that depend on the operands.
  private mutating func prepare(
    _ form: InstructionForm, _ result: inout InstructionCase, isWide: Bool, isWord: Bool,
    addressPrefix: Bool
  ) {
    let options = form.options
    let data = UInt64(NATIVE_DATA)
    if options.contains(.string) || options.contains(.maskedStore) {
      registers[6] = target(aligned: false)
      registers[7] = target(aligned: false)
      registers[1] = random.below(12)
      if random.chance(3) { registers[1] = random.below(300) }
    }
    if form.name == "xlat" { registers[3] = data &+ 0x400 &+ random.below(0x400) }
    if form.name == "leave" { registers[5] = data &+ 0x400 &+ random.below(0x400) &* 4 }
    if form.name == "enter" { registers[5] = data &+ 0x800 &+ random.below(0x100) &* 8 }
    if form.name.hasPrefix("loop") || form.name == "jcxz" {
      registers[1] = random.pick([0, 1, 2, 1 << 32, random.value()])
    }
    if options.contains(.returns) {
      pokes.append((Int(truncatingIfNeeded: registers[4] &- data), slotAddress()))
    }
    if options.contains(.divide), random.chance(75) {
      let isByte = options.contains(.byte)
      let isSmall = random.chance(60)
      registers[2] = isSmall ? random.below(2) : 0
      if form.group == 7, random.chance(50) { registers[2] = .max }
      if isByte { registers[0] &= 0x7FF }
    }
    if result.is32Bit {
      for number in 0..<8 { registers[number] &= 0xFFFF_FFFF }
    }
    if options.contains(.shift) {
      prepareShift(
        form, &result, width: options.contains(.byte) ? 8 : isWide ? 64 : isWord ? 16 : 32)
    }
  }

  private mutating func prepareShift(
    _ form: InstructionForm, _ result: inout InstructionCase, width: UInt64
  ) {
    let last = form.opcode[form.opcode.count - 1]
    let isDouble = form.opcode.count == 2
    var count: UInt64
    if form.options.contains(.immediate8) {
      count = UInt64(code[code.count - 1])
    } else if !isDouble, last & 0xFE == 0xD0 {
      count = 1
    } else {
      count = registers[1] & 0xFF
    }
    count &= width == 64 ? 63 : 31
    let isRotate = !isDouble && (form.group ?? 0) < 4
    if count == 0 { return }
    if count != 1 { result.undefined |= FlagBit.o }
    if !isRotate {
      result.undefined |= FlagBit.a
      if count >= width { result.undefined |= FlagBit.c }
    }
    if isDouble, count > width { result.isUndefined = true }
  }

  /// Where a gather's indices begin in half a register.
  private func gatherOffsets(form: InstructionForm) -> [Int] {
    form.opcode[form.opcode.count - 1] & 1 == 1 ? [0, 8] : [0, 4, 8, 12]
  }

  private mutating func fill(_ result: inout InstructionCase) {
    withUnsafeMutableBytes(of: &result.state.registers) { bytes in
      let to = bytes.assumingMemoryBound(to: UInt64.self)
      for number in 0..<16 { to[number] = result.is32Bit && number >= 8 ? 0 : registers[number] }
    }
    result.state.flags = random.next() & UInt64(FlagBit.all) | 0x202
    if random.chance(25), result.form.options.contains(.string) { result.state.flags |= 0x400 }
    let isVector = result.form.options.contains(.vector)
    let isX87 = result.form.options.contains(.x87)
    let top = isX87 || random.chance(10) ? random.below(8) : 0
    withUnsafeMutableBytes(of: &result.state.fx) { fx in
      var control: UInt16 = 0x37F
      var status = UInt16(top << 11)
      var tags = UInt8.max
      if isX87 {
        if random.chance(40) {
          control = control & ~0xF00 | UInt16(random.pick([0, 2, 3]) << 8 | random.below(4) << 10)
        }
        if random.chance(8) { control &= ~UInt16(random.below(64)) }
        status |= UInt16(random.next() & 0x4700)
        if random.chance(20) { status |= UInt16(random.below(64)) }
        if random.chance(25) { tags = UInt8(truncatingIfNeeded: random.next() | random.next()) }
        // A pending exception in one of fifty cases.
        if status & ~control & 0x3F != 0 {
          if random.chance(10) { status |= 0x8080 } else { status &= ~0x3F }
        }
      } else if random.chance(30) {
        tags = UInt8(truncatingIfNeeded: random.next())
      }
      // In its initial values it would be left out, where the host knows that.
      if result.form.isState { control = 0x27F }
      fx.storeBytes(of: control, toByteOffset: 0, as: UInt16.self)
      fx.storeBytes(of: status, toByteOffset: 2, as: UInt16.self)
      fx.storeBytes(of: UInt16(tags), toByteOffset: 4, as: UInt16.self)
      var vectorStatus: UInt32 = 0x1F80
      if isVector, random.chance(20) {
        vectorStatus |= UInt32(random.next() & 0xE040)
        // Which step of a dot product raises is the processor's affair.
        let isDotProduct =
          result.form.opcode == [0x0F, 0x3A, 0x40] || result.form.opcode == [0x0F, 0x3A, 0x41]
          || result.form.opcode == [3, 0x40] || result.form.opcode == [3, 0x41]
        if random.chance(20), !isDotProduct { vectorStatus &= ~UInt32(random.below(64) << 7) }
      }
      if random.chance(10) { vectorStatus |= UInt32(random.below(64)) }
      // The flags that are set already never raise: unmasked ones would be odd, not wrong.
      fx.storeBytes(of: vectorStatus, toByteOffset: 24, as: UInt32.self)
      for number in 0..<8 {
        let (low, high): (UInt64, UInt16)
        if isX87 { (low, high) = random.extended() } else { (low, high) = (random.value(), 0xFFFF) }
        fx.storeBytes(of: low, toByteOffset: 32 + 16 * number, as: UInt64.self)
        fx.storeBytes(of: UInt64(high), toByteOffset: 40 + 16 * number, as: UInt64.self)
      }
      guard isVector || random.chance(2) else { return }
      for number in 0..<16 {
        let (low, high) = random.vector()
        fx.storeBytes(of: low, toByteOffset: 160 + 16 * number, as: UInt64.self)
        fx.storeBytes(of: high, toByteOffset: 168 + 16 * number, as: UInt64.self)
      }
      for offset in gatherOffsets(form: result.form) where gatherIndex != nil {
        fx.storeBytes(
          of: Int32(random.below(0x280)), toByteOffset: 160 + 16 * (gatherIndex ?? 0) + offset,
          as: Int32.self)
        if result.form.opcode[1] & 1 == 1 {
          fx.storeBytes(
            of: 0, toByteOffset: 164 + 16 * (gatherIndex ?? 0) + offset, as: Int32.self)
        }
      }
    }
    if isVector || random.chance(10) {
      result.upper = (0..<256).map { _ in 0 }
      for number in 0..<16 {
        let (low, high) = random.vector()
        result.upper.withUnsafeMutableBytes { bytes in
          bytes.storeBytes(of: low, toByteOffset: 16 * number, as: UInt64.self)
          bytes.storeBytes(of: high, toByteOffset: 16 * number + 8, as: UInt64.self)
        }
      }
      for offset in gatherOffsets(form: result.form) where gatherIndex != nil {
        let start = 16 * (gatherIndex ?? 0) + offset
        for byte in 0..<4 { result.upper[start + byte] = byte == 0 ? 0x55 : 0 }
        if result.form.opcode[1] & 1 == 1 {
          for byte in 4..<8 { result.upper[start + byte] = 0 }
        }
      }
    }
  }
}
