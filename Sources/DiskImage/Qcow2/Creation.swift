// New qcow2 images.

/// Making qcow2 images.
public enum Qcow2 {
  /// What space a new image takes at once.
  public enum Preallocation: String, Sendable, CaseIterable {
    /// None: clusters come with the first write.
    case off
    /// Tables only: no allocation later, the file is sparse.
    case metadata
    /// Tables, and space taken from the file system.
    case falloc
    /// Tables, and zeros written.
    case full
  }

  /// Properties of a new image.
  public struct Options: Sendable {
    /// The cluster size as a power of two, 9 to 21.
    public var clusterBits = 16
    /// 2 or 3.
    public var version = 3
    /// Width of a refcount in bits: 1, 2, 4, ... 64.
    public var refcountBits = 16
    public var compression = Qcow2Compression.deflate
    /// Lets other programs put off refcount updates.
    public var lazyRefcounts = false
    /// 32 subclusters per cluster (extended L2 entries).
    public var subclusters = false
    public var preallocation = Preallocation.off
    /// The image's parent, as a name to be stored (relative names count from the image's folder), and its format.
    public var backing: (path: String, format: DiskFormat)?
    /// A file for the data; the image then holds tables only.
    public var dataFile: String?
    /// The data file is to be a valid raw image at all times.
    public var dataFileIsRaw = false
    /// Replace an existing file.
    public var replacing = false

    public init() {}
  }

  /// Creates an image under its name all at once: either it is there, complete and durable, or it is not.
  ///
  /// - Parameter size: Bytes, rounded up to a multiple of 512; nil takes the backing file's size.
  public static func create(
    _ path: String, size: UInt64?, options: Options = Options(),
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    let file = try NewFile.create(path, replacing: options.replacing)
    let bytes: UInt64
    if let size { bytes = size } else { bytes = try backingSize(path, options) }
    try format(file.storage, size: bytes, options: options, path: path, progress: progress)
    try file.commit(replacing: options.replacing)
  }

  /// Writes an empty image into an empty file.
  package static func format(
    _ storage: any ImageStorage, size: UInt64, options: Options, path: String,
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) {
    var header = try header(size: size, options, path)
    if let backing = options.backing {
      let parent = HostPath.combined(backing.path, relativeTo: path)
      guard HostPath.resolved(parent) != nil else {
        throw DiskImageError(.notFound, path, "cannot have '\(parent)' as backing file: not there")
      }
    }
    try Layout(header).write(&header, to: storage, path)
    if let name = options.dataFile { try createDataFile(name, options, size, path) }
    if options.preallocation != .off {
      try preallocateAll(storage, header, options, path, progress)
    }
  }

  /// Bytes of all tables of an image that is fully allocated.
  static func tableBytes(size: UInt64, options: Options) throws(DiskImageError) -> UInt64 {
    let header = try header(size: size, options, "image")
    let geometry = Qcow2Geometry(header)
    let l2Tables = (geometry.clusters(header.size) + geometry.l2Entries - 1) >> geometry.l2Bits
    let fixed = 1 + geometry.clusters(UInt64(header.l1Size) * 8) + l2Tables
    let perBlock: UInt64 = 1 << geometry.refcountBlockBits
    var blocks: UInt64 = 1
    var table: UInt64 = 1
    while true {
      let total = fixed + blocks + table + geometry.clusters(header.size)
      let neededBlocks = (total + perBlock - 1) / perBlock
      let neededTable = geometry.clusters(neededBlocks * 8)
      if neededBlocks <= blocks && neededTable <= table { break }
      (blocks, table) = (max(blocks, neededBlocks), max(table, neededTable))
    }
    return (fixed + blocks + table) << geometry.clusterBits
  }

  private static func header(size: UInt64, _ options: Options, _ path: String)
    throws(DiskImageError) -> Qcow2Header
  {
    func require(_ condition: Bool, _ reason: String) throws(DiskImageError) {
      if !condition { throw DiskImageError(.invalid, path, reason) }
    }
    try require(
      (9...21).contains(options.clusterBits), "needs a cluster size of 512 bytes to 2 MiB")
    try require(options.version == 2 || options.version == 3, "can be of version 2 or 3 only")
    try require(
      options.refcountBits > 0 && options.refcountBits <= 64
        && options.refcountBits.nonzeroBitCount == 1,
      "needs refcounts of 1, 2, 4, 8, 16, 32 or 64 bits")
    let plain =
      options.refcountBits == 16 && options.compression == .deflate && !options.lazyRefcounts
      && !options.subclusters && options.dataFile == nil
    try require(options.version == 3 || plain, "needs version 3 for these options")
    try require(
      !options.subclusters || options.clusterBits >= 14, "needs clusters of 16 KiB for subclusters")
    try require(
      !options.dataFileIsRaw || (options.dataFile != nil && options.backing == nil),
      "can have a raw data file only if it has a data file and no backing file")
    try require(size <= UInt64(Int64.max) - 511, "cannot be that large")
    var header = Qcow2Header()
    header.version = UInt32(options.version)
    header.clusterBits = UInt32(options.clusterBits)
    header.size = size.roundedUp(to: 512)
    header.refcountOrder = UInt32(options.refcountBits.trailingZeroBitCount)
    header.compression = options.compression
    if options.version == 2 { header.headerLength = 72 }
    if options.compression != .deflate { header.incompatible.insert(.compressionType) }
    if options.subclusters { header.incompatible.insert(.extendedL2) }
    if options.lazyRefcounts { header.compatible |= Qcow2Header.lazyRefcounts }
    if options.version == 3 && options.clusterBits > 9 {
      header.extensions.append(Qcow2Header.featureNameTable())
    }
    if let name = options.dataFile {
      header.incompatible.insert(.externalData)
      header.setText(.dataFileName, name)
      if options.dataFileIsRaw { header.autoclear |= Qcow2Header.rawExternalData }
    }
    if let backing = options.backing {
      header.backingName = backing.path
      header.setText(.backingFormat, backing.format.rawValue)
    }
    let entries = header.requiredL1Entries(forSize: header.size)
    try require(
      entries * 8 <= Qcow2Header.maximumL1Bytes,
      "cannot be that large with clusters of \(header.clusterSize) bytes; use larger ones")
    header.l1Size = UInt32(max(entries, 1))
    return header
  }

