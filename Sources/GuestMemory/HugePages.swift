import CLinux

/// What the host is told about the page size of guest memory. It may have its own mind
/// (/sys/kernel/mm/transparent_hugepage/shmem_enabled).
public enum HugePageAdvice: String, Sendable, Codable, CaseIterable {
  /// Whatever the host's setting is.
  case system
  /// Huge pages wherever they fit (MADV_HUGEPAGE): fewer TLB misses, memory given in pieces of 2 MiB.
  case preferred
  /// Small pages only (MADV_NOHUGEPAGE): the smallest footprint.
  case refused

  /// Bytes of a huge page; mappings begin at a multiple, or no huge page would fit.
  static let pageSize = 2 << 20

  /// A host without transparent huge pages refuses: there is nothing to be done about it then.
  func apply(to address: UnsafeMutableRawPointer, count: Int) {
    switch self {
    case .system: break
    case .preferred: madvise(address, count, Int32(MADV_HUGEPAGE))
    case .refused: madvise(address, count, Int32(MADV_NOHUGEPAGE))
    }
  }
}
