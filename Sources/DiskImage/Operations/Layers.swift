// Chains of images: merging a layer down, pulling data up, giving a layer another parent.
import CLinux

/// Operations on overlays and their backing files. Each is ordered so that a crash leaves a chain with the same content.
public enum DiskLayers {
  /// Writes everything that an overlay holds into its backing file. The overlay's content stays the same.
  ///
  /// - Parameters:
  ///   - backing: Which files may be opened; the direct backing file is opened for writing.
  ///   - keepsData: Leave the overlay as it is; otherwise what it held is given up there, now that it is below.
  public static func commit(
    _ path: String, backing policy: BackingPolicy, keepsData: Bool = false,
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    var alone = OpenOptions()
    alone.withoutBacking = true
    let overlay = try DiskImage.openQcow2(path, backing: policy, options: alone)
    defer { try? overlay.close() }
    guard let name = overlay.header.backingName else {
      throw DiskImageError(.invalid, path, "has no backing file to commit to")
    }
    guard let format = overlay.header.backingFormat.flatMap(DiskFormat.init(rawValue:)) else {
      throw DiskImageError(.refused, path, "does not say which format its backing file has")
    }
    let file = try HostPath.referenced(name, by: path, policy, what: "backing file")
    let base = try DiskImage.open(file, format: format, mode: .readWrite, backing: policy)
    defer { try? base.close() }
    if overlay.size > base.size { try base.resize(to: overlay.size) }
    let copy = ParallelCopy(
      overlay, end: overlay.size, pieceSize: 1 << 20, progress: progress
    ) { (offset, limit) throws(DiskImageError) in
      // Opened without its backing file: allocated means allocated here, and zeros count.
      try overlay.extent(at: offset, limit: limit)
    }
    try copy.run(threads: ParallelCopy.defaultThreads) {
      { (piece, bytes) throws(DiskImageError) in
        if piece.isZero {
          try base.writeZeroes(at: piece.offset, count: piece.count)
        } else {
          try base.write(
            from: UnsafeRawBufferPointer(start: bytes, count: Int(piece.count)), at: piece.offset)
        }
      }
    }
    try base.flush()
    if !keepsData { try overlay.dropEverything() }
    try base.close()
    try overlay.close()
  }

  /// Copies into an overlay what it shows of its backing files, down to but without `base`; then its parent is `base`, or
  /// it has none.
  ///
  /// - Parameter base: A file of the chain as the images name it, or nil for all.
  public static func stream(
    _ path: String, backing policy: BackingPolicy, base: (path: String, format: DiskFormat)? = nil,
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    let overlay = try DiskImage.openQcow2(path, backing: policy)
    defer { try? overlay.close() }
    guard overlay.backing != nil else { return }
    var depth = Int.max
    if let base { depth = try self.depth(of: base.path, relativeTo: path, below: overlay) }
    let limit = depth
    let keepsZeros = base != nil
    let copy = ParallelCopy(
      overlay, end: overlay.size, pieceSize: 1 << 20, progress: progress
    ) { (offset, count) throws(DiskImageError) in
      var extent = try overlay.extent(at: offset, limit: count)
      // Zeros above `base` must be kept, too, if `base` has something there.
      extent.isAllocated =
        extent.isAllocated && extent.depth > 0 && extent.depth < limit
        && (keepsZeros || !extent.isZero)
      return extent
    }
    try copy.run(threads: ParallelCopy.defaultThreads) {
      { (piece, bytes) throws(DiskImageError) in
        if piece.isZero {
          try overlay.writeZeroes(at: piece.offset, count: piece.count)
        } else {
          try overlay.write(
            from: UnsafeRawBufferPointer(start: bytes, count: Int(piece.count)), at: piece.offset)
        }
      }
    }
    if base != nil { try keepShortParents(overlay, depth) }
    try overlay.setBacking(base)
    try overlay.close()
  }

