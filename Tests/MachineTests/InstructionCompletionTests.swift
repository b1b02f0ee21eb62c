import KVM
import Machine
import Testing

/// Instructions that this host's kernel cannot emulate in the guest's kernel mode.
private let emulatesSupervisorMode =
  if GuestConversation.missing == nil, case .emulatesSupervisorMode = KVMSystem.probe() {
    true
  } else {
    false
  }

@Suite(
  "Instructions completed in software",
  .enabled(if: emulatesSupervisorMode, "this host's KVM executes supervisor mode itself"),
  .serialized)
struct InstructionCompletionTests {
  private func start(_ body: String) throws -> GuestConversation {
    let configuration = try CompiledGuest.configuration(CompletionGuest.serial + body)
    return try GuestConversation(configuration)
  }

  @Test("32-bit protected mode: int3, IRET, FWAIT, x87")
  func protectedMode() throws {
    let conversation = try start(CompletionGuest.protectedMode)
    for name in ["fwait", "x87", "iret", "int3"] { try conversation.expect("\(name) ok\n") }
    #expect(try conversation.end() == CompiledGuest.passed)
    let completed = conversation.machine.statistics().completedInstructions
    for name in ["fwait", "iret", "int3"] {
      #expect((completed[name] ?? 0) > 0, "\(name): \(completed)")
    }
  }

  @Test(
    "long mode: int3, SSE, CMPXCHG16B, STAC and CLAC, FXRSTOR, XRSTOR without XSAVE, UD2, XSAVE")
  func longMode() throws {
    let conversation = try start(CompletionGuest.longMode)
    for name in ["int3", "sse", "cmpxchg16b", "stac", "fxrstor", "xrstor", "ud2", "xsave"] {
      try conversation.expect("\(name) ok\n")
    }
    #expect(try conversation.end() == CompiledGuest.passed)
    let completed = conversation.machine.statistics().completedInstructions
    for name in ["int3", "sse", "cmpxchg16b", "stac", "xsave"] {
      #expect((completed[name] ?? 0) > 0, "\(name): \(completed)")
    }
  }

  @Test("code that is changed between two completions is executed as it is")
  func changedCode() throws {
    let conversation = try start(
      """
      static u8 code[16];
      void guest_main(void) {
        // fwait; mov $0, %al; ret
        code[0] = 0x9B; code[1] = 0xB0; code[3] = 0xC3;
        for (u32 i = 0; i < 200; i++) {
          *(volatile u8 *)(code + 2) = i;
          u8 value;
          __asm__ volatile("call *%1" : "=a"(value) : "r"(code) : "memory");
          if (value != i) finish(1);
        }
        finish(passed);
      }
      """)
    #expect(try conversation.end() == CompiledGuest.passed)
    #expect(
      conversation.machine.statistics().completedInstructions["fwait"].map { $0 > 0 } == true)
  }

  @Test("without a handler the exception becomes a triple fault, which resets")
  func tripleFault() throws {
    var configuration = try CompiledGuest.configuration(
      """
      void guest_main(void) { __asm__ volatile("int3"); finish(1); }
      """)
    configuration.stopsOnReset = true
    #expect(try GuestConversation(configuration).end() == .reset)
  }

  @Test("an instruction that wants a chip of the kernel's ends the machine with a report")
  func kernelChip() throws {
    let conversation = try start(
      """
      void guest_main(void) {
        __asm__ volatile("mov %%cr4, %%eax; or $0x600, %%eax; mov %%eax, %%cr4" ::: "eax");
        __asm__ volatile("movd 0xFEE00030, %xmm0");
        finish(1);
      }
      """)
    guard case .failed(let report) = try conversation.end() else {
      Issue.record("no report")
      return
    }
    #expect(report.contains("cannot emulate an instruction"))
    #expect(conversation.machine.statistics().completedInstructions["sse"] == nil)
  }
}
