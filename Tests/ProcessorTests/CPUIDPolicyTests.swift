import Processor
import Testing

@Suite struct CPUIDPolicyTests {
  /// A host of the given vendor with everything on in the feature leaves.
  private static func host(amd: Bool) -> [CPUIDLeaf] {
    let name: (UInt32, UInt32, UInt32) =
      amd ? (0x6874_7541, 0x444D_4163, 0x6974_6E65) : (0x756E_6547, 0x6C65_746E, 0x4965_6E69)
    var leaves = [
      CPUIDLeaf(function: 0, eax: 0x1F, ebx: name.0, ecx: name.1, edx: name.2),
      CPUIDLeaf(function: 1, eax: 0x806F8, ebx: .max, ecx: .max, edx: .max),
      CPUIDLeaf(function: 5, eax: 64, ebx: 64, ecx: 3, edx: 0x20),
      CPUIDLeaf(function: 6, eax: 0x77, ebx: 2, ecx: 9),
      CPUIDLeaf(function: 7, index: 0, eax: 2, ebx: .max, ecx: .max, edx: .max),
      CPUIDLeaf(function: 7, index: 1, eax: .max),
      CPUIDLeaf(function: 0xA, eax: 0x0830_0805),
      CPUIDLeaf(function: 0xB, index: 0),
      CPUIDLeaf(function: 0xD, index: 0, eax: 0x602E7, ebx: 0x2B00, ecx: 0x2B00, edx: 1),
      CPUIDLeaf(function: 0xD, index: 1, eax: 0x1F, ebx: 0x2B00),
      CPUIDLeaf(function: 0xD, index: 2, eax: 0x100, ebx: 0x240),
      CPUIDLeaf(function: 0xD, index: 5, eax: 0x40, ebx: 0x440),
      CPUIDLeaf(function: 0x14, index: 0, eax: 1),
      CPUIDLeaf(function: 0x1F, index: 0),
      CPUIDLeaf(function: 0x4000_0000, eax: 0x4000_0001, ebx: 0x4B4D_564B),
      CPUIDLeaf(function: 0x4000_0001, eax: 0x100_7EFB),
      CPUIDLeaf(function: 0x8000_0000, eax: 0x8000_0021),
      CPUIDLeaf(function: 0x8000_0001, ecx: .max, edx: .max),
      CPUIDLeaf(function: 0x8000_0002, eax: 0x4142_4344),
      CPUIDLeaf(function: 0x8000_0003),
      CPUIDLeaf(function: 0x8000_0004),
      CPUIDLeaf(function: 0x8000_0007, edx: 0x100),
      CPUIDLeaf(function: 0x8000_0008, eax: 0x3934, ebx: 0xFFFF, ecx: 0x703F),
      CPUIDLeaf(function: 0x8000_000A, eax: 1, ebx: 8),
      CPUIDLeaf(function: 0x8000_001D, index: 0, eax: 0x2_4121),
      CPUIDLeaf(function: 0x8000_001D, index: 3, eax: 0x3F_C163),
      CPUIDLeaf(function: 0x8000_001E, eax: 7, ebx: 0x107, ecx: 3),
      CPUIDLeaf(function: 0x8000_0021, eax: 0x204),
    ]
    for (index, value) in [UInt32(0x121), 0x122, 0x143, 0x163, 0].enumerated() {
      leaves.append(
        CPUIDLeaf(function: 4, index: UInt32(index), eax: value | 0xFFFF_C000 * min(1, value)))
    }
    return leaves
  }

  private func find(
    _ leaves: [CPUIDLeaf], _ function: UInt32, _ index: UInt32 = 0
  ) throws -> CPUIDLeaf {
    let found = leaves.filter { $0.function == function && $0.index == index }
    #expect(found.count == 1)
    return try #require(found.first)
  }

  // MARK: Topology

