// Copying a disk into a new image of any format: in parallel, sparse where the source is zeros, compressed if wanted.
import CLinux

/// Copying disks into new images.
public enum DiskConversion {
  /// How a conversion is done.
  public struct Options: Sendable {
    /// Format of the new image.
    public var format: DiskFormat = .qcow2
    /// Properties of a new qcow2 image; with a backing file, what equals it is not stored.
    public var qcow2 = Qcow2.Options()
    /// Store clusters compressed.
    public var compresses = false
    /// 0: as many as the machine has processors, at most 8.
    public var threads = 0
    /// Replace an existing file.
    public var replacing = false
    /// Wait until the new image survives a power failure. Without it that takes as long as the system's buffers live,
    /// as after any copy of a file.
    public var isDurable = false

    public init() {}
  }

  /// Writes the content of `source` into a new image, which appears under its name when it is complete.
  ///
  /// - Parameter backing: The opened backing file of the new image, if its options name one.
  /// - Throws: The first error; the new image is removed then.
  public static func run(
    _ source: any BlockDevice, to path: String, options: Options = Options(),
    backing: (any BlockDevice)? = nil, progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    let file = try NewFile.create(path, replacing: options.replacing)
    if !options.isDurable { file.storage.skipFlushes() }
    let threads = options.threads > 0 ? options.threads : ParallelCopy.defaultThreads
    switch options.format {
    case .raw:
      if options.compresses {
        throw DiskImageError(.invalid, path, "cannot be compressed in the raw format; use qcow2")
      }
      try file.storage.truncate(to: source.size)
      try copyRaw(source, to: file.storage, threads, progress)
    case .qcow2:
      var properties = options.qcow2
      properties.replacing = options.replacing
      try Qcow2.format(file.storage, size: source.size, options: properties, path: path)
      try copyQcow2(source, to: file.storage, path, options, backing, threads, progress)
    }
    try file.commit(replacing: options.replacing, durable: options.isDurable)
  }

  private static func copyRaw(
    _ source: any BlockDevice, to storage: FileStorage, _ threads: Int,
    _ progress: OperationProgress
  ) throws(DiskImageError) {
    let copy = ParallelCopy(
      source, end: source.size, pieceSize: pieceSize, progress: progress)
    try copy.run(threads: threads) {
      { (piece, bytes) throws(DiskImageError) in
        try ZeroDetection.eachDataRun(bytes, Int(piece.count), unit: 4096) {
          (run) throws(DiskImageError) in
          try storage.write(
            from: bytes + run.lowerBound, count: run.count,
            at: piece.offset + UInt64(run.lowerBound))
        }
      }
    }
  }

  private static func copyQcow2(
    _ source: any BlockDevice, to storage: FileStorage, _ path: String, _ options: Options,
    _ backing: (any BlockDevice)?, _ threads: Int, _ progress: OperationProgress
  ) throws(DiskImageError) {
    var dataStorage: FileStorage?
    if let name = options.qcow2.dataFile {
      dataStorage = try FileStorage.open(HostPath.combined(name, relativeTo: path), writable: true)
    }
    let image = try Qcow2Image(
      storage: storage, dataStorage: dataStorage, header: try Qcow2Header.read(from: storage),
      backing: backing, isReadOnly: false, cacheBytes: 8 << 20)
    image.sharesFiles = true
    defer { dataStorage?.close() }
    if options.compresses && image.geometry.hasExternalData {
      throw DiskImageError(.invalid, path, "cannot be compressed with an external data file")
    }
    let cluster = image.geometry.clusterSize
    let copy = ParallelCopy(
      source, end: source.size, pieceSize: options.compresses ? cluster : max(pieceSize, cluster),
      unit: backing == nil ? cluster : 1, progress: progress, wantsZeros: backing != nil)
    if options.compresses {
      if backing != nil {
        throw DiskImageError(.invalid, path, "cannot be compressed onto a backing file")
      }
      try copyCompressed(copy, image, threads)
    } else {
      try copyPlain(copy, image, threads, backing)
    }
    try image.close()
  }

  private static func copyPlain(
    _ copy: ParallelCopy, _ image: Qcow2Image, _ threads: Int, _ backing: (any BlockDevice)?
  ) throws(DiskImageError) {
    let unit = Int(min(image.geometry.unit, UInt64(pieceSize)))
    try copy.run(threads: threads) {
      { (piece, bytes) throws(DiskImageError) in
        if let backing {
          return try DiskDifference.store(
            piece, bytes, into: image, unless: backing, unit: unit)
        }
        try ZeroDetection.eachDataRun(bytes, Int(piece.count), unit: unit) {
          (run) throws(DiskImageError) in
          try image.write(
            from: UnsafeRawBufferPointer(start: bytes + run.lowerBound, count: run.count),
            at: piece.offset + UInt64(run.lowerBound))
        }
      }
    }
  }

  private static func copyCompressed(_ copy: ParallelCopy, _ image: Qcow2Image, _ threads: Int)
    throws(DiskImageError)
  {
    let size = Int(image.geometry.clusterSize)
    let compression = image.header.compression
    try copy.run(threads: threads) {
      nonisolated(unsafe) let packer = ClusterCompressor(
        compression, clusterSize: image.geometry.clusterSize)
      return { (piece, bytes) throws(DiskImageError) in
        // The last cluster of a disk may be cut short.
        memset(bytes + Int(piece.count), 0, size - Int(piece.count))
        if ZeroDetection.isZero(bytes, size) { return }
        try image.writeCompressed(bytes, at: piece.offset, packer)
      }
    }
  }

  /// Large enough to make calls cheap, small enough to stay in a processor's cache.
  static let pieceSize: UInt64 = 1 << 18
}
