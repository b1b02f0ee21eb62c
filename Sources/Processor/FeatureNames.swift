/// A feature bit's name as processor manuals have it, where the levels of `ProcessorModel` use the bit.
enum FeatureName {
  private static let leaf1ecx: [UInt32: String] = [
    0: "SSE3", 9: "SSSE3", 12: "FMA", 13: "CMPXCHG16B", 19: "SSE4.1", 20: "SSE4.2", 22: "MOVBE",
    23: "POPCNT", 26: "XSAVE", 28: "AVX", 29: "F16C",
  ]
  private static let leaf1edx: [UInt32: String] = [
    0: "FPU", 1: "VME", 2: "DE", 3: "PSE", 4: "TSC", 5: "MSR", 6: "PAE", 7: "MCE", 8: "CMPXCHG8B",
    9: "APIC", 11: "SEP", 12: "MTRR", 13: "PGE", 14: "MCA", 15: "CMOV", 16: "PAT", 17: "PSE-36",
    19: "CLFLUSH", 23: "MMX", 24: "FXSR", 25: "SSE", 26: "SSE2",
  ]
  private static let leaf7ebx: [UInt32: String] = [3: "BMI1", 5: "AVX2", 8: "BMI2"]
  private static let extendedECX: [UInt32: String] = [0: "LAHF", 5: "LZCNT"]
  private static let extendedEDX: [UInt32: String] = [11: "SYSCALL", 29: "long mode"]

  /// The registers by the names that `CPUIDPolicy.missingFeatures` has for them.
  static func of(_ register: String, bit: UInt32) -> String {
    let names =
      switch register {
      case "leaf 1 ECX": leaf1ecx
      case "leaf 1 EDX": leaf1edx
      case "leaf 7 EBX": leaf7ebx
      case "leaf 0x80000001 ECX": extendedECX
      default: extendedEDX
      }
    return names[bit] ?? "\(register) bit \(bit)"
  }
}
