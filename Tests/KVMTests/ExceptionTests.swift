import GuestMemory
import KVM
import Processor
import Testing

/// Instructions that must fault or must be answered, at CPL 0. A kernel that emulates supervisor mode reports an
/// instruction that it does not know as an emulation failure instead of #UD: such hosts are told apart.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"), .timeLimit(.minutes(1)))
struct ExceptionTests {
  static let invalidOpcode = Guest.Output.vector(6)
  static let generalProtection = Guest.Output.vector(13)

  @Test(
    arguments: [
      // mov eax, PG without PE
      [0xB8, 0x00, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0],
      // mov eax, PE | NW without CD
      [0xB8, 0x11, 0x00, 0x00, 0x20, 0x0F, 0x22, 0xC0],
      // mov eax, a reserved bit; mov cr4, eax
      [0xB8, 0x00, 0x00, 0x00, 0x40, 0x0F, 0x22, 0xE0],
    ] as [[UInt8]])
  func badControlRegisterValueIsAGeneralProtectionFault(_ code: [UInt8]) throws {
    let guest = try Guest(code + [0xE6, 0x80, 0xF4])
    try guest.startFlat()
    #expect(try guest.outcome() == [Self.generalProtection])
  }

  @Test func switchingPagingOffInLongModeIsAGeneralProtectionFault() throws {
    let guest = try Guest([
      0x0F, 0x20, 0xE0,  // mov rax, cr4
      0x83, 0xE0, 0xDF,  // and eax, ~PAE
      0x0F, 0x22, 0xE0,  // mov cr4, rax
      0xE6, 0x80, 0xF4,
    ])
    try guest.startLong()
    #expect(try guest.outcome() == [Self.generalProtection])
  }

  @Test func prefixedCPUIDIsAnswered() throws {
    let guest = try Guest([
      0x31, 0xC0,  // xor eax, eax
      0x48, 0x0F, 0xA2,  // rex.w cpuid
      0x89, 0xD8, 0xE7, 0x80,  // mov eax, ebx; out 0x80, eax
      0x89, 0xD0, 0xE7, 0x80,  // mov eax, edx; out 0x80, eax
      0x89, 0xC8, 0xE7, 0x80,  // mov eax, ecx; out 0x80, eax
      0xF4,
    ])
    try guest.startLong()
    let leaf = try #require(guest.system.supportedLeaves.first { $0.function == 0 })
    let output = try guest.collect().output.map(\.value)
    #expect(output == [leaf.ebx, leaf.edx, leaf.ecx].map(UInt64.init))
  }

  @Test func hypervisorBitAndLeavesAreVisible() throws {
    let guest = try Guest(
      [
        0xB8, 0x01, 0x00, 0x00, 0x00, 0x0F, 0xA2,  // cpuid 1
        0x89, 0xC8, 0xE7, 0x80,  // mov eax, ecx; out 0x80, eax
        0xB8, 0x10, 0x00, 0x00, 0x40, 0x0F, 0xA2,  // cpuid 0x40000010
        0xE7, 0x80,  // out 0x80, eax
        0xF4,
      ], policy: CPUIDPolicy(timeStampKilohertz: 1_234_567))
    try guest.startFlat()
    let output = try guest.collect().output.map(\.value)
    try #require(output.count == 2)
    #expect(output[0] >> 31 == 1)
    #expect(output[1] == 1_234_567)
  }

  @Test func timeStampInstructionsTellProcessorNumber() throws {
    let guest = try Guest([
      0xB9, 0x03, 0x01, 0x00, 0xC0,  // mov ecx, IA32_TSC_AUX
      0xB8, 0x39, 0x05, 0x00, 0x00, 0x31, 0xD2,  // mov eax, 1337; xor edx, edx
      0x0F, 0x30,  // wrmsr
      0x31, 0xC9,  // xor ecx, ecx
      0x0F, 0x01, 0xF9,  // rdtscp
      0x89, 0xC8, 0xE7, 0xEE,  // mov eax, ecx; out 0xEE, eax
      0xF4,
    ])
    try guest.startLong()
    let hasRDTSCP = guest.system.supportedLeaves.contains {
      $0.function == 0x8000_0001 && $0.edx >> 27 & 1 == 1
    }
    // Without RDTSCP its register does not exist either.
    #expect(try guest.outcome() == [hasRDTSCP ? .vector(1337) : Self.generalProtection])
  }

