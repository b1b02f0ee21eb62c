// Translated code beside interpreted code: the same programs, the same outcome.
import Glibc
import GuestMemory
import Processor
import SoftProcessor
import Testing

@Suite("Translated code does what the interpreter does")
struct TranslationTests {
  /// Everything that a program can change.
  private struct Result: Equatable {
    var end: SystemFixture.End
    var registers: [UInt64] = []
    var flags: UInt64
    var instructionPointer: UInt64
    var faultAddress: UInt64
    var data: [UInt8]
  }

  private static let dataAddress: UInt64 = 0x4000
  private static let dataSize = 0x3000

  private func run(
    _ fixture: SystemFixture, _ code: [UInt8], _ start: ProcessorState, data: [UInt8],
    seconds: Double = 2
  ) throws -> Result {
    let memory = fixture.memory
    // 4 KiB pages for the first 2 MiB; what follows the data is not there.
    memory.store(0x2007 as UInt64, at: GuestAddress(0x1000))
    memory.store(0x3007 as UInt64, at: GuestAddress(0x2000))
    memory.store(0x8_0007 as UInt64, at: GuestAddress(0x3000))
    for page in UInt64(0)..<512 where page != 7 {
      memory.store(page << 12 | 0x67, at: GuestAddress(0x8_0000 + page * 8))
    }
    try memory.write(data, at: GuestAddress(Self.dataAddress))
    let outcome = try fixture.run(code, from: start, seconds: seconds)
    let state = try fixture.processor.saveState()
    var result = Result(
      end: outcome.end, flags: state.flags, instructionPointer: state.instructionPointer,
      faultAddress: state.control2, data: [])
    for index in 0..<16 { result.registers.append(state.generalRegisters[index]) }
    result.data = [UInt8](repeating: 0, count: Self.dataSize)
    try result.data.withUnsafeMutableBytes {
      try memory.read($0, at: GuestAddress(Self.dataAddress))
    }
    return result
  }

  @Test("a program that goes in circles is stopped, interpreted and translated")
  func circles() throws {
    for threshold in [nil, 0] as [UInt64?] {
      let fixture = try SystemFixture(memorySize: 2 << 20, translateAfter: threshold)
      // 1: inc rax; jmp 1b
      let state = ProcessorState.long64(
        entry: SystemFixture.origin, pageTable: 0x1000, stackPointer: 0x5800)
      let result = try run(
        fixture, [0x48, 0xFF, 0xC0, 0xEB, 0xFB], state, data: [0], seconds: 0.1)
      #expect(result.end == .hung)
      #expect(result.registers[0] > 1000)
    }
  }

  @Test(
    "random instructions, alone and in a loop", arguments: [false, true])
  func randomInstructions(isLoop: Bool) throws {
    let seed = UInt64.random(in: 1 ... .max)
    var random = CaseRandom(seed: seed)
    var finished = 0
    let interpreter = try SystemFixture(memorySize: 2 << 20, translateAfter: nil)
    let translator = try SystemFixture(memorySize: 2 << 20, translateAfter: 0)
    for round in 0..<Self.rounds {
      var program = TranslationProgram(random: random)
      program.make(count: 1 + Int(random.below(14)), isLoop: isLoop)
      random = program.random
      var state = ProcessorState.long64(
        entry: SystemFixture.origin, pageTable: 0x1000, stackPointer: 0x5800)
      for index in 0..<16 where index != 4 {
        state.generalRegisters[index] =
          random.chance(60) ? 0x4000 &+ random.below(0x2C00) : random.value()
      }
      if isLoop { state.generalRegisters[15] = 4 }
      state.flags = random.next() & 0x8D5 | 2
      var data: [UInt8] = []
      for _ in 0..<Self.dataSize { data.append(UInt8(truncatingIfNeeded: random.next() >> 20)) }
      let expected = try run(interpreter, program.code, state, data: data)
      // Its stores made it another program, which goes in circles: there is no end to compare.
      if expected.end == .hung { continue }
      let found = try run(translator, program.code, state, data: data)
      if expected.end == .finished { finished += 1 }
      let isEqual = expected == found
      if !isEqual {
        let bytes = program.code.map { String($0, radix: 16) }.joined(separator: " ")
        Issue.record(
          """
          round \(round) of \(seed): \(bytes)
          interpreted \(describe(expected))
          translated  \(describe(found))
          before      \(describe(state))
          """)
        return
      }
    }
    #expect(finished > Self.rounds / 4)
    print("\(Self.rounds) programs, \(finished) to their end, seed \(seed)")
  }

  /// UNDERJACK_TRANSLATED_PROGRAMS, or enough for a test run.
  private static let rounds =
    getenv("UNDERJACK_TRANSLATED_PROGRAMS").flatMap { Int(String(cString: $0)) } ?? 1500

  private func describe(_ result: Result) -> String {
    "\(result.end) rip \(hex(result.instructionPointer)) flags \(hex(result.flags)) "
      + result.registers.map(hex).joined(separator: " ")
  }
  private func describe(_ state: ProcessorState) -> String {
    "flags \(hex(state.flags)) "
      + (0..<16).map { hex(state.generalRegisters[$0]) }.joined(separator: " ")
  }
  private func hex(_ value: UInt64) -> String { String(value, radix: 16) }
}

/// Random 64-bit code of instructions that leave no flag undefined.
struct TranslationProgram {
  var random: CaseRandom
  private(set) var code: [UInt8] = []

  init(random: CaseRandom) { self.random = random }

