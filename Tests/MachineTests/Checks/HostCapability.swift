import KVM
import Machine
import TestGuests

/// Things that a PC's processor does and that some hosts' KVM cannot give: the check guest executes them only where they
/// are allowed. A host with full KVM must pass all; where the kernel emulates supervisor mode each is tried once.
enum HostCapability: String, CaseIterable, Sendable {
  case int3, sse0, xgetbv, syscall, iret32, paging32
  case userInt = "user-int"
  case userDebug = "user-debug"
  case controlUpper = "cr-upper"
  case longInstruction = "long-instruction"
  case readTimeStampAndProcessor = "rdtscp0"
  case hidesInstructions = "hides-instructions"
  case localInService = "local-in-service"
  case exactAPIC = "exact-apic"

  /// What is missing where it is not there.
  var explanation: String {
    let what =
      switch self {
      case .int3: "execute INT3 at CPL 0"
      case .sse0: "execute SSE instructions at CPL 0"
      case .xgetbv: "execute XGETBV at CPL 0"
      case .syscall: "execute SYSCALL of a 64-bit program, or refuse it while EFER.SCE is off"
      case .iret32: "execute IRET in 32-bit protected mode, so no interrupt can return there"
      case .paging32: "page in 32-bit protected mode"
      case .userInt: "execute INT n at CPL 3"
      case .userDebug: "raise #DB for breakpoints of CPL 3"
      case .controlUpper: "refuse bits 63:32 of CR0 and CR4"
      case .longInstruction: "refuse instructions of more than 15 bytes"
      case .readTimeStampAndProcessor: "execute RDTSCP at CPL 0"
      case .hidesInstructions: "refuse instructions that CPUID hides"
      case .localInService: "show an interrupt in service in the local APIC's ISR"
      case .exactAPIC: "refuse illegal vectors in the local APIC"
      }
    return "this host's KVM cannot \(what)"
  }

  /// The group of checks that shows it, and where.
  private var trial: (entry: CheckGuest, group: String) {
    switch self {
    case .int3, .sse0, .xgetbv, .controlUpper, .longInstruction: (.linux64, "processor")
    case .syscall, .userInt, .userDebug, .readTimeStampAndProcessor, .hidesInstructions:
      (.linux64, "user")
    case .localInService, .exactAPIC: (.linux64, "apic")
    case .iret32: (.pvh, "chips")
    case .paging32: (.pvh, "processor")
    }
  }

  /// Runs the checks that need it.
  func attempt() throws -> CheckReport {
    let trial = trial
    let machine = try CheckMachine(.init(entry: trial.entry))
    return try machine.check(["only", trial.group, rawValue], seconds: 10)
  }

  /// Tried once a run of the tests.
  private static let present: Set<HostCapability> = {
    guard GuestConversation.missing == nil else { return [] }
    if KVMSystem.probe() == .full { return Set(allCases) }
    return Set(
      allCases.filter { capability in
        guard let report = try? capability.attempt() else { return false }
        return report.brokeOff == nil && report.failed.isEmpty
      })
  }()

  var isThere: Bool { Self.present.contains(self) }

  /// Everything that hardware does, with our own chips.
  static var allWords: [String] {
    allCases.map(\.rawValue).sorted() + ["exact-pit", "exact-pic"]
  }

  /// Everything that the guest may do on this host with these chips.
  static func words(for chip: InterruptChip) -> [String] {
    // The kernel's 8254 and 8259A leave out what no system uses: gates, modes 1, 4, 5, acknowledgement by poll.
    present.map(\.rawValue).sorted() + (chip == .split ? ["exact-pit", "exact-pic"] : [])
  }
}
