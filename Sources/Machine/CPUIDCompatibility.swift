import Processor

/// Whether a guest that was told of one processor can go on with another.
enum CPUIDCompatibility {
  /// - Parameters:
  ///   - saved: what the guest was told; nil: nothing yet.
  ///   - own: what the processors here would tell.
  /// - Returns: what the guest is told.
  /// - Throws: naming the first things that are missing here.
  static func leaves(
    _ saved: [[CPUIDLeaf]]?, on own: [[CPUIDLeaf]]
  ) throws(MachineError) -> [[CPUIDLeaf]] {
    guard let saved else { return own }
    guard saved.count == own.count, let old = saved.first, let new = own.first else {
      throw MachineError("the saved state has \(saved.count) processors, the machine \(own.count)")
    }
    let missing = missing(from: new, for: old)
    guard missing.isEmpty else {
      throw MachineError(
        "the saved guest uses a processor with what this one does not have: "
          + missing.prefix(4).joined(separator: ", ") + (missing.count > 4 ? ", ..." : ""))
    }
    return saved
  }

  private enum Register: String {
    case eax = "EAX"
    case ebx = "EBX"
    case ecx = "ECX"
    case edx = "EDX"

    func value(of leaf: CPUIDLeaf) -> UInt32 {
      switch self {
      case .eax: leaf.eax
      case .ebx: leaf.ebx
      case .ecx: leaf.ecx
      case .edx: leaf.edx
      }
    }
  }

  private struct Check {
    var function: UInt32
    var index: UInt32 = 0
    var name: String
    var registers: [Register]
  }

  /// Where feature bits are.
  private static let checks = [
    Check(function: 1, name: "leaf 1", registers: [.ecx, .edx]),
    Check(function: 7, name: "leaf 7", registers: [.ebx, .ecx, .edx]),
    Check(function: 7, index: 1, name: "leaf 7.1", registers: [.eax, .edx]),
    Check(function: 0xD, name: "leaf 0xd", registers: [.eax, .edx]),
    Check(function: 0xD, index: 1, name: "leaf 0xd.1", registers: [.eax]),
    Check(function: 0x4000_0001, name: "leaf 0x40000001", registers: [.eax]),
    Check(function: 0x8000_0001, name: "leaf 0x80000001", registers: [.ecx, .edx]),
    Check(function: 0x8000_0008, name: "leaf 0x80000008", registers: [.ebx]),
  ]

  static func missing(from new: [CPUIDLeaf], for old: [CPUIDLeaf]) -> [String] {
    var lines: [String] = []
    for check in checks {
      guard let wanted = leaf(check.function, check.index, old) else { continue }
      let present = leaf(check.function, check.index, new)
      for register in check.registers {
        var bits = register.value(of: wanted) & ~(present.map { register.value(of: $0) } ?? 0)
        // OSXSAVE and OSPKE show the guest's own CR4.
        if check.function == 1, register == .ecx { bits &= ~(1 << 27) }
        if check.function == 7, check.index == 0, register == .ecx { bits &= ~(1 << 4) }
        // AMD's topology leaves come along with the saved ones.
        if check.function == 0x8000_0001, register == .ecx { bits &= ~(1 << 22) }
        for bit in UInt32(0)..<32 where bits >> bit & 1 != 0 {
          lines.append("\(check.name) \(register.rawValue) bit \(bit)")
        }
      }
    }
    return lines
  }

  private static func leaf(
    _ function: UInt32, _ index: UInt32, _ leaves: [CPUIDLeaf]
  ) -> CPUIDLeaf? {
    leaves.first { $0.function == function && (!$0.hasIndex || $0.index == index) }
  }
}
