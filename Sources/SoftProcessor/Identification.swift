// CPUID: what this processor can do, and the instruction (AMD APM 3, appendix E; Intel SDM 2A, CPUID).
//
// The vendor is AMD's: Linux then leaves the isolation of page tables off, which would empty the translation buffer at
// every system call. Family 15 is the oldest with long mode, and the one of which kernels expect least.
import CSoftProcessor
import Processor

/// What the software processor supports: the input of `CPUIDPolicy`.
public enum SoftProcessorFeatures {
  /// Stepping 1 of family 15, model 107.
  static let signature: UInt32 = 0x0006_0FB1

  private static func bits(_ positions: Int...) -> UInt32 {
    positions.reduce(0) { $0 | 1 << UInt32($1) }
  }

  /// FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE36, CLFLUSH, MMX, FXSR, SSE,
  /// SSE2.
  static let leaf1edx = bits(
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26)
  /// SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, deadline timer, AES, RDRAND, hypervisor.
  static let leaf1ecx = bits(0, 1, 9, 13, 19, 20, 21, 22, 23, 24, 25, 30, 31)
  /// FSGSBASE, BMI1, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, SHA.
  static let leaf7ebx = bits(0, 3, 7, 8, 9, 18, 19, 20, 29)
  /// UMIP.
  static let leaf7ecx = bits(2)
  /// Fast short REP MOVS.
  static let leaf7edx = bits(4)
  /// LAHF, ABM, PREFETCHW.
  static let extendedECX = bits(0, 5, 8)
  /// SYSCALL, NX, pages of 1 GiB, RDTSCP, long mode; bits of leaf 1 that AMD repeats.
  static let extendedEDX = bits(11, 20, 26, 27, 29) | leaf1edx & 0x0183_F3FF

  /// FMA, XSAVE, AVX, F16C: where the host computes them.
  static let vexLeaf1ecx = bits(12, 26, 28, 29)
  /// AVX2.
  static let vexLeaf7ebx = bits(5)
  private static var hasVEX: Bool { soft_vex_host_has() != 0 }

  /// The leaves as a machine with one processor would see them.
  public static var supportedLeaves: [CPUIDLeaf] {
    var leaves = [
      // "AuthenticAMD".
      CPUIDLeaf(
        function: 0, eax: hasVEX ? 0xD : 0xB, ebx: 0x6874_7541, ecx: 0x444D_4163, edx: 0x6974_6E65),
      CPUIDLeaf(
        function: 1, eax: signature, ebx: 0x0001_0800, ecx: leaf1ecx | (hasVEX ? vexLeaf1ecx : 0),
        edx: leaf1edx),
      // The timer runs in every sleep state.
      CPUIDLeaf(function: 6, eax: 1 << 2),
      CPUIDLeaf(
        function: 7, index: 0, ebx: leaf7ebx | (hasVEX ? vexLeaf7ebx : 0), ecx: leaf7ecx,
        edx: leaf7edx),
      CPUIDLeaf(
        function: 0x8000_0000, eax: 0x8000_0008, ebx: 0x6874_7541, ecx: 0x444D_4163,
        edx: 0x6974_6E65),
      CPUIDLeaf(
        function: 0x8000_0001, eax: signature, ecx: extendedECX, edx: extendedEDX),
    ]
    if hasVEX {
      // x87, SSE and AVX: 832 bytes. XSAVEOPT, XSAVEC, XGETBV with ECX = 1.
      leaves += [
        CPUIDLeaf(function: 0xD, index: 0, eax: 7, ebx: 832, ecx: 832),
        CPUIDLeaf(function: 0xD, index: 1, eax: 0b111, ebx: 832),
        CPUIDLeaf(function: 0xD, index: 2, eax: 256, ebx: 576),
      ]
    }
    let name = Array("Underjack software processor".utf8)
    for number in 0..<3 {
      func word(_ position: Int) -> UInt32 {
        (0..<4).reduce(0) { word, byte in
          let index = number * 16 + position * 4 + byte
          return word | (index < name.count ? UInt32(name[index]) : 0) << UInt32(byte * 8)
        }
      }
      leaves.append(
        CPUIDLeaf(
          function: 0x8000_0002 + UInt32(number), eax: word(0), ebx: word(1), ecx: word(2),
          edx: word(3)))
    }
    leaves += [
      // 64 KiB for data and for code, two ways, lines of 64 bytes; 512 KiB in 16 ways behind them.
      CPUIDLeaf(
        function: 0x8000_0005, eax: 0xFF20_FF20, ebx: 0xFF20_FF20, ecx: 0x4002_0140,
        edx: 0x4002_0140),
      CPUIDLeaf(function: 0x8000_0006, ebx: 0x4200_4200, ecx: 0x0200_8140),
      // The time stamp counter runs at one rate.
      CPUIDLeaf(function: 0x8000_0007, edx: 1 << 8),
      CPUIDLeaf(function: 0x8000_0008, eax: UInt32(physicalAddressBits) | 48 << 8),
    ]
    for function in UInt32(0x4000_0000)...0x4000_0001 {
      guard let leaf = paravirtualLeaf(function) else { continue }
      leaves.append(
        CPUIDLeaf(
          function: function, eax: leaf.eax, ebx: leaf.ebx, ecx: leaf.ecx, edx: leaf.edx))
    }
    return leaves
  }
}

