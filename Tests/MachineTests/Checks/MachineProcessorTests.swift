import Machine
import TestGuests
import Testing

/// What hosts whose kernel emulates supervisor mode may not be able to do: each says so when it is skipped.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct MachineProcessorTests {
  private func check(_ capability: HostCapability, _ names: String...) throws {
    let report = try capability.attempt()
    #expect(report.brokeOff == nil, "\(report)")
    #expect(report.failed.isEmpty, "\(report.failed)")
    let missing = Set(names).subtracting(report.passed)
    #expect(missing.isEmpty, "never reported: \(missing)")
  }

  @Test(
    "INT3 at CPL 0 is a breakpoint exception",
    .enabled(if: HostCapability.int3.isThere, "\(HostCapability.int3.explanation)"))
  func int3() throws {
    try check(.int3, "l64.exception.int3")
  }

  @Test(
    "SSE at CPL 0, and #NM while CR0.TS is set",
    .enabled(if: HostCapability.sse0.isThere, "\(HostCapability.sse0.explanation)"))
  func sse0() throws {
    try check(.sse0, "l64.sse.at-cpl0", "l64.sse.task-switched")
  }

  @Test(
    "XCR0 reads back",
    .enabled(if: HostCapability.xgetbv.isThere, "\(HostCapability.xgetbv.explanation)"))
  func xgetbv() throws {
    try check(.xgetbv)
  }

  @Test(
    "SYSCALL and SYSRET, #UD while EFER.SCE is off",
    .enabled(if: HostCapability.syscall.isThere, "\(HostCapability.syscall.explanation)"))
  func syscall() throws {
    try check(.syscall, "l64.user.syscall", "l64.user.syscall-off")
  }

  @Test(
    "interrupts in 32-bit protected mode",
    .enabled(if: HostCapability.iret32.isThere, "\(HostCapability.iret32.explanation)"))
  func iret32() throws {
    try check(.iret32, "p32.pic.delivery", "p32.keyboard.interrupt")
  }

  @Test(
    "32-bit paging: missing and read-only pages",
    .enabled(if: HostCapability.paging32.isThere, "\(HostCapability.paging32.explanation)"))
  func paging32() throws {
    try check(.paging32, "p32.paging.missing", "p32.paging.read-only", "p32.paging.accessed")
  }

  @Test(
    "INT n at CPL 3 obeys the gate's privilege",
    .enabled(if: HostCapability.userInt.isThere, "\(HostCapability.userInt.explanation)"))
  func userInt() throws {
    try check(.userInt, "l64.user.int", "l64.user.int-without-gate")
  }

  @Test(
    "hardware breakpoints and watchpoints at CPL 3",
    .enabled(if: HostCapability.userDebug.isThere, "\(HostCapability.userDebug.explanation)"))
  func userDebug() throws {
    try check(
      .userDebug, "l64.user.execution-breakpoint", "l64.user.write-watchpoint",
      "l64.user.single-step")
  }

  @Test(
    "bits 63:32 of CR0 and CR4 are refused",
    .enabled(if: HostCapability.controlUpper.isThere, "\(HostCapability.controlUpper.explanation)"))
  func controlUpper() throws {
    try check(.controlUpper, "l64.cr0.upper-half", "l64.cr4.upper-half")
  }

  @Test(
    "an instruction of 16 bytes is refused",
    .enabled(
      if: HostCapability.longInstruction.isThere, "\(HostCapability.longInstruction.explanation)"))
  func longInstruction() throws {
    try check(.longInstruction, "l64.exception.too-long")
  }

  @Test(
    "RDTSCP at CPL 0",
    .enabled(
      if: HostCapability.readTimeStampAndProcessor.isThere,
      "\(HostCapability.readTimeStampAndProcessor.explanation)"))
  func readTimeStampAndProcessor() throws {
    try check(.readTimeStampAndProcessor)
  }

  @Test(
    "RDTSCP is #UD where CPUID hides it",
    .enabled(
      if: HostCapability.hidesInstructions.isThere,
      "\(HostCapability.hidesInstructions.explanation)"))
  func hidesInstructions() throws {
    try check(.hidesInstructions)
  }

  @Test(
    "the local APIC shows what is in service",
    .enabled(
      if: HostCapability.localInService.isThere, "\(HostCapability.localInService.explanation)"))
  func localInService() throws {
    try check(.localInService, "l64.apic.in-service")
  }

  @Test(
    "the local APIC refuses illegal vectors",
    .enabled(if: HostCapability.exactAPIC.isThere, "\(HostCapability.exactAPIC.explanation)"))
  func exactAPIC() throws {
    try check(.exactAPIC, "l64.apic.illegal-vector")
  }
}