  @Test func numbersLeaveHolesForFieldsThatAreNotPowersOfTwo() {
    let topology = ProcessorTopology(sockets: 2, cores: 3, threads: 2)
    #expect(topology.processorCount == 12)
    #expect(
      (0..<12).map { topology.apicNumber(of: $0) } == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13])
    #expect(ProcessorTopology(processorCount: 1).socketShift == 0)
    #expect(ProcessorTopology(processorCount: 5).socketShift == 3)
  }

  @Test(arguments: [(1, 1, 1), (1, 4, 1), (2, 2, 2), (3, 5, 2), (1, 0, -7), (1 << 40, 1 << 40, 1)])
  func numbersAreUniqueAndFitTheirFields(_ sockets: Int, _ cores: Int, _ threads: Int) {
    let topology = ProcessorTopology(sockets: sockets, cores: cores, threads: threads)
    let count = min(64, topology.processorCount)
    let numbers = (0..<count).map { topology.apicNumber(of: $0) }
    #expect(Set(numbers).count == count)
    for (index, number) in numbers.enumerated() {
      #expect(number >> topology.socketShift == UInt32(index / topology.processorsPerSocket))
    }
  }

  @Test func topologyLeavesAgreeWithTheNumbers() throws {
    let topology = ProcessorTopology(sockets: 2, cores: 3, threads: 2)
    let leaves = CPUIDPolicy(topology: topology).leaves(supported: Self.host(amd: false), index: 7)
    #expect(try find(leaves, 1).ebx == 9 << 24 | 8 << 16 | 8 << 8)
    #expect(try find(leaves, 1).edx >> 28 & 1 == 1)
    for function in [UInt32(0xB), 0x1F] {
      #expect(
        try find(leaves, function, 0)
          == CPUIDLeaf(function: function, index: 0, eax: 1, ebx: 2, ecx: 0x100, edx: 9))
      #expect(
        try find(leaves, function, 1)
          == CPUIDLeaf(function: function, index: 1, eax: 3, ebx: 6, ecx: 0x201, edx: 9))
    }
    // Level 1 and 2 belong to a core (two threads), level 3 to the socket (eight numbers); four core numbers.
    #expect(try find(leaves, 4, 0).eax == 0x121 | 1 << 14 | 3 << 26)
    #expect(try find(leaves, 4, 2).eax == 0x143 | 1 << 14 | 3 << 26)
    #expect(try find(leaves, 4, 3).eax == 0x163 | 7 << 14 | 3 << 26)
    #expect(try find(leaves, 4, 4).eax == 0)
  }

  @Test func topologyOfAMD() throws {
    let topology = ProcessorTopology(sockets: 2, cores: 3, threads: 2)
    let leaves = CPUIDPolicy(topology: topology).leaves(supported: Self.host(amd: true), index: 7)
    #expect(
      try find(leaves, 0x8000_001E) == CPUIDLeaf(function: 0x8000_001E, eax: 9, ebx: 0x100, ecx: 1))
    #expect(try find(leaves, 0x8000_0008).ecx == 5 | 3 << 12)
    #expect(try find(leaves, 0x8000_0001).ecx & (1 << 1 | 1 << 22) == 1 << 1 | 1 << 22)
    #expect(try find(leaves, 0x8000_001D, 3).eax >> 14 == 7)
  }

  @Test func singleProcessorHasNoSiblings() throws {
    let leaves = CPUIDPolicy().leaves(supported: Self.host(amd: true), index: 0)
    #expect(try find(leaves, 1).edx >> 28 & 1 == 0)
    #expect(try find(leaves, 0x8000_0001).ecx >> 1 & 1 == 0)
    #expect(try find(leaves, 1).ebx == 1 << 16 | 8 << 8)
  }

  @Test func oldProcessorGrowsNoNewLeaves() {
    var host = Self.host(amd: false).filter { $0.function < 0xB || $0.function > 0xFFFF }
    host[0].eax = 0xA
    let leaves = CPUIDPolicy().leaves(supported: host, index: 0)
    #expect(!leaves.contains { (0xB...0xFFFF).contains($0.function) })
    #expect(leaves[0].eax == 0xA)
  }

  // MARK: Features

  @Test func hostModelHidesWhatIsNotVirtualized() throws {
    let leaves = CPUIDPolicy().leaves(supported: Self.host(amd: false), index: 0)
    let features = try find(leaves, 1)
    #expect(features.ecx >> 31 == 1)
    #expect(features.ecx >> 24 & 1 == 1)
    for hidden in [3, 5, 15, 27] { #expect(features.ecx >> hidden & 1 == 0, "bit \(hidden)") }
    #expect(try find(leaves, 7).ecx >> 5 & 1 == 0)
    #expect(try find(leaves, 6).eax == 4)
    #expect(try find(leaves, 6).ecx == 0)
    #expect(try find(leaves, 0xA).eax == 0)
    #expect(try find(leaves, 5).edx == 0)
    #expect(!leaves.contains { $0.function == 0x8000_000A })
    // The brand of a host that names itself stays.
    #expect(try find(leaves, 0x8000_0002).eax == 0x4142_4344)
  }

  @Test func nestingIsShownOnlyOnWish() throws {
    let intel = CPUIDPolicy(allowsNesting: true).leaves(supported: Self.host(amd: false), index: 0)
    #expect(try find(intel, 1).ecx >> 5 & 1 == 1)
    let amd = CPUIDPolicy(allowsNesting: true).leaves(supported: Self.host(amd: true), index: 0)
    #expect(try find(amd, 0x8000_0001).ecx >> 2 & 1 == 1)
    #expect(try find(amd, 0x8000_000A).ebx == 8)
    let plain = CPUIDPolicy().leaves(supported: Self.host(amd: true), index: 0)
    #expect(try find(plain, 0x8000_0001).ecx >> 2 & 1 == 0)
  }

  @Test func deadlineTimerNeedsTheKernelsLocalAPIC() throws {
    for (chip, timer) in [(true, false), (false, true), (false, false)] {
      let policy = CPUIDPolicy(hasKernelLocalAPIC: chip, hasTimerDeadline: timer)
      let leaf = try find(policy.leaves(supported: Self.host(amd: false), index: 0), 1)
      #expect(leaf.ecx >> 24 & 1 == 0)
      #expect(leaf.ecx >> 21 & 1 == (chip ? 1 : 0))
    }
  }

  @Test(arguments: [ProcessorModel.v1, .v2, .v3], [false, true])
  func levelsAreTheSameOnEveryHost(_ model: ProcessorModel, _ amd: Bool) throws {
    let policy = CPUIDPolicy(model: model)
    let rich = policy.leaves(supported: Self.host(amd: amd), index: 0)
    // The same host with a feature less that the level does not have: nothing changes.
    var poorer = Self.host(amd: amd)
    for position in poorer.indices {
      switch poorer[position].function {
      case 1: poorer[position].ecx &= ~(1 << 25)  // AES
      case 7 where poorer[position].index == 0: poorer[position].ebx &= ~(1 << 16)  // AVX-512
      default: break
      }
    }
    #expect(policy.leaves(supported: poorer, index: 0) == rich)
    let features = try find(rich, 1)
    #expect(features.ecx >> 13 & 1 == (model == .v1 ? 0 : 1))  // CMPXCHG16B
    #expect(features.ecx >> 28 & 1 == (model == .v3 ? 1 : 0))  // AVX
    #expect(try find(rich, 7).ebx == (model == .v3 ? 1 << 3 | 1 << 5 | 1 << 8 : 0))
    #expect(rich.contains { $0.function == 0xD } == (model == .v3))
    #expect(!rich.contains { $0.function == 0x14 || $0.function == 0x8000_0021 })
    #expect(try find(rich, 0x8000_0001).edx >> 29 & 1 == 1)
    #expect(policy.missingFeatures(supported: Self.host(amd: amd)).isEmpty)
    if model == .v3 {
      #expect(try find(rich, 0xD, 0).eax == 7)
      #expect(try find(rich, 0xD, 0).ecx == 832)
    }
  }

  @Test func missingFeaturesAreNamed() {
    var host = Self.host(amd: false)
    for position in host.indices where host[position].function == 7 {
      host[position].ebx &= ~(1 << 5)
    }
    #expect(CPUIDPolicy(model: .v3).missingFeatures(supported: host) == ["AVX2"])
    #expect(CPUIDPolicy(model: .v2).missingFeatures(supported: host).isEmpty)
    #expect(CPUIDPolicy(model: .host).missingFeatures(supported: []).isEmpty)
    #expect(!CPUIDPolicy(model: .v1).missingFeatures(supported: []).isEmpty)
  }

  @Test func emulatingHostShowsNothingItCannotExecute() throws {
    let policy = CPUIDPolicy(hidesUnemulatedInstructions: true)
    let leaves = policy.leaves(supported: Self.host(amd: false), index: 0)
    let features = try find(leaves, 1)
    for hidden in [12, 13, 26, 28, 29] { #expect(features.ecx >> hidden & 1 == 0, "bit \(hidden)") }
    #expect(try find(leaves, 7).ebx >> 5 & 1 == 0)
    #expect(!leaves.contains { $0.function == 0xD })
  }

  // MARK: Leaves of the hypervisor, and form

  @Test func frequencyIsToldInTheHypervisorLeaves() throws {
    let leaves = CPUIDPolicy(timeStampKilohertz: 2_400_000).leaves(
      supported: Self.host(amd: false), index: 0)
    #expect(try find(leaves, 0x4000_0000).eax == 0x4000_0010)
    let timing = try find(leaves, 0x4000_0010)
    #expect(timing.eax == 2_400_000)
    #expect(timing.ebx == 1_000_000)
    let plain = CPUIDPolicy().leaves(supported: Self.host(amd: false), index: 0)
    #expect(try find(plain, 0x4000_0000).eax == 0x4000_0001)
  }

  @Test(arguments: ProcessorModel.allCases, [false, true])
  func maximaNameTheHighestLeaf(_ model: ProcessorModel, _ amd: Bool) throws {
    let leaves = CPUIDPolicy(model: model).leaves(supported: Self.host(amd: amd), index: 0)
    let basic = leaves.map(\.function).filter { $0 < 0x4000_0000 }.max()
    let extended = leaves.map(\.function).filter { $0 >= 0x8000_0000 }.max()
    #expect(try find(leaves, 0).eax == basic)
    #expect(try find(leaves, 0x8000_0000).eax == extended)
    let keys = leaves.map { UInt64($0.function) << 32 | UInt64($0.index) }
    #expect(Set(keys).count == keys.count)
  }

  @Test func levelNamesItself() throws {
    let leaves = CPUIDPolicy(model: .v2).leaves(supported: Self.host(amd: true), index: 0)
    let words = try [UInt32(0x8000_0002), 0x8000_0003, 0x8000_0004].flatMap {
      let leaf = try find(leaves, $0)
      return [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
    }
    let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
    }
    #expect(
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) == "x86-64-v2 virtual processor")
  }

  @Test func emptyHostGivesNothing() {
    #expect(CPUIDPolicy().leaves(supported: [], index: 3).isEmpty)
  }
}
