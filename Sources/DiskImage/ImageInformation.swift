// What an image says about itself. Reading it opens nothing but the image, takes no lock and believes nothing.
import CLinux

/// The properties of an image file.
public struct ImageInformation: Sendable {
  public var path: String
  public var format: DiskFormat
  /// The size that a guest sees, in bytes.
  public var virtualSize: UInt64
  /// Bytes from the start to the end of the file.
  public var fileLength: UInt64
  /// Bytes that the file takes on the host.
  public var allocatedSize: UInt64
  /// Only of qcow2 images.
  public var qcow2: Qcow2Properties?

  /// What only qcow2 images have.
  public struct Qcow2Properties: Sendable {
    public var version: Int
    public var clusterSize: UInt64
    public var refcountBits: Int
    public var compression: Qcow2Compression
    public var hasLazyRefcounts: Bool
    public var hasSubclusters: Bool
    public var isDirty: Bool
    public var isCorrupt: Bool
    /// The backing file's name as stored.
    public var backingName: String?
    /// The backing file's format as stored.
    public var backingFormat: String?
    /// The name of the external data file as stored.
    public var dataFile: String?
    public var dataFileIsRaw: Bool
    public var snapshots: [Qcow2Snapshot]
  }

  /// Reads an image's own account of itself.
  ///
  /// - Parameter format: What the file is; nil looks at its first bytes. Only for showing: open an image by a format
  ///   that was stored elsewhere, because a guest can make a raw disk look like anything.
  public static func read(_ path: String, format: DiskFormat? = nil) throws(DiskImageError)
    -> ImageInformation
  {
    let storage = try FileStorage.open(path, writable: false, lock: false)
    defer { storage.close() }
    var status = stat()
    stat(path, &status)
    let length = try storage.length()
    let magic = try storage.readBytes(4, at: 0).big(UInt32.self, at: 0)
    let kind = format ?? (magic == Qcow2Header.magic ? .qcow2 : .raw)
    var information = ImageInformation(
      path: path, format: kind, virtualSize: length, fileLength: length,
      allocatedSize: UInt64(clamping: status.st_blocks) * 512)
    if kind == .qcow2 {
      let header = try Qcow2Header.read(from: storage)
      information.virtualSize = header.size
      information.qcow2 = Qcow2Properties(
        header, try SnapshotTable.read(from: storage, header).entries)
    }
    return information
  }
}

extension ImageInformation.Qcow2Properties {
  init(_ header: Qcow2Header, _ snapshots: [Qcow2Snapshot]) {
    version = Int(header.version)
    clusterSize = header.clusterSize
    refcountBits = 1 << Int(header.refcountOrder)
    compression = header.compression
    hasLazyRefcounts = header.hasLazyRefcounts
    hasSubclusters = header.incompatible.contains(.extendedL2)
    isDirty = header.incompatible.contains(.dirty)
    isCorrupt = header.incompatible.contains(.corrupt)
    backingName = header.backingName
    backingFormat = header.backingFormat
    dataFile = header.dataFileName
    dataFileIsRaw = header.dataIsRaw
    self.snapshots = snapshots
  }
}