  /// How many files below the overlay a file of its chain is.
  private static func depth(of name: String, relativeTo path: String, below overlay: Qcow2Image)
    throws(DiskImageError) -> Int
  {
    guard let wanted = HostPath.resolved(HostPath.combined(name, relativeTo: path)) else {
      throw DiskImageError(.notFound, path, "has no '\(name)' in its chain: no such file")
    }
    var depth = 1
    var current = overlay.backing
    while let image = current {
      if HostPath.resolved(image.path) == wanted { return depth }
      depth += 1
      current = (image as? Qcow2Image)?.backing
    }
    throw DiskImageError(.invalid, path, "has no '\(name)' in its chain of backing files")
  }

  /// A middle layer that is shorter than `base` hid the end of `base`: there, zeros have to be stored.
  private static func keepShortParents(_ overlay: Qcow2Image, _ depth: Int) throws(DiskImageError) {
    var shortest = overlay.size
    var current = overlay.backing
    for _ in 1..<depth {
      guard let image = current else { break }
      shortest = min(shortest, image.size)
      current = (image as? Qcow2Image)?.backing
    }
    guard let base = current else { return }
    var position = shortest
    let end = min(base.size, overlay.size)
    while position < end {
      let extent = try overlay.extent(at: position, limit: end - position)
      if extent.count == 0 { break }
      if extent.depth > 0 || !extent.isAllocated {
        try overlay.writeZeroes(at: position, count: extent.count)
      }
      position += extent.count
    }
  }

  /// Gives an overlay another parent, or none.
  ///
  /// - Parameters:
  ///   - isUnsafe: Only change the name: for a parent that was moved or holds the same. Opens no other file.
  ///     Otherwise the content stays the same: what differs between the old and the new parent is stored in the overlay.
  public static func rebase(
    _ path: String, onto parent: (path: String, format: DiskFormat)?,
    backing policy: BackingPolicy, isUnsafe: Bool = false,
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    if isUnsafe {
      var alone = OpenOptions()
      alone.withoutBacking = true
      let image = try DiskImage.openQcow2(path, backing: policy, options: alone)
      defer { try? image.close() }
      try image.setBacking(parent)
      return try image.close()
    }
    let overlay = try DiskImage.openQcow2(path, backing: policy)
    defer { try? overlay.close() }
    var new: (any BlockDevice)?
    if let parent {
      new = try DiskImage.open(
        HostPath.combined(parent.path, relativeTo: path), format: parent.format, mode: .readOnly,
        backing: policy)
    }
    defer { try? new?.close() }
    try keepContent(of: overlay, above: new, progress)
    try overlay.setBacking(parent)
    try overlay.close()
  }

  private static func keepContent(
    of overlay: Qcow2Image, above new: (any BlockDevice)?, _ progress: OperationProgress
  ) throws(DiskImageError) {
    let unit = overlay.geometry.unit
    let nothing = EmptyDevice()
    let copy = ParallelCopy(
      overlay, end: overlay.size, pieceSize: max(1 << 20, unit), unit: 1, progress: progress
    ) { (offset, limit) throws(DiskImageError) in
      var extent = try overlay.extent(at: offset, limit: limit)
      // Everything that the overlay does not hold itself.
      extent.isAllocated = extent.depth > 0 || !extent.isAllocated
      return extent
    }
    try copy.run(threads: ParallelCopy.defaultThreads) {
      { (piece, bytes) throws(DiskImageError) in
        try DiskDifference.store(
          piece, bytes, into: overlay, unless: new ?? nothing, unit: Int(unit))
      }
    }
  }
}

/// What is below a disk without a backing file.
final class EmptyDevice: BlockDevice {
  let path = "nothing"
  let isReadOnly = true
  let size: UInt64 = 0
  func readVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64) {}
  func writeVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64) {}
  func flush() {}
  func discard(at offset: UInt64, count: UInt64) {}
  func writeZeroes(at offset: UInt64, count: UInt64, mayUnmap: Bool) {}
  func extent(at offset: UInt64, limit: UInt64) -> BlockExtent {
    BlockExtent(count: limit, isZero: true, isAllocated: false)
  }
  func resize(to size: UInt64) {}
  func close() {}
}
