import CLinux
import DiskImage
import Platform

/// The inventory's images by way of our own DiskImage.
package struct DiskImageStore: ImageStore {
  package init() {}

  package func create(_ path: String, size: UInt64) throws(InventoryError) {
    guard size > 0 else { throw InventoryError(.invalid, "\(path): a disk has at least 512 bytes") }
    try image { () throws(DiskImageError) in try Qcow2.create(path, size: size) }
  }

  package func createOverlay(
    _ path: String, backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) {
    var options = Qcow2.Options()
    options.backing = (backing, format.ofImage)
    try image { () throws(DiskImageError) in
      try Qcow2.create(path, size: nil, options: options)
    }
  }

  package func copy(
    _ source: String, format: MachineDefinition.DiskFormat, to path: String
  ) throws(InventoryError) {
    try image { () throws(DiskImageError) in
      let input = try DiskImage.open(
        source, format: format.ofImage, mode: .readOnly, backing: .allowAny)
      try Qcow2.create(path, size: input.size)
      do throws(DiskImageError) {
        let output = try DiskImage.open(path, format: .qcow2)
        try Self.copy(input, to: output)
        try output.flush()
        try output.close()
        try input.close()
      } catch {
        unlink(path)
        throw error
      }
    }
  }

  /// Copies the content of any image into a new raw file, with holes where it reads as zeros.
  package func copyToRaw(
    _ source: String, format: MachineDefinition.DiskFormat, to path: String
  ) throws(InventoryError) {
    let size = try self.size(source, format: format)
    try createRaw(path, size: size)
    try image { () throws(DiskImageError) in
      do throws(DiskImageError) {
        let input = try DiskImage.open(
          source, format: format.ofImage, mode: .readOnly, backing: .allowAny)
        let output = try DiskImage.open(path, format: .raw)
        try Self.copy(input, to: output)
        try output.flush()
        try output.close()
        try input.close()
      } catch {
        unlink(path)
        throw error
      }
    }
  }

  /// A new, empty, sparse raw file.
  package func createRaw(_ path: String, size: UInt64) throws(InventoryError) {
    guard size > 0 else { throw InventoryError(.invalid, "\(path): a disk has at least 512 bytes") }
    try platform { () throws(PlatformError) in
      let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL)
      let number = file.rawValue
      _ = try systemCall("ftruncate", path) { ftruncate(number, off_t(clamping: size)) }
      _ = try systemCall("fsync", path) { fsync(number) }
    }
  }

  /// Copies what is not known to be zero.
  private static func copy(
    _ input: any BlockDevice, to output: any BlockDevice
  ) throws(DiskImageError) {
    let chunk = 1 << 20
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk, alignment: 4096)
    defer { buffer.deallocate() }
    var offset: UInt64 = 0
    while offset < input.size {
      let limit = min(UInt64(chunk), input.size - offset)
      let extent = try input.extent(at: offset, limit: limit)
      let count = max(1, min(extent.count, limit))
      if !extent.isZero {
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(count)])
        try input.read(into: part, at: offset)
        if part.contains(where: { $0 != 0 }) {
          try output.write(from: UnsafeRawBufferPointer(part), at: offset)
        }
      }
      offset += count
    }
  }

  package func size(
    _ path: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) -> UInt64 {
    var size: UInt64 = 0
    try image { () throws(DiskImageError) in
      let information = try ImageInformation.read(path, format: format.ofImage)
      size = information.virtualSize
      if format == .qcow2 { try Self.checkIsWhole(path, length: information.fileLength) }
    }
    guard size > 0 else { throw InventoryError(.invalid, "\(path): is empty") }
    return size
  }

  /// A copy or download that was cut off: the tables that everything hangs on are not all there.
  private static func checkIsWhole(_ path: String, length: UInt64) throws(DiskImageError) {
    let storage = try FileStorage.open(path, writable: false, lock: false)
    defer { storage.close() }
    let header = try Qcow2Header.read(from: storage)
    let ends = [
      header.l1Offset.addingReportingOverflow(UInt64(header.l1Size) * 8),
      header.refcountTableOffset.addingReportingOverflow(header.clusterSize),
    ]
    for end in ends where end.overflow || end.partialValue > length {
      throw DiskImageError(
        .corrupt, path,
        "is truncated: its tables reach beyond the file's \(length) bytes; copy it again")
    }
  }

  package func backing(of path: String) throws(InventoryError) -> [String] {
    var paths: [String] = []
    try image { () throws(DiskImageError) in
      var next: String? = path
      while let file = next, paths.count < 256 {
        next = nil
        let information = try ImageInformation.read(file, format: .qcow2)
        guard let name = information.qcow2?.backingName else { break }
        let folder = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? "."
        let below = InventoryLocation.absolute(name.hasPrefix("/") ? name : "\(folder)/\(name)")
        paths.append(below)
        if information.qcow2?.backingFormat == DiskFormat.qcow2.rawValue { next = below }
      }
    }
    return paths
  }

  package func isPristine(_ path: String) throws(InventoryError) -> Bool {
    var isPristine = false
    try image { () throws(DiskImageError) in
      var options = OpenOptions()
      options.withoutBacking = true
      // The machine's lock is held, so nobody writes; and an image lock would be seen by a host that is just starting.
      options.lock = false
      let device = try DiskImage.openQcow2(path, mode: .readOnly, options: options)
      let extent = try device.extent(at: 0, limit: device.size)
      isPristine = !extent.isAllocated && extent.count >= device.size
      try device.close()
    }
    return isPristine
  }

  package func stream(
    _ path: String, base: String?, baseFormat: MachineDefinition.DiskFormat, allowed: [String],
    progress: LayerProgress
  ) throws(InventoryError) {
    try image { () throws(DiskImageError) in
      try DiskLayers.stream(
        path, backing: .allowExplicit(allowed), base: base.map { ($0, baseFormat.ofImage) },
        progress: progress.bytes)
    }
  }

  package func commit(
    _ path: String, allowed: [String], progress: LayerProgress
  ) throws(InventoryError) {
    try image { () throws(DiskImageError) in
      try DiskLayers.commit(
        path, backing: .allowExplicit(allowed), keepsData: true, progress: progress.bytes)
    }
  }

  package func setBacking(
    of path: String, to backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) {
    try image { () throws(DiskImageError) in
      try DiskLayers.rebase(
        path, onto: (backing, format.ofImage), backing: .refuse, isUnsafe: true)
    }
  }

  package func allocatedSize(_ path: String) -> UInt64 {
    var information = stat()
    guard stat(path, &information) == 0 else { return 0 }
    return UInt64(clamping: information.st_blocks) &* 512
  }

  package func difference(
    _ one: ResolvedDisk, _ other: ResolvedDisk, progress: LayerProgress
  ) throws(InventoryError) -> [Range<UInt64>] {
    var found: [Range<UInt64>] = []
    try image { () throws(DiskImageError) in
      // Layers of snapshots do not change, so a running host's locks on them mean nothing here.
      var options = OpenOptions()
      options.lock = false
      let first = try Self.opened(one, options)
      defer { try? first.close() }
      let second = try Self.opened(other, options)
      defer { try? second.close() }
      found = try DiskDifference.ranges(
        first, files: [one.path] + one.backing, second, files: [other.path] + other.backing,
        progress: progress.bytes)
    }
    return found
  }

  private static func opened(
    _ disk: ResolvedDisk, _ options: OpenOptions
  ) throws(DiskImageError) -> any BlockDevice {
    try DiskImage.open(
      disk.path, format: disk.format.ofImage, mode: .readOnly,
      backing: .allowExplicit(disk.backing), options: options)
  }

  private func image(_ body: () throws(DiskImageError) -> Void) throws(InventoryError) {
    do {
      try body()
    } catch {
      throw InventoryError(error.code == .notFound ? .notFound : .invalid, error.description)
    }
  }
}

extension MachineDefinition.DiskFormat {
  fileprivate var ofImage: DiskFormat { self == .raw ? .raw : .qcow2 }
}
