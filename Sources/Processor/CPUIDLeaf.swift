/// What CPUID answers for one leaf, or one sub-leaf.
public struct CPUIDLeaf: Codable, Sendable, Equatable {
  /// EAX before the instruction.
  public var function: UInt32
  /// ECX before the instruction, where it matters.
  public var index: UInt32
  /// Whether this answer is only for that ECX.
  public var hasIndex: Bool
  public var eax: UInt32
  public var ebx: UInt32
  public var ecx: UInt32
  public var edx: UInt32

  public init(
    function: UInt32, index: UInt32? = nil, eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0,
    edx: UInt32 = 0
  ) {
    self.function = function
    self.index = index ?? 0
    hasIndex = index != nil
    self.eax = eax
    self.ebx = ebx
    self.ecx = ecx
    self.edx = edx
  }
}
