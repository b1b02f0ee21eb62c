// Opening images: the format is stated, never guessed, and no other file is opened unless the caller allowed it.
import CLinux
import Platform

/// What the bytes of an image file mean.
public enum DiskFormat: String, Sendable, CaseIterable, Codable {
  case raw
  case qcow2
}

/// What the opener is going to do.
public enum AccessMode: Sendable {
  case readOnly
  case readWrite
}

/// Which files an image may name as backing or data file.
///
/// An image is a file that a guest, or whoever made it, controls: without this, opening it would read any file of the
/// host.
public enum BackingPolicy: Sendable {
  /// None: an image that needs another file is not opened.
  case refuse
  /// Files in this folder or below, symbolic links resolved.
  case allow(within: String)
  /// These files, symbolic links resolved.
  case allowExplicit([String])
  /// Any file. For images that the user made and named, as on the command line of a conversion.
  case allowAny

  /// - Parameter resolved: An absolute path without symbolic links.
  func permits(_ resolved: String) -> Bool {
    switch self {
    case .refuse: return false
    case .allowAny: return true
    case .allow(let folder):
      guard let root = HostPath.resolved(folder) else { return false }
      return resolved.hasPrefix(root == "/" ? root : root + "/")
    case .allowExplicit(let paths): return paths.contains { HostPath.resolved($0) == resolved }
    }
  }
}

/// How an image is opened, beyond format and mode.
public struct OpenOptions: Sendable {
  /// Most memory for tables of one image, in bytes.
  public var cacheBytes: Int = 32 << 20
  /// Past the host's page cache (O_DIRECT).
  public var direct = false
  /// Announce the use to other programs and respect theirs. Without it the content may change meanwhile.
  public var lock = true
  /// Do not open the backing file: what the image itself does not hold reads as zeros.
  public var withoutBacking = false

  public init() {}
}

/// Entry points of the library.
public enum DiskImage {
  /// Longest chain of backing files.
  static let maximumDepth = 256

  /// Opens an image, and with it the backing files that the policy allows.
  ///
  /// - Parameters:
  ///   - format: What the file is. A raw file that happens to look like qcow2 is raw.
  ///   - backing: Which files the image may refer to.
  /// - Throws: `.locked` when another program uses it, `.refused` when it needs a file that the policy does not allow.
  public static func open(
    _ path: String, format: DiskFormat, mode: AccessMode = .readWrite,
    backing: BackingPolicy = .refuse, options: OpenOptions = OpenOptions()
  ) throws(DiskImageError) -> any BlockDevice {
    switch format {
    case .raw:
      return try openRaw(path, mode: mode, options)
    case .qcow2:
      return try openQcow2(path, mode: mode, backing: backing, options: options)
    }
  }

  /// Opens a qcow2 image.
  public static func openQcow2(
    _ path: String, mode: AccessMode = .readWrite, backing: BackingPolicy = .refuse,
    options: OpenOptions = OpenOptions()
  ) throws(DiskImageError) -> Qcow2Image {
    try openQcow2(path, mode, backing, options, chain: [])
  }

  /// Opens what somebody else has opened, read-only: a raw image.
  ///
  /// - Parameter path: names it in messages.
  public static func openRaw(
    _ file: SharedDescriptor, path: String
  ) throws(DiskImageError) -> any BlockDevice {
    let storage = try FileStorage.adopt(file, path: path)
    return try RawImage(storage: storage, isReadOnly: true)
  }

  private static func openRaw(_ path: String, mode: AccessMode, _ options: OpenOptions)
    throws(DiskImageError) -> RawImage
  {
    let storage = try FileStorage.open(
      path, writable: mode == .readWrite, direct: options.direct, lock: options.lock)
    return try RawImage(storage: storage, isReadOnly: mode == .readOnly)
  }

  private static func openQcow2(
    _ path: String, _ mode: AccessMode, _ policy: BackingPolicy, _ options: OpenOptions,
    chain: [FileIdentity]
  ) throws(DiskImageError) -> Qcow2Image {
    let storage = try FileStorage.open(
      path, writable: mode == .readWrite, direct: options.direct, lock: options.lock)
    let identity = try storage.identity()
    if chain.contains(identity) {
      throw DiskImageError(
        .corrupt, path, "is its own backing file by way of others; break the loop")
    }
    guard chain.count < maximumDepth else {
      throw DiskImageError(
        .unsupported, path, "is more than \(maximumDepth) backing files deep; commit some layers")
    }
    var header = try Qcow2Header.read(from: storage)
    try checkUsable(header, mode, path)
    if mode == .readWrite && header.incompatible.contains(.dirty) {
      header = try repairDirty(storage)
    }
    let dataStorage = try openDataFile(header, storage, mode, policy, options)
    let backing = try openBacking(header, path, policy, options, chain: chain + [identity])
    let tables = UInt64(header.l1Size).multipliedReportingOverflow(by: header.clusterSize)
    let image = try Qcow2Image(
      storage: storage, dataStorage: dataStorage, header: header, backing: backing,
      isReadOnly: mode == .readOnly,
      cacheBytes: min(options.cacheBytes, max(Int(clamping: tables.partialValue), 1 << 20)))
    return image
  }

  private static func checkUsable(_ header: Qcow2Header, _ mode: AccessMode, _ path: String)
    throws(DiskImageError)
  {
    if mode == .readWrite && header.incompatible.contains(.corrupt) {
      throw DiskImageError(
        .corrupt, path, "is marked corrupt; run a check with repair before writing to it")
    }
  }

  private static func openDataFile(
    _ header: Qcow2Header, _ image: FileStorage, _ mode: AccessMode, _ policy: BackingPolicy,
    _ options: OpenOptions
  ) throws(DiskImageError) -> FileStorage? {
    guard header.incompatible.contains(.externalData) else { return nil }
    guard let name = header.dataFileName else {
      throw DiskImageError(.corrupt, image.path, "does not name its data file")
    }
    let path = try HostPath.referenced(name, by: image.path, policy, what: "data file")
    return try FileStorage.open(
      path, writable: mode == .readWrite, direct: options.direct, lock: options.lock)
  }

  private static func openBacking(
    _ header: Qcow2Header, _ path: String, _ policy: BackingPolicy, _ options: OpenOptions,
    chain: [FileIdentity]
  ) throws(DiskImageError) -> (any BlockDevice)? {
    guard let name = header.backingName, !options.withoutBacking else { return nil }
    let file = try HostPath.referenced(name, by: path, policy, what: "backing file")
    guard let stated = header.backingFormat else {
      throw DiskImageError(
        .refused, path,
        "does not say which format its backing file has; set it with rebase -u and a format")
    }
    guard let format = DiskFormat(rawValue: stated) else {
      throw DiskImageError(
        .unsupported, path, "has a backing file of format '\(stated)'; only raw and qcow2 are known"
      )
    }
    switch format {
    case .raw: return try openRaw(file, mode: .readOnly, options)
    case .qcow2: return try openQcow2(file, .readOnly, policy, options, chain: chain)
    }
  }
}
