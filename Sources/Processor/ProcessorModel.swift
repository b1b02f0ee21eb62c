/// The instruction set that a guest is shown.
public enum ProcessorModel: String, Codable, Sendable, CaseIterable {
  /// Everything that this host can give: fastest, and tied to this kind of host.
  case host
  // The levels of the x86-64 psABI (chapter 3.1.1): a guest saved on one host continues on another that has the level.
  case v1 = "x86-64-v1"
  case v2 = "x86-64-v2"
  case v3 = "x86-64-v3"
}

/// Which bits of the feature leaves a level has. 1 and 7 are the leaves of those numbers, extended is 0x80000001.
struct FeatureLevel {
  var leaf1ecx: UInt32
  var leaf1edx: UInt32
  var leaf7ebx: UInt32
  var extendedECX: UInt32
  var extendedEDX: UInt32
  /// State components of XCR0; 0 without XSAVE.
  var stateComponents: UInt32

  init?(_ model: ProcessorModel) {
    switch model {
    case .host: return nil
    case .v1: self = .level1
    case .v2: self = .level2
    case .v3: self = .level3
    }
  }

  private init(
    leaf1ecx: UInt32, leaf1edx: UInt32, leaf7ebx: UInt32, extendedECX: UInt32,
    extendedEDX: UInt32, stateComponents: UInt32
  ) {
    self.leaf1ecx = leaf1ecx
    self.leaf1edx = leaf1edx
    self.leaf7ebx = leaf7ebx
    self.extendedECX = extendedECX
    self.extendedEDX = extendedEDX
    self.stateComponents = stateComponents
  }

  private static func bits(_ positions: Int...) -> UInt32 {
    positions.reduce(0) { $0 | 1 << UInt32($1) }
  }

  /// FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE36, CLFLUSH, MMX, FXSR, SSE,
  /// SSE2; SYSCALL, NX and long mode.
  private static let level1 = FeatureLevel(
    leaf1ecx: 0,
    leaf1edx: bits(
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26),
    leaf7ebx: 0, extendedECX: 0, extendedEDX: bits(11, 20, 29), stateComponents: 0)

  /// Adds SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT, LAHF; RDTSCP where it is.
  private static let level2: FeatureLevel = {
    var level = level1
    level.leaf1ecx = bits(0, 9, 13, 19, 20, 23)
    level.extendedECX = bits(0)
    level.extendedEDX |= bits(27)
    return level
  }()

  /// Adds FMA, MOVBE, XSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT.
  private static let level3: FeatureLevel = {
    var level = level2
    level.leaf1ecx |= bits(12, 22, 26, 28, 29)
    level.leaf7ebx = bits(3, 5, 8)
    level.extendedECX |= bits(5)
    level.stateComponents = 0b111
    return level
  }()
}
