// The software processor against the host's own, instruction by instruction.
import CSoftProcessor
import NativeProcessor
import SoftProcessor
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// How many cases a run has: UNDERJACK_DIFFERENTIAL_CASES, or enough for every form some hundred times.
private func caseCount(_ standard: Int) -> Int {
  guard let text = getenv("UNDERJACK_DIFFERENTIAL_CASES"), let number = Int(String(cString: text))
  else { return standard }
  return number
}

private func freshSeed() -> UInt64 {
  if let text = getenv("UNDERJACK_DIFFERENTIAL_SEED"), let seed = UInt64(String(cString: text)) {
    return seed
  }
  return .random(in: 1 ... .max)
}

/// Runs cases of the forms in turn; the result is what to print when it is not empty.
private func compare(
  _ forms: [InstructionForm], cases: Int, seed: UInt64, translates: Bool = false
) -> String {
  guard let run = DifferentialRun(translates: translates) else { return "" }
  var generator = CaseGenerator(seed: seed)
  for number in 0..<cases {
    let form = forms[number % forms.count]
    var is32Bit = run.has32Bit && generator.random.chance(25)
    if form.options.contains(.only32) { is32Bit = true }
    if form.options.contains(.only64) { is32Bit = false }
    if is32Bit, !run.has32Bit { continue }
    // INC and DEC have other names there; what the 64-bit forms need is not there.
    let test = generator.make(form, is32Bit: is32Bit)
    run.run(test, pokes: generator.pokes)
  }
  print("\(run.cases) cases, \(run.exceptions) exceptions, seed \(seed), unknown \(run.unknown)")
  if translates { print("\(run.translatedCount) translated") }
  if run.differences.isEmpty { return "" }
  return "seed \(seed): \(run.differences)\n" + run.messages.joined(separator: "\n")
}

private struct Group: CustomTestStringConvertible {
  var testDescription: String
  /// In a test run; exceptions cost ten times what others do.
  var standardCount = 14_000
  var forms: @Sendable () -> [InstructionForm]
}

private let groups: [Group] = [
  Group(testDescription: "arithmetic") { InstructionForms.arithmetic() },
  Group(testDescription: "shifts") { InstructionForms.shifts() },
  Group(testDescription: "bits") { InstructionForms.bits() },
  Group(testDescription: "moves") { InstructionForms.moves() },
  Group(testDescription: "stack and branches") { InstructionForms.stackAndBranches() },
  Group(testDescription: "privileged", standardCount: 4000) { InstructionForms.privileged() },
  Group(testDescription: "strings") { InstructionForms.strings() },
  Group(testDescription: "vectors") { InstructionForms.vectors() },
  Group(testDescription: "VEX", standardCount: 30_000) { InstructionForms.vexVectors() },
  Group(testDescription: "saved states") { InstructionForms.states() },
  Group(testDescription: "x87") { InstructionForms.x87() },
]

/// Whether the host lets a process map executable pages where the cases want them.
private let isPossible: Bool = {
  guard native_open() != 0 else { return false }
  native_close()
  return true
}()

// One at a time: the native side has fixed addresses and takes the process's signals.
@Suite(
  "The software processor does what the host's does", .serialized,
  .enabled(if: isPossible, "the host refuses writable and executable pages at fixed addresses"))
struct DifferentialTests {
  @Test("the same cases each time", arguments: groups)
  fileprivate func fixedSeed(_ group: Group) {
    let result = compare(group.forms(), cases: caseCount(group.standardCount), seed: 0x5EED)
    #expect(result == "")
  }

  @Test("other cases each time", arguments: groups)
  fileprivate func freshCases(_ group: Group) {
    let result = compare(group.forms(), cases: caseCount(group.standardCount), seed: freshSeed())
    #expect(result == "")
  }

  @Test("translated to the host's code", arguments: groups.prefix(5))
  fileprivate func translated(_ group: Group) {
    let result = compare(
      group.forms(), cases: caseCount(group.standardCount), seed: freshSeed(), translates: true)
    #expect(result == "")
  }