  /// - Parameter isLoop: the instructions are done as often as R15 says.
  mutating func make(count: Int, isLoop: Bool) {
    for _ in 0..<count { appendInstruction(isLoop: isLoop) }
    if isLoop {
      // dec r15; jnz
      code += [0x49, 0xFF, 0xCF, 0x0F, 0x85]
      let distance = UInt32(bitPattern: -Int32(code.count + 4))
      for index in 0..<4 { code.append(UInt8(truncatingIfNeeded: distance >> UInt32(index * 8))) }
    }
    code += [0xE6, 0xF4, 0xF4]
  }

  /// Any register but R15, the counter of loops.
  private mutating func register() -> UInt8 { UInt8(random.below(15)) }

  /// Prefixes, opcode and ModRM with a register or a memory operand near the data.
  private mutating func form(
    _ opcode: [UInt8], size: UInt8, reg: UInt8, isMemory: Bool, rm fixed: UInt8? = nil,
    lock: Bool = false
  ) {
    if lock { code.append(0xF0) }
    if size == 1 { code.append(0x66) }
    var rm = fixed ?? register()
    var modRM = (reg & 7) << 3
    var tail: [UInt8] = []
    var rex: UInt8 = (size == 3 ? 0x48 : 0x40) | (reg & 8) >> 1
    if !isMemory {
      modRM |= 0xC0 | rm & 7
    } else {
      let index = register()
      if rm & 7 == 4 || random.chance(20) {
        if rm & 7 == 5 { rm &= 8 }
        modRM |= 0x44
        tail = [UInt8(random.below(4)) << 6 | (index & 7) << 3 | rm & 7]
        rex |= (index & 8) >> 2
      } else {
        modRM |= 0x40 | rm & 7
      }
      tail.append(UInt8(random.below(256)))
    }
    rex |= (rm & 8) >> 3
    // Without REX, AH to BH can be named.
    if rex != 0x40 || random.chance(70) { code.append(rex) }
    code += opcode + [modRM] + tail
  }

  private mutating func immediate(_ size: UInt8) {
    let value = random.value()
    for index in 0..<(size == 3 ? 4 : 1 << Int(size)) {
      code.append(UInt8(truncatingIfNeeded: value >> UInt64(index * 8)))
    }
  }

  private mutating func appendInstruction(isLoop: Bool) {
    let size = UInt8(random.below(4))
    let wide: UInt8 = size == 0 ? 0 : 1
    let isMemory = random.chance(35)
    let reg = register()
    switch random.below(24) {
    case 0, 1, 2:
      form([UInt8(random.below(8)) << 3 | wide], size: size, reg: reg, isMemory: isMemory)
    case 3, 4:
      form([UInt8(random.below(8)) << 3 | 2 | wide], size: size, reg: reg, isMemory: isMemory)
    case 5:
      form([0x80 | wide], size: size, reg: UInt8(random.below(8)), isMemory: isMemory)
      immediate(size)
    case 6:
      form([0x83], size: max(size, 1), reg: UInt8(random.below(8)), isMemory: isMemory)
      immediate(0)
    case 7: form([0x84 | wide], size: size, reg: reg, isMemory: isMemory)
    case 8, 9:
      form([0x88 | wide | UInt8(random.below(2)) << 1], size: size, reg: reg, isMemory: isMemory)
    case 10: form([0x8D], size: max(size, 1), reg: reg, isMemory: true)
    case 11:
      form([0xFE | wide], size: size, reg: UInt8(random.below(2)), isMemory: isMemory)
    case 12:
      // Shifts and rotates by 1 define OF; AF is undefined after shifts, so only rotates.
      form([0xD0 | wide], size: size, reg: UInt8(random.below(2)), isMemory: isMemory)
    case 13:
      form([0xF6 | wide], size: size, reg: 2 + UInt8(random.below(2)), isMemory: isMemory)
    case 14:
      form(
        [0x0F, 0x40 | UInt8(random.below(16))], size: max(size, 1), reg: reg, isMemory: isMemory)
    case 15:
      form([0x0F, 0x90 | UInt8(random.below(16))], size: 0, reg: 0, isMemory: isMemory)
    case 16:
      let opcode: UInt8 = [0xB6, 0xB7, 0xBE, 0xBF][Int(random.below(4))]
      form([0x0F, opcode], size: max(size, 2), reg: reg, isMemory: isMemory)
    case 17:
      form(
        [0x0F, 0xB0 | wide], size: size, reg: reg, isMemory: true, lock: random.chance(50))
    case 18:
      form(
        [0x0F, 0xC0 | wide], size: size, reg: reg, isMemory: true, lock: random.chance(50))
    case 19:
      let number = register()
      if number >= 8 { code.append(0x41) }
      code.append((random.chance(50) ? 0x50 : 0x58) | number & 7)
    case 20:
      // XCHG, BSWAP, CDQ and CQO, CDQE.
      switch random.below(4) {
      case 0: form([0x87], size: max(size, 2), reg: reg, isMemory: false)
      case 1: code += [0x48 | reg >> 3, 0x0F, 0xC8 | reg & 7]
      case 2: code += [0x48, 0x99]
      default: code += [0x48, 0x98]
      }
    case 21:
      // A jump over the next instruction's first bytes would decode anything: over a MOV of known length.
      code += [0x70 | UInt8(random.below(16)), 5, 0xB8 | UInt8(random.below(4))]
      immediate(2)
    case 22:
      // CALL of the next instruction, POP of its address; RET to the next one.
      if random.chance(50) {
        code += [0xE8, 0, 0, 0, 0, 0x5A]
      } else {
        code += [0xE8, 2, 0, 0, 0, 0xEB, 1, 0xC3]
      }
    default:
      let number = register()
      code += [0x48 | number >> 3, 0xB8 | number & 7]
      let value = random.chance(50) ? 0x4000 &+ random.below(0x3000) : random.value()
      for index in 0..<8 { code.append(UInt8(truncatingIfNeeded: value >> UInt64(index * 8))) }
    }
  }
}
