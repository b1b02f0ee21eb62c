// The software processor against the host's own, instruction by instruction.
import CSoftProcessor
import NativeProcessor
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
private func compare(_ forms: [InstructionForm], cases: Int, seed: UInt64) -> String {
  guard let run = DifferentialRun() else { return "" }
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
  if run.differences.isEmpty { return "" }
  return "seed \(seed): \(run.differences)\n" + run.messages.joined(separator: "\n")
}

private struct Group: CustomTestStringConvertible {
  var testDescription: String
  var forms: @Sendable () -> [InstructionForm]
}

private let groups: [Group] = [
  Group(testDescription: "arithmetic") { InstructionForms.arithmetic() },
  Group(testDescription: "shifts") { InstructionForms.shifts() },
  Group(testDescription: "bits") { InstructionForms.bits() },
  Group(testDescription: "moves") { InstructionForms.moves() },
  Group(testDescription: "stack and branches") { InstructionForms.stackAndBranches() },
  Group(testDescription: "strings") { InstructionForms.strings() },
  Group(testDescription: "vectors") { InstructionForms.vectors() },
  Group(testDescription: "x87") { InstructionForms.x87() },
]

// One at a time: the native side has fixed addresses and takes the process's signals.
@Suite("The software processor does what the host's does", .serialized)
struct DifferentialTests {
  @Test("the same cases each time", arguments: groups)
  fileprivate func fixedSeed(_ group: Group) {
    let result = compare(group.forms(), cases: caseCount(14_000), seed: 0x5EED)
    #expect(result == "")
  }

  @Test("other cases each time", arguments: groups)
  fileprivate func freshCases(_ group: Group) {
    let result = compare(group.forms(), cases: caseCount(14_000), seed: freshSeed())
    #expect(result == "")
  }
}