  @Test("any bytes are an instruction or an exception, and nothing else happens")
  func anyBytes() {
    let probe = InstructionProbe(
      codeAddress: UInt64(NATIVE_CODE), dataAddress: UInt64(NATIVE_DATA))
    var random = CaseRandom(seed: freshSeed())
    let entry = UInt64(NATIVE_ENTRY)
    var decoded = 0
    for _ in 0..<caseCount(400_000) {
      probe.setMode(is32Bit: random.chance(40))
      let cpu = probe.cpu
      for number in 0..<16 {
        soft_registers(cpu)[number] =
          random.chance(50) ? UInt64(NATIVE_DATA) &+ random.below(0x3000) : random.value()
      }
      probe.flags = random.next() & 0xED5 | 2
      cpu.pointee.ftw = UInt8(truncatingIfNeeded: random.next())
      cpu.pointee.fsw = UInt16(random.below(8) << 11)
      soft_vector_set_status(cpu, 0x1F80)
      var code: [UInt8] = []
      if random.chance(30) { code.append(random.pick([0x66, 0xF2, 0xF3, 0xF0, 0x67, 0x48])) }
      if random.chance(50) { code.append(0x0F) }
      if random.chance(20) { code.append(random.pick([0x38, 0x3A, 0xAE, 0xC7, 0xBA])) }
      while code.count < 15 { code.append(UInt8(truncatingIfNeeded: random.next() >> 20)) }
      let isDecoded = code.withUnsafeBufferPointer {
        probe.step($0.baseAddress!, count: 15, at: entry)
      }
      if isDecoded { decoded += 1 }
      // What an instruction of a process cannot change.
      #expect(cpu.pointee.cr0 & 0x8000_0001 == 0x8000_0001)
      #expect(cpu.pointee.cr3 == 0x1000)
      if cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE), cpu.pointee.exception > 19 {
        Issue.record("exception \(cpu.pointee.exception)")
      }
    }
    #expect(decoded > 1000)
  }

  /// Nothing is asserted: UNDERJACK_MEASURE prints what handlers cost.
  @Test(
    "nanoseconds for an instruction",
    .enabled(if: getenv("UNDERJACK_MEASURE") != nil, "UNDERJACK_MEASURE is not set"))
  func measure() {
    let probe = InstructionProbe(
      codeAddress: UInt64(NATIVE_CODE), dataAddress: UInt64(NATIVE_DATA))
    probe.setMode(is32Bit: false)
    for number in 0..<16 { soft_registers(probe.cpu)[number] = UInt64(NATIVE_DATA) &+ 0x100 }
    let codes: [(String, [UInt8])] = [
      ("add eax, ecx", [0x01, 0xC8]), ("mov eax, [rcx]", [0x8B, 0x01]),
      ("movaps xmm0, xmm1", [0x0F, 0x28, 0xC1]), ("movups xmm0, [rcx]", [0x0F, 0x10, 0x01]),
      ("movups [rcx], xmm0", [0x0F, 0x11, 0x01]), ("movsd xmm0, [rcx]", [0xF2, 0x0F, 0x10, 0x01]),
      ("movsd [rcx], xmm0", [0xF2, 0x0F, 0x11, 0x01]),
      ("addsd xmm0, xmm1", [0xF2, 0x0F, 0x58, 0xC1]),
      ("addsd xmm0, [rcx]", [0xF2, 0x0F, 0x58, 0x01]),
      ("mulps xmm0, xmm1", [0x0F, 0x59, 0xC1]), ("pxor xmm0, xmm0", [0x66, 0x0F, 0xEF, 0xC0]),
      ("paddd xmm0, [rcx]", [0x66, 0x0F, 0xFE, 0x01]),
      ("cvtsi2sd xmm0, eax", [0xF2, 0x0F, 0x2A, 0xC0]),
      ("ucomisd xmm0, xmm1", [0x66, 0x0F, 0x2E, 0xC1]),
      ("pmovmskb eax, xmm0", [0x66, 0x0F, 0xD7, 0xC0]), ("fld1; st full", [0xD9, 0xE8]),
      ("fadd st0, st1", [0xD8, 0xC1]), ("fadd [rcx]", [0xDC, 0x01]), ("fst [rcx]", [0xDD, 0x11]),
      ("fxch", [0xD9, 0xC9]), ("fnstcw [rcx]", [0xD9, 0x39]),
      ("paddb mm0, mm1", [0x0F, 0xFC, 0xC1]),
    ]
    for (name, code) in codes {
      soft_x87_initialize(probe.cpu)
      probe.cpu.pointee.ftw = 0xFF
      let bytes = code + [UInt8](repeating: 0x90, count: 15 - code.count)
      let clock = ContinuousClock()
      var best = Duration.seconds(100)
      for _ in 0..<60 {
        let time = clock.measure {
          bytes.withUnsafeBufferPointer {
            probe.execute($0.baseAddress!, count: 15, times: 64_000)
          }
        }
        best = min(best, time)
      }
      print("\(name): \(Double(best.components.attoseconds) / 1e9 / 64_000) ns")
    }
  }
}
