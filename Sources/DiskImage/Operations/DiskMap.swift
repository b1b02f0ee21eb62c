// What is stored where: map, and how much a conversion would need: measure.

/// One line of a map.
public struct DiskMapEntry: Sendable, Equatable {
  /// Guest bytes.
  public var start: UInt64
  public var length: UInt64
  /// How many backing files down.
  public var depth: Int
  /// Some file of the chain holds this stretch.
  public var isAllocated: Bool
  public var isZero: Bool
  public var isCompressed: Bool
  /// Where it is in that file; nil when not stored as it is.
  public var hostOffset: UInt64?
}

public enum DiskMap {
  /// Calls `body` for each stretch of a disk, neighbours that are alike joined.
  public static func walk(
    _ disk: any BlockDevice, _ body: (DiskMapEntry) throws(DiskImageError) -> Void
  ) throws(DiskImageError) {
    var pending: DiskMapEntry?
    var position: UInt64 = 0
    let end = disk.size
    while position < end {
      let extent = try disk.extent(at: position, limit: end - position)
      guard extent.count > 0 else { break }
      let next = DiskMapEntry(
        start: position, length: extent.count, depth: extent.depth,
        isAllocated: extent.isAllocated, isZero: extent.isZero,
        isCompressed: extent.isCompressed, hostOffset: extent.hostOffset)
      if var last = pending {
        if continues(last, next) {
          last.length += next.length
          pending = last
        } else {
          try body(last)
          pending = next
        }
      } else {
        pending = next
      }
      position += extent.count
    }
    if let pending { try body(pending) }
  }

  private static func continues(_ last: DiskMapEntry, _ next: DiskMapEntry) -> Bool {
    guard last.depth == next.depth, last.isAllocated == next.isAllocated,
      last.isZero == next.isZero, last.isCompressed == next.isCompressed
    else { return false }
    guard let offset = last.hostOffset else { return next.hostOffset == nil }
    return next.hostOffset == offset + last.length
  }

  /// Bytes that a new image would take.
  public struct Measurement: Sendable, Equatable {
    /// With what the source holds now.
    public var required: UInt64
    /// When every byte of it has been written.
    public var fullyAllocated: UInt64
  }

  /// How large an image of that format with the content of a disk becomes, without compression.
  ///
  /// - Parameter source: A disk, or nil for an empty one of `size` bytes.
  public static func measure(
    _ source: (any BlockDevice)?, size: UInt64 = 0, format: DiskFormat,
    options: Qcow2.Options = Qcow2.Options()
  ) throws(DiskImageError) -> Measurement {
    let bytes = source?.size ?? size
    if format == .raw {
      let used = try data(source, unit: 1)
      return Measurement(required: used, fullyAllocated: bytes)
    }
    guard (9...21).contains(options.clusterBits) else {
      throw DiskImageError(.invalid, "image", "needs a cluster size of 512 bytes to 2 MiB")
    }
    let cluster = UInt64(1) << UInt64(options.clusterBits)
    let tables = try Qcow2.tableBytes(size: bytes, options: options)
    let full = bytes.roundedUp(to: cluster)
    guard options.preallocation == .off || options.preallocation == .metadata else {
      return Measurement(required: tables + full, fullyAllocated: tables + full)
    }
    let used = try data(source, unit: cluster)
    return Measurement(required: tables + used, fullyAllocated: tables + full)
  }

  /// Bytes of units with data in them.
  private static func data(_ disk: (any BlockDevice)?, unit: UInt64) throws(DiskImageError)
    -> UInt64
  {
    guard let disk else { return 0 }
    var used: UInt64 = 0
    var counted: UInt64 = 0
    try walk(disk) { (entry) throws(DiskImageError) in
      if entry.isZero { return }
      let first = max(entry.start.roundedDown(to: unit), counted)
      let end = (entry.start + entry.length).roundedUp(to: unit)
      if end > first { used += end - first }
      counted = max(counted, end)
    }
    return used
  }
}
