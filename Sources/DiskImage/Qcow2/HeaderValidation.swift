// What a header must fulfil before anything is allocated or read by it: every number is hostile.

extension Qcow2Header {
  /// - Throws: `.corrupt` for contradictions, `.unsupported` for features that are not known.
  func validate(_ path: String) throws(DiskImageError) {
    try validateFeatures(path)
    guard refcountOrder <= 6 else {
      throw DiskImageError(
        .corrupt, path, "has refcounts of 2^\(refcountOrder) bits, not 1 to 64", offset: 96)
    }
    if incompatible.contains(.extendedL2) && clusterBits < 14 {
      throw DiskImageError(
        .corrupt, path, "has subclusters in clusters smaller than 16 KiB", offset: 20)
    }
    guard size <= UInt64(Int64.max) else {
      throw DiskImageError(.corrupt, path, "claims a size of \(size) bytes", offset: 24)
    }
    try validateTables(path)
  }

  private func validateFeatures(_ path: String) throws(DiskImageError) {
    let unknown = incompatible.subtracting(.known)
    if !unknown.isEmpty {
      throw DiskImageError(
        .unsupported, path, "needs features that are not known: \(featureNames(unknown.rawValue))",
        offset: 72)
    }
    // Bit and byte are two statements of the same thing.
    if incompatible.contains(.compressionType) != (compression != .deflate) {
      throw DiskImageError(.corrupt, path, "contradicts itself on how it compresses", offset: 104)
    }
    // Encryption has no feature bit of its own.
    switch cryptMethod {
    case 0: break
    case 1, 2:
      throw DiskImageError(
        .unsupported, path,
        "is encrypted (\(cryptMethod == 1 ? "AES" : "LUKS")); convert it to a plain image first",
        offset: 32)
    default:
      throw DiskImageError(.corrupt, path, "has encryption method \(cryptMethod)", offset: 32)
    }
    if dataIsRaw && backingName != nil {
      throw DiskImageError(
        .corrupt, path, "has both a raw external data file and a backing file", offset: 8)
    }
    if incompatible.contains(.externalData) && snapshotCount > 0 {
      throw DiskImageError(
        .corrupt, path, "has snapshots although its data is in an external file", offset: 60)
    }
  }

  private func validateTables(_ path: String) throws(DiskImageError) {
    func table(_ name: String, _ offset: UInt64, _ bytes: UInt64, limit: UInt64, field: UInt64)
      throws(DiskImageError)
    {
      guard bytes <= limit else {
        throw DiskImageError(.corrupt, path, "has a \(name) of \(bytes) bytes", offset: field)
      }
      guard offset % clusterSize == 0, offset <= UInt64(1) << 56, offset > 0 || bytes == 0 else {
        throw DiskImageError(.corrupt, path, "has its \(name) at byte \(offset)", offset: field)
      }
    }
    try table(
      "L1 table", l1Offset, UInt64(l1Size) * 8, limit: Self.maximumL1Bytes, field: 36)
    guard UInt64(l1Size) >= requiredL1Entries(forSize: size) else {
      throw DiskImageError(
        .corrupt, path, "has too short an L1 table for its size", offset: 36)
    }
    guard refcountTableClusters > 0 else {
      throw DiskImageError(.corrupt, path, "has no refcount table", offset: 56)
    }
    try table(
      "refcount table", refcountTableOffset,
      UInt64(refcountTableClusters).multipliedReportingOverflow(by: clusterSize).partialValue,
      limit: Self.maximumRefcountTableBytes, field: 48)
    guard snapshotCount <= Self.maximumSnapshots else {
      throw DiskImageError(.corrupt, path, "claims \(snapshotCount) snapshots", offset: 60)
    }
    if snapshotCount > 0 {
      try table("snapshot table", snapshotsOffset, 1, limit: 1, field: 64)
    }
  }

  /// L1 slots that a disk of that size needs.
  func requiredL1Entries(forSize size: UInt64) -> UInt64 {
    let entryBits: UInt64 = incompatible.contains(.extendedL2) ? 4 : 3
    let shift = UInt64(clusterBits) * 2 - entryBits
    return (size >> shift) + (size & ((1 << shift) - 1) == 0 ? 0 : 1)
  }

  /// The image's own names for incompatible features.
  private func featureNames(_ bits: UInt64) -> String {
    let table = extensions.first { $0.kind == .featureNames }?.data ?? []
    var names: [String] = []
    for bit in 0..<64 where bits & (1 << UInt64(bit)) != 0 {
      var name = "bit \(bit)"
      for entry in stride(from: 0, to: table.count - 47, by: 48)
      where table[entry] == 0 && Int(table[entry + 1]) == bit {
        name = String(
          decoding: table[(entry + 2)..<(entry + 48)].prefix { $0 >= 32 && $0 < 127 },
          as: UTF8.self)
      }
      names.append(name)
    }
    return names.joined(separator: ", ")
  }
}
