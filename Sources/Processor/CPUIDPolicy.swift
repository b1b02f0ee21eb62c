/// What CPUID tells the processors of one machine: a pure function from what the host supports
/// (Intel SDM 2A, CPUID; AMD APM 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst).
public struct CPUIDPolicy: Codable, Sendable, Equatable {
  public var topology: ProcessorTopology
  public var model: ProcessorModel
  /// Shows VMX or SVM, so that the guest can be a hypervisor.
  public var allowsNesting: Bool
  /// Told in leaf 0x40000010, which spares the guest measuring it.
  public var timeStampKilohertz: UInt32?
  /// The local APIC is the kernel's, with x2APIC and (see `hasTimerDeadline`) its deadline timer.
  public var hasKernelLocalAPIC: Bool
  /// KVM_CAP_TSC_DEADLINE_TIMER.
  public var hasTimerDeadline: Bool
  /// Hides CMPXCHG16B and everything with XSAVE: for hosts whose kernel emulates supervisor mode and cannot emulate
  /// those.
  public var hidesUnemulatedInstructions: Bool

  public init(
    topology: ProcessorTopology = ProcessorTopology(), model: ProcessorModel = .host,
    allowsNesting: Bool = false, timeStampKilohertz: UInt32? = nil,
    hasKernelLocalAPIC: Bool = true, hasTimerDeadline: Bool = true,
    hidesUnemulatedInstructions: Bool = false
  ) {
    self.topology = topology
    self.model = model
    self.allowsNesting = allowsNesting
    self.timeStampKilohertz = timeStampKilohertz
    self.hasKernelLocalAPIC = hasKernelLocalAPIC
    self.hasTimerDeadline = hasTimerDeadline
    self.hidesUnemulatedInstructions = hidesUnemulatedInstructions
  }

  /// The leaves of processor `index`.
  public func leaves(supported: [CPUIDLeaf], index: Int) -> [CPUIDLeaf] {
    let vendor = ProcessorVendor(supported)
    var leaves = supported.filter(isKept)
    for position in leaves.indices {
      adjust(&leaves[position], index: index, vendor: vendor)
    }
    addTopologyLeaves(to: &leaves, index: index)
    addHypervisorLeaves(to: &leaves)
    nameProcessor(in: &leaves)
    Self.setMaximum(0, limit: 0x3FFF_FFFF, in: &leaves)
    Self.setMaximum(0x8000_0000, limit: 0x8FFF_FFFF, in: &leaves)
    return leaves
  }

  /// The names of what the model asks for and the host does not have; empty means that the model can be used.
  public func missingFeatures(supported: [CPUIDLeaf]) -> [String] {
    guard let level = FeatureLevel(model) else { return [] }
    let leaf1 = supported.first { $0.function == 1 }
    let leaf7 = supported.first { $0.function == 7 && $0.index == 0 }
    let extended = supported.first { $0.function == 0x8000_0001 }
    let checks: [(String, UInt32, UInt32)] = [
      ("leaf 1 ECX", level.leaf1ecx, leaf1?.ecx ?? 0),
      ("leaf 1 EDX", level.leaf1edx, leaf1?.edx ?? 0),
      ("leaf 7 EBX", level.leaf7ebx, leaf7?.ebx ?? 0),
      ("leaf 0x80000001 ECX", level.extendedECX, extended?.ecx ?? 0),
      // NX and RDTSCP are shown where they are, but the level does not need them.
      ("leaf 0x80000001 EDX", level.extendedEDX & (1 << 11 | 1 << 29), extended?.edx ?? 0),
    ]
    return checks.flatMap { name, wanted, present in
      (0..<32).filter { (wanted & ~present) >> $0 & 1 == 1 }.map {
        FeatureName.of(name, bit: UInt32($0))
      }
    }
  }

  // MARK: Leaves that stay

  private func isKept(_ leaf: CPUIDLeaf) -> Bool {
    switch leaf.function {
    // Topology is written anew; 0x80000026 is AMD's newest form of it.
    case 0xB, 0x1F, 0x8000_0026: return false
    case 0x8000_000A: return allowsNesting
    case 0xD where hidesUnemulatedInstructions: return false
    // Encrypted memory and performance counters are not virtualized here.
    case 0x8000_001F, 0x8000_0022: return false
    default: break
    }
    guard let level = FeatureLevel(model) else { return true }
    switch leaf.function {
    case 0xD: return level.stateComponents != 0 && leaf.index <= 2
    case 7: return leaf.index == 0
    // Everything from SGX on, except the leaves that hypervisors add, is younger than the levels.
    case 0x12...0x3FFF_FFFF: return false
    case 0x8000_0019...0x8000_001C, 0x8000_0020...0x8FFF_FFFF: return false
    default: return true
    }
  }