  /// VMX and SVM are not announced without `allowsNesting`.
  @Test(
    arguments: [
      [0xF3, 0x0F, 0xC7, 0x34, 0x24],  // vmxon [rsp]
      [0x0F, 0x78, 0xC0],  // vmread rax, rax
      [0x0F, 0x01, 0xD8],  // vmrun
      [0x0F, 0x0B],  // ud2
    ] as [[UInt8]])
  func instructionsOfHypervisorsAreInvalid(_ code: [UInt8]) throws {
    let guest = try Guest(code + [0xE6, 0x80, 0xF4])
    try guest.startLong()
    let (output, end) = try guest.collect(until: 0xEE)
    if case .failure(let failure) = end, hostCapability != .full {
      #expect(failure.reason == .emulation)
    } else {
      #expect(output.last == Self.invalidOpcode, "\(end)")
    }
  }

  /// Floating point at CPL 0: runs on full KVM, and elsewhere is reported with its bytes and an unharmed state.
  @Test(
    arguments: [
      [0x9B],  // fwait
      [0x66, 0x0F, 0xEF, 0xC0],  // pxor xmm0, xmm0
    ] as [[UInt8]])
  func instructionThatTheKernelLacksIsReportedWithItsBytes(_ code: [UInt8]) throws {
    let guest = try Guest([0xB0, 0x33] + code + [0xE6, 0x80, 0xF4])  // mov al, 0x33; ...; out
    try guest.startLong()
    var state = try guest.processor.saveState()
    state.control4 |= 1 << 9
    try guest.processor.restoreState(state)
    switch try guest.processor.run() {
    case .portWrite(port: 0x80, _, _, _):
      #expect(hostCapability == .full)
    case .failure(let failure):
      #expect(hostCapability != .full)
      #expect(failure.reason == .emulation)
      let bytes = (0..<failure.byteCount).map { failure.bytes[$0] }
      #expect(bytes.starts(with: code))
      let after = try guest.processor.saveState()
      #expect(after.instructionPointer == Guest.program.rawValue + 2)
      #expect(after[.rax] & 0xFF == 0x33)
      #expect(after.events?.exception == nil)
      let dump = after.dump(failure)
      #expect(dump.contains(code.count == 1 ? "bytes at RIP: 9b" : "bytes at RIP: 66 0f ef c0"))
      #expect(dump.contains("64-bit, CPL 0"))
      // Somebody else executes the instruction and the processor goes on behind it.
      var next = after
      next.instructionPointer += UInt64(code.count)
      try guest.processor.restoreState(next)
      #expect(try guest.outcome(until: 0x80) == [.init(port: 0x80, value: 0x33)])
    case let exit: Issue.record("\(exit)")
    }
  }

  /// With the switch on, the kernel gives the guest no exception for what somebody else will execute.
  @Test func reportedEmulationFailureLeavesNoException() throws {
    let guest = try Guest([0x9B, 0xE6, 0x80, 0xF4])  // fwait; out 0x80, al
    guard try guest.machine.reportEmulationFailures() else { return }
    try guest.startLong()
    switch try guest.processor.run() {
    case .portWrite: #expect(hostCapability == .full)
    case .failure(let failure):
      #expect(failure.reason == .emulation)
      #expect(failure.byteCount > 0 && failure.bytes[0] == 0x9B)
      let state = try guest.processor.saveState()
      #expect(state.events?.exception == nil)
      #expect(state.instructionPointer == Guest.program.rawValue)
    case let exit: Issue.record("\(exit)")
    }
  }

  @Test func unknownRegisterIsAFaultOrAnExitAsWished() throws {
    let code: [UInt8] = [
      0xB9, 0x78, 0x56, 0x00, 0x00,  // mov ecx, 0x5678
      0x0F, 0x32,  // rdmsr
      0xE7, 0x80,  // out 0x80, eax
      0x0F, 0x30,  // wrmsr
      0xE6, 0x81, 0xF4,
    ]
    let plain = try Guest(code)
    try plain.startLong()
    #expect(try plain.outcome() == [Self.generalProtection])

    let asking = try Guest(code)
    guard try asking.machine.reportUnknownRegisters() else { return }
    try asking.startLong()
    guard case .registerRead(index: 0x5678, let data, let failed) = try asking.processor.run()
    else {
      Issue.record("no exit for RDMSR")
      return
    }
    data.pointee = 0x9_0000_0042
    failed.pointee = 0
    #expect(try asking.outcome(until: 0x80) == [.init(port: 0x80, value: 0x42)])
    guard
      case .registerWrite(index: 0x5678, value: 0x9_0000_0042, let refused) = try asking.processor
        .run()
    else {
      Issue.record("no exit for WRMSR")
      return
    }
    refused.pointee = 1
    #expect(try asking.outcome() == [Self.generalProtection])
  }
}