  private static func backingSize(_ path: String, _ options: Options) throws(DiskImageError)
    -> UInt64
  {
    guard let backing = options.backing else {
      throw DiskImageError(.invalid, path, "needs a size")
    }
    let parent = HostPath.combined(backing.path, relativeTo: path)
    return try ImageInformation.read(parent, format: backing.format).virtualSize
  }

  private static func createDataFile(
    _ name: String, _ options: Options, _ size: UInt64, _ image: String
  ) throws(DiskImageError) {
    let path = HostPath.combined(name, relativeTo: image)
    let file = try NewFile.create(path, replacing: options.replacing)
    try file.storage.truncate(to: size.roundedUp(to: 512))
    try file.commit(replacing: options.replacing)
  }

  private static func preallocateAll(
    _ storage: any ImageStorage, _ header: Qcow2Header, _ options: Options, _ path: String,
    _ progress: OperationProgress
  ) throws(DiskImageError) {
    var dataStorage: FileStorage?
    if let name = options.dataFile {
      dataStorage = try FileStorage.open(
        HostPath.combined(name, relativeTo: path), writable: true)
    }
    let image = try Qcow2Image(
      storage: storage, dataStorage: dataStorage, header: header, backing: nil, isReadOnly: false,
      cacheBytes: 8 << 20)
    defer {
      image.abandon()
      dataStorage?.close()
    }
    try image.preallocate(from: 0, to: header.size, options.preallocation, progress)
    try image.settle()
  }
}

/// Where the tables of an empty image lie: header, refcount table, refcount blocks, L1 table.
private struct Layout {
  let clusterSize: UInt64
  let perBlock: UInt64
  var tableClusters: UInt64 = 1
  var blocks: UInt64 = 1
  let l1Clusters: UInt64

  init(_ header: Qcow2Header) {
    let geometry = Qcow2Geometry(header)
    clusterSize = geometry.clusterSize
    perBlock = 1 << geometry.refcountBlockBits
    l1Clusters = geometry.clusters(UInt64(header.l1Size) * 8)
    while true {
      let neededBlocks = (total + perBlock - 1) / perBlock
      let neededTable = (neededBlocks * 8 + clusterSize - 1) / clusterSize
      if neededBlocks <= blocks && neededTable <= tableClusters { break }
      blocks = max(blocks, neededBlocks)
      tableClusters = max(tableClusters, neededTable)
    }
  }

  var total: UInt64 { 1 + tableClusters + blocks + l1Clusters }

  func write(_ header: inout Qcow2Header, to storage: any ImageStorage, _ path: String)
    throws(DiskImageError)
  {
    header.refcountTableOffset = clusterSize
    header.refcountTableClusters = UInt32(tableClusters)
    header.l1Offset = (1 + tableClusters + blocks) * clusterSize
    var table: [UInt8] = []
    let block = AlignedBuffer(count: Int(clusterSize))
    for index in 0..<blocks {
      let offset = (1 + tableClusters + index) * clusterSize
      table.appendBig(offset)
      block.clear()
      for counted in 0..<min(perBlock, total - index * perBlock) {
        RefcountCodec.set(block.pointer, counted, order: UInt64(header.refcountOrder), to: 1)
      }
      let used = min(perBlock, total - index * perBlock)
      let bytes = (used << UInt64(header.refcountOrder)) / 8 + 1
      // What follows is zeros, in a file that is still empty.
      try storage.write(
        from: block.pointer, count: Int(min(bytes, clusterSize)), at: offset)
    }
    try storage.writeBytes(table, at: clusterSize)
    try storage.writeBytes(try header.encoded(path: path), at: 0)
    // The L1 table is all zeros.
    try storage.truncate(to: header.l1Offset + UInt64(header.l1Size) * 8)
  }
}