extension SoftProcessorFeatures {
  /// What a machine may show whose instructions the kernel and software execute in turn: features of both. Those of the
  /// local APIC and of the clocks are the kernel's alone.
  public static func common(_ leaves: [CPUIDLeaf]) -> [CPUIDLeaf] {
    let isIntel = leaves.first { $0.function == 0 }?.ebx == 0x756E_6547
    return leaves.map { leaf in
      var leaf = leaf
      switch (leaf.function, leaf.index) {
      case (1, _):
        // x2APIC, deadline timer, OSXSAVE, hypervisor; HTT.
        leaf.ecx &= leaf1ecx | bits(21, 24, 27, 31)
        leaf.edx &= leaf1edx | bits(28)
      case (7, 0):
        leaf.eax = 0
        leaf.ebx &= leaf7ebx
        leaf.ecx &= leaf7ecx
        // ARCH_CAPABILITIES tells which errors of Intel's need no working around.
        leaf.edx &= isIntel ? leaf7edx | bits(29) : leaf7edx
      case (7, _): (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0)
      case (0x8000_0001, _):
        // Topology, as AMD tells it.
        leaf.ecx &= extendedECX | bits(1, 22)
        leaf.edx &= extendedEDX
      case (0x8000_0008, _): leaf.ebx = 0
      // Whoever flushes translations of a processor that does not run leaves that to the kernel: KVM_FEATURE_PV_TLB_FLUSH.
      case (0x4000_0001, _): leaf.eax &= ~bits(9)
      case (0x8000_0021, _): (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0)
      default: break
      }
      return leaf
    }
  }
}

/// Gives a processor its leaves. Before it runs; `releaseLeaves` frees them.
func setLeaves(_ cpu: CPU, _ leaves: [CPUIDLeaf]) {
  releaseLeaves(cpu)
  let table = UnsafeMutablePointer<soft_cpuid_leaf>.allocate(capacity: max(1, leaves.count))
  for (position, leaf) in leaves.enumerated() {
    (table + position).initialize(
      to: soft_cpuid_leaf(
        function: leaf.function, index: leaf.index, has_index: leaf.hasIndex ? 1 : 0,
        eax: leaf.eax, ebx: leaf.ebx, ecx: leaf.ecx, edx: leaf.edx))
  }
  cpu.pointee.cpuid = table
  cpu.pointee.cpuid_count = UInt32(leaves.count)
  let states = leaves.first { $0.function == 0xD && $0.index == 0 }
  cpu.pointee.offered_states = UInt64(states?.eax ?? 0)
}

