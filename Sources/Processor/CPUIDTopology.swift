// The leaves that tell sockets, cores, threads and who shares which cache.

extension CPUIDPolicy {
  /// Leaves 0xB and, where the host has it, 0x1F: threads, then cores (Intel SDM 3A, 9.9.1).
  ///
  /// Written where a leaf that high exists already: an old processor must not grow new leaves.
  func addTopologyLeaves(to leaves: inout [CPUIDLeaf], index: Int) {
    guard let highest = leaves.first(where: { $0.function == 0 })?.eax else { return }
    let number = topology.apicNumber(of: index)
    for function in [UInt32(0xB), 0x1F] where highest >= function {
      if function == 0x1F, model != .host { continue }
      leaves.append(
        CPUIDLeaf(
          function: function, index: 0, eax: topology.threadBits, ebx: UInt32(topology.threads),
          ecx: 1 << 8, edx: number))
      leaves.append(
        CPUIDLeaf(
          function: function, index: 1, eax: topology.socketShift,
          ebx: UInt32(topology.processorsPerSocket), ecx: 2 << 8 | 1, edx: number))
      leaves.append(CPUIDLeaf(function: function, index: 2, ecx: 2, edx: number))
    }
  }

  /// Leaf 4 and AMD's 0x8000001D: first and second level caches belong to a core, the third to a socket.
  func adjustCache(_ leaf: inout CPUIDLeaf, hasCoreCount: Bool = true) {
    let type = leaf.eax & 0x1F
    guard type != 0 else { return }
    let level = leaf.eax >> 5 & 7
    let sharing = level >= 3 ? topology.socketShift : topology.threadBits
    leaf.eax &= 0x3FFF
    leaf.eax |= (min(4096, 1 << sharing) - 1) << 14
    if hasCoreCount {
      let cores: UInt32 = 1 << (topology.socketShift - topology.threadBits)
      leaf.eax |= (min(64, cores) - 1) << 26
    }
  }

  /// Leaf 0x80000008: sizes of addresses as the host's; on AMD also the number of processors of a socket.
  func adjustAddressSizes(_ leaf: inout CPUIDLeaf, vendor: ProcessorVendor) {
    leaf.ecx = 0
    if vendor.isAMDLike {
      leaf.ecx =
        UInt32(min(256, topology.processorsPerSocket) - 1) | min(15, topology.socketShift) << 12
    }
    if model != .host { leaf.ebx = 0 }
    leaf.edx = 0
  }
}