  private func adjust(_ leaf: inout CPUIDLeaf, index: Int, vendor: ProcessorVendor) {
    switch leaf.function {
    case 1: adjustFeatures(&leaf, index: index)
    case 4: adjustCache(&leaf)
    // MONITOR is hidden; the performance counters too.
    case 5, 0xA: (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0)
    // No turbo, no energy hints: only that the timer runs in deep sleep.
    case 6: (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (leaf.eax & 1 << 2, 0, 0, 0)
    case 7 where leaf.index == 0: adjustStructuredFeatures(&leaf, vendor: vendor)
    case 0xD: adjustExtendedState(&leaf)
    case 0x4000_0001 where model != .host: adjustParavirtualFeatures(&leaf)
    case 0x8000_0001: adjustExtendedFeatures(&leaf, vendor: vendor)
    case 0x8000_0008: adjustAddressSizes(&leaf, vendor: vendor)
    case 0x8000_001D: adjustCache(&leaf, hasCoreCount: false)
    case 0x8000_001E:
      let number = topology.apicNumber(of: index)
      let coreBits = topology.socketShift - topology.threadBits
      let core = (number >> topology.threadBits) & ((1 << coreBits) - 1)
      leaf.eax = number
      leaf.ebx = core & 0xFF | UInt32(topology.threads - 1) << 8
      leaf.ecx = (number >> topology.socketShift) & 0xFF
      leaf.edx = 0
    default: break
    }
  }

  // MARK: Features

  private func adjustFeatures(_ leaf: inout CPUIDLeaf, index: Int) {
    let number = topology.apicNumber(of: index)
    let width = min(UInt32(255), 1 << topology.socketShift)
    // Brand index 0, cache line 8 quadwords.
    leaf.ebx = number << 24 | width << 16 | 8 << 8
    if let level = FeatureLevel(model) {
      // x2APIC, deadline timer and VMX come below.
      leaf.ecx &= level.leaf1ecx | 1 << 21 | 1 << 24 | 1 << 5
      leaf.edx &= level.leaf1edx
    }
    // DTES64, MONITOR, DS-CPL, SMX, EIST, TM2, PDCM, DCA and OSXSAVE (which follows CR4).
    let hidden: UInt32 =
      1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 15 | 1 << 18 | 1 << 27
    leaf.ecx &= ~hidden
    leaf.ecx |= 1 << 31
    if !allowsNesting { leaf.ecx &= ~(1 << 5) }
    leaf.setECX(bit: 24, hasKernelLocalAPIC && hasTimerDeadline)
    if !hasKernelLocalAPIC { leaf.ecx &= ~(1 << 21) }
    if hidesUnemulatedInstructions {
      // CMPXCHG16B; FMA, XSAVE, AVX, F16C.
      leaf.ecx &= ~(1 << 13 | 1 << 12 | 1 << 26 | 1 << 28 | 1 << 29)
    }
    // DS, thermal control, SS's sibling PBE.
    leaf.edx &= ~(1 << 21 | 1 << 22 | 1 << 29 | 1 << 31)
    leaf.setEDX(bit: 28, topology.processorsPerSocket > 1)
  }

  private func adjustStructuredFeatures(_ leaf: inout CPUIDLeaf, vendor: ProcessorVendor) {
    if let level = FeatureLevel(model) {
      (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, leaf.ebx & level.leaf7ebx, 0, 0)
    }
    // WAITPKG would let a guest hold its processor.
    leaf.ecx &= ~(1 << 5)
    // x87 without FCS, FDS and with FDP only on exceptions: the truth on every Intel processor that runs this.
    if vendor == .intel, model == .host { leaf.ebx |= 1 << 6 | 1 << 13 }
    if hidesUnemulatedInstructions {
      // AVX2, MPX, the AVX-512 family; PKU, VAES, VPCLMULQDQ and AVX-512's others; AMX, AVX-512's last.
      leaf.ebx &= ~(1 << 5 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 21 | 0b111 << 26 | 0b11 << 30)
      leaf.ecx &=
        ~(1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14)
      leaf.edx &= ~(1 << 2 | 1 << 3 | 1 << 8 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25)
    }
  }

  /// KVM's features for its guests (Linux Documentation/virt/kvm/x86/cpuid.rst): a level has what every kernel and the
  /// software processor have, which is the clock in both forms (bits 0, 3), stable (24), ports that need no delay (1) and
  /// the time that the host took (5).
  private func adjustParavirtualFeatures(_ leaf: inout CPUIDLeaf) {
    (leaf.eax, leaf.edx) = (leaf.eax & (1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 24), 0)
  }

  private func adjustExtendedFeatures(_ leaf: inout CPUIDLeaf, vendor: ProcessorVendor) {
    let hasTopologyLeaves = leaf.ecx >> 22 & 1 == 1
    if let level = FeatureLevel(model) {
      leaf.ecx &= level.extendedECX | 1 << 2
      // AMD repeats bits of leaf 1 here.
      let repeated: UInt32 = vendor.isAMDLike ? level.leaf1edx & 0x0183_F3FF : 0
      leaf.edx &= level.extendedEDX | repeated
    }
    if !allowsNesting { leaf.ecx &= ~(1 << 2) }
    // SVM's companions, performance counters, MONITORX.
    leaf.ecx &= ~(1 << 23 | 1 << 24 | 1 << 28 | 1 << 29)
    if hidesUnemulatedInstructions {
      // XOP, FMA4.
      leaf.ecx &= ~(1 << 11 | 1 << 16)
    }
    // The old core count and the topology leaves are AMD's.
    leaf.setECX(bit: 1, vendor.isAMDLike && topology.processorsPerSocket > 1)
    leaf.setECX(bit: 22, vendor.isAMDLike && hasTopologyLeaves)
  }

  private func adjustExtendedState(_ leaf: inout CPUIDLeaf) {
    guard let level = FeatureLevel(model) else { return }
    switch leaf.index {
    case 0:
      leaf.eax &= level.stateComponents
      leaf.edx = 0
      // Legacy area, header and the upper halves of the AVX registers.
      leaf.ecx = 576 + 256
      leaf.ebx = 576
    case 1: (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0)
    default: break
    }
  }

  /// The brand string of leaves 0x80000002 to 4: the host's, or one that says the level.
  private func nameProcessor(in leaves: inout [CPUIDLeaf]) {
    let positions = leaves.indices.filter {
      (0x8000_0002...0x8000_0004).contains(leaves[$0].function)
    }
    let isBlank = positions.allSatisfy {
      leaves[$0].eax | leaves[$0].ebx | leaves[$0].ecx | leaves[$0].edx == 0
    }
    guard positions.count == 3, isBlank || model != .host else { return }
    let name = model == .host ? "virtual processor" : "\(model.rawValue) virtual processor"
    var bytes = Array(name.utf8.prefix(47))
    bytes += Array(repeating: 0, count: 48 - bytes.count)
    func word(_ number: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[number * 4 + $1]) << UInt32($1 * 8) }
    }
    for position in positions {
      let first = Int(leaves[position].function - 0x8000_0002) * 4
      leaves[position].eax = word(first)
      leaves[position].ebx = word(first + 1)
      leaves[position].ecx = word(first + 2)
      leaves[position].edx = word(first + 3)
    }
  }

  // MARK: Hypervisor leaves

  private func addHypervisorLeaves(to leaves: inout [CPUIDLeaf]) {
    guard let first = leaves.firstIndex(where: { $0.function == 0x4000_0000 }) else { return }
    leaves.removeAll { $0.function > 0x4000_0001 && $0.function < 0x5000_0000 }
    guard let frequency = timeStampKilohertz else {
      leaves[first].eax = 0x4000_0001
      return
    }
    leaves[first].eax = 0x4000_0010
    // KVM's local APIC timer counts nanoseconds.
    leaves.append(CPUIDLeaf(function: 0x4000_0010, eax: frequency, ebx: 1_000_000))
  }

  /// Leaf 0 and 0x80000000 name the highest leaf: after the filter that is another one.
  private static func setMaximum(_ base: UInt32, limit: UInt32, in leaves: inout [CPUIDLeaf]) {
    guard let position = leaves.firstIndex(where: { $0.function == base }) else { return }
    let highest = leaves.lazy.map(\.function).filter { $0 >= base && $0 <= limit }.max() ?? base
    leaves[position].eax = highest
  }
}

/// Who made the processor, as far as leaves differ.
enum ProcessorVendor {
  case intel, amd, hygon, other

  init(_ leaves: [CPUIDLeaf]) {
    // "Genu", "Auth", "Hygo": the first four letters are enough.
    switch leaves.first(where: { $0.function == 0 })?.ebx {
    case 0x756E_6547: self = .intel
    case 0x6874_7541: self = .amd
    case 0x6F67_7948: self = .hygon
    default: self = .other
    }
  }

  var isAMDLike: Bool { self == .amd || self == .hygon }
}

extension CPUIDLeaf {
  mutating func setECX(bit: UInt32, _ on: Bool) {
    if on { ecx |= 1 << bit } else { ecx &= ~(1 << bit) }
  }

  mutating func setEDX(bit: UInt32, _ on: Bool) {
    if on { edx |= 1 << bit } else { edx &= ~(1 << bit) }
  }
}