func releaseLeaves(_ cpu: CPU) {
  cpu.pointee.cpuid?.deallocate()
  cpu.pointee.cpuid = nil
  cpu.pointee.cpuid_count = 0
}

@inline(__always)
func offersExtendedSave(_ cpu: CPU) -> Bool { cpu.pointee.offered_states != 0 }
@inline(__always)
func offeredStateComponents(_ cpu: CPU) -> UInt64 { cpu.pointee.offered_states }

private func findLeaf(
  _ cpu: CPU, _ function: UInt32, _ index: UInt32
) -> UnsafeMutablePointer<soft_cpuid_leaf>? {
  guard let table = cpu.pointee.cpuid else { return nil }
  for position in 0..<Int(cpu.pointee.cpuid_count) {
    let leaf = table + position
    if leaf.pointee.function == function,
      leaf.pointee.has_index == 0 || leaf.pointee.index == index
    {
      return leaf
    }
  }
  return nil
}

/// EDX:EAX are the instructions that this processor has executed, counted by blocks; EBX is "UJic". Guests use it to
/// measure.
@inline(__always) private var instructionCountLeaf: UInt32 { 0x4000_00F0 }
@inline(__always) private var instructionCountMark: UInt32 { 0x6369_4A55 }

/// XSAVEOPT, XSAVEC and XGETBV with ECX = 1 in bits 0 to 2.
func extendedSaveFeatures(_ cpu: CPU) -> UInt32 {
  guard let leaf = findLeaf(cpu, 0xD, 1), leaf.pointee.has_index != 0 else { return 0 }
  return leaf.pointee.eax
}

/// The processor's signature: EAX of leaf 1, and EDX after reset.
func processorSignature(_ cpu: CPU) -> UInt32 {
  findLeaf(cpu, 1, 0)?.pointee.eax ?? SoftProcessorFeatures.signature
}

@inline(never)
func identify(_ cpu: CPU) -> Bool {
  let function = UInt32(truncatingIfNeeded: cpu.registers[Int(SOFT_RAX)])
  let index = UInt32(truncatingIfNeeded: cpu.registers[Int(SOFT_RCX)])
  // Leaves that do not exist are zero, as on AMD's processors.
  var leaf = findLeaf(cpu, function, index)?.pointee ?? soft_cpuid_leaf()
  switch function {
  case 1:
    // OSXSAVE follows CR4, APIC its base register.
    if cpu.pointee.cr4 & Control4.extendedSave != 0 { leaf.ecx |= 1 << 27 }
    if cpu.pointee.apic_base & 1 << 11 == 0 { leaf.edx &= ~(1 << 9) }
  case 0xD where index == 0:
    // What XCR0 has on now: without AVX the legacy area and the header.
    leaf.ebx = cpu.pointee.xcr0 & 4 != 0 ? 576 + 256 : 576
  case 0xD where index == 1 && leaf.has_index != 0:
    // In compacted form.
    leaf.ebx = cpu.pointee.xcr0 & 4 != 0 ? 576 + 256 : 576
  case 0xB where leaf.has_index == 0:
    // Levels that do not exist still say the processor's number.
    leaf.ecx = index & 0xFF
    leaf.edx = findLeaf(cpu, 0xB, 0)?.pointee.edx ?? 0
  case instructionCountLeaf:
    leaf.eax = UInt32(truncatingIfNeeded: cpu.pointee.instructions)
    leaf.edx = UInt32(truncatingIfNeeded: cpu.pointee.instructions >> 32)
    leaf.ebx = instructionCountMark
  case 0x8000_0001 where cpu.pointee.apic_base & 1 << 11 == 0: leaf.edx &= ~(1 << 9)
  default: break
  }
  cpu.registers[Int(SOFT_RAX)] = UInt64(leaf.eax)
  cpu.registers[Int(SOFT_RBX)] = UInt64(leaf.ebx)
  cpu.registers[Int(SOFT_RCX)] = UInt64(leaf.ecx)
  cpu.registers[Int(SOFT_RDX)] = UInt64(leaf.edx)
  return true
}
