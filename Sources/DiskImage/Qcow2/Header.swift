// The first cluster of a qcow2 file: header, extensions, backing file name.
//
// Source: the qcow2 format specification in QEMU's interoperability documents, sections "Header" and "Header
// extensions". All integers are big endian. Version 2 ends at byte 72, version 3 says its own length.

/// A parsed and validated header.
package struct Qcow2Header: Sendable, Equatable {
  package static let magic: UInt32 = 0x5146_49fb
  /// Largest tables that are opened; what QEMU takes, too.
  static let maximumL1Bytes: UInt64 = 32 << 20
  static let maximumRefcountTableBytes: UInt64 = 8 << 20
  static let maximumSnapshots: UInt32 = 65536

  package var version: UInt32 = 3
  package var clusterBits: UInt32 = 16
  /// Virtual size in bytes.
  package var size: UInt64 = 0
  package var cryptMethod: UInt32 = 0
  /// Entries of the active L1 table.
  package var l1Size: UInt32 = 0
  package var l1Offset: UInt64 = 0
  package var refcountTableOffset: UInt64 = 0
  package var refcountTableClusters: UInt32 = 0
  package var snapshotCount: UInt32 = 0
  package var snapshotsOffset: UInt64 = 0
  package var incompatible: Incompatible = []
  package var compatible: UInt64 = 0
  package var autoclear: UInt64 = 0
  /// A refcount is 1 << refcountOrder bits wide.
  package var refcountOrder: UInt32 = 4
  package var headerLength: UInt32 = 112
  package var compression: Qcow2Compression = .deflate
  /// Bytes of a longer header than we know; kept as they are.
  package var unknownBytes: [UInt8] = []
  package var extensions: [HeaderExtension] = []
  package var backingName: String?

  /// Features that a program must know to read the image at all.
  package struct Incompatible: OptionSet, Sendable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    /// Refcounts may be wrong: rebuild them before writing.
    package static let dirty = Incompatible(rawValue: 1 << 0)
    /// Something is wrong; do not write before a repair.
    package static let corrupt = Incompatible(rawValue: 1 << 1)
    package static let externalData = Incompatible(rawValue: 1 << 2)
    package static let compressionType = Incompatible(rawValue: 1 << 3)
    package static let extendedL2 = Incompatible(rawValue: 1 << 4)
    static let known: Incompatible = [
      .dirty, .corrupt, .externalData, .compressionType, .extendedL2,
    ]
  }

  package static let lazyRefcounts: UInt64 = 1 << 0
  package static let bitmapsConsistent: UInt64 = 1 << 0
  package static let rawExternalData: UInt64 = 1 << 1

  package var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
  var hasLazyRefcounts: Bool { compatible & Self.lazyRefcounts != 0 }
  var dataIsRaw: Bool { autoclear & Self.rawExternalData != 0 }
  /// The format that the image says its backing file has.
  package var backingFormat: String? { text(.backingFormat) }
  /// The name of the external data file.
  package var dataFileName: String? { text(.dataFileName) }

  package init() {}

  func text(_ kind: HeaderExtension.Kind) -> String? {
    extensions.first { $0.kind == kind }.map { String(decoding: $0.data, as: UTF8.self) }
  }

  /// Sets or removes a text extension.
  mutating func setText(_ kind: HeaderExtension.Kind, _ text: String?) {
    extensions.removeAll { $0.kind == kind }
    if let text { extensions.insert(HeaderExtension(kind: kind, data: [UInt8](text.utf8)), at: 0) }
  }
}

/// How compressed clusters are packed.
public enum Qcow2Compression: UInt8, Sendable, CaseIterable {
  case deflate = 0
  case zstd = 1

  /// The name that qemu-img uses.
  public var name: String { self == .deflate ? "zlib" : "zstd" }
}

/// One header extension: known kinds have names, others are kept as bytes.
package struct HeaderExtension: Sendable, Equatable {
  package struct Kind: RawRepresentable, Sendable, Hashable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    static let end = Kind(rawValue: 0)
    package static let backingFormat = Kind(rawValue: 0xe279_2aca)
    package static let featureNames = Kind(rawValue: 0x6803_f857)
    package static let bitmaps = Kind(rawValue: 0x2385_2875)
    package static let encryption = Kind(rawValue: 0x0537_be77)
    package static let dataFileName = Kind(rawValue: 0x4441_5441)
  }
  package var kind: Kind
  package var data: [UInt8]

  package init(kind: Kind, data: [UInt8]) {
    self.kind = kind
    self.data = data
  }
}

// MARK: - Parsing

extension Qcow2Header {
  /// Reads the header from an image file. Nothing else is opened or read.
  package static func read(from storage: any ImageStorage) throws(DiskImageError) -> Qcow2Header {
    let start = try storage.readBytes(112, at: 0)
    guard start.big(UInt32.self, at: 0) == magic else {
      throw DiskImageError(.invalid, storage.path, "is not a qcow2 image; say which format it has")
    }
    let bits = start.big(UInt32.self, at: 20) ?? 0
    guard (9...21).contains(bits) else {
      throw DiskImageError(
        .corrupt, storage.path, "has cluster bits \(bits), not 9 to 21", offset: 20)
    }
    let cluster = try storage.readBytes(1 << Int(bits), at: 0)
    return try Qcow2Header(parsing: cluster, path: storage.path)
  }

  /// - Parameter bytes: The whole first cluster.
  init(parsing bytes: [UInt8], path: String) throws(DiskImageError) {
    func field<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type, _ offset: Int) -> T {
      bytes.big(type, at: offset) ?? 0
    }
    version = field(UInt32.self, 4)
    guard version == 2 || version == 3 else {
      throw DiskImageError(
        .unsupported, path, "is qcow2 version \(version); only 2 and 3 are known", offset: 4)
    }
    clusterBits = field(UInt32.self, 20)
    size = field(UInt64.self, 24)
    cryptMethod = field(UInt32.self, 32)
    l1Size = field(UInt32.self, 36)
    l1Offset = field(UInt64.self, 40)
    refcountTableOffset = field(UInt64.self, 48)
    refcountTableClusters = field(UInt32.self, 56)
    snapshotCount = field(UInt32.self, 60)
    snapshotsOffset = field(UInt64.self, 64)
    headerLength = 72
    if version >= 3 {
      headerLength = field(UInt32.self, 100)
      guard headerLength >= 104, headerLength % 8 == 0, UInt64(headerLength) <= clusterSize else {
        throw DiskImageError(
          .corrupt, path, "has a header length of \(headerLength) bytes", offset: 100)
      }
      incompatible = Incompatible(rawValue: field(UInt64.self, 72))
      compatible = field(UInt64.self, 80)
      autoclear = field(UInt64.self, 88)
      refcountOrder = field(UInt32.self, 96)
      if headerLength > 104 {
        guard let known = Qcow2Compression(rawValue: bytes[104]) else {
          throw DiskImageError(
            .unsupported, path, "compresses by method \(bytes[104]), which is not known",
            offset: 104)
        }
        compression = known
      }
      if headerLength > 112 { unknownBytes = Array(bytes[112..<Int(headerLength)]) }
    }
    try parseBackingNameAndExtensions(bytes, path)
    try validate(path)
  }

  private mutating func parseBackingNameAndExtensions(_ bytes: [UInt8], _ path: String)
    throws(DiskImageError)
  {
    let offset = bytes.big(UInt64.self, at: 8) ?? 0
    let length = bytes.big(UInt32.self, at: 16) ?? 0
    var end = UInt64(bytes.count)
    if offset != 0 {
      guard length <= 1023, offset >= UInt64(headerLength), offset <= end - UInt64(length) else {
        throw DiskImageError(
          .corrupt, path, "has its backing file's name outside the first cluster", offset: 8)
      }
      end = offset
      let name = bytes[Int(offset)..<Int(offset) + Int(length)]
      guard !name.contains(0), let text = String(validating: name, as: UTF8.self) else {
        throw DiskImageError(
          .corrupt, path, "names a backing file that is not text", offset: offset)
      }
      if !text.isEmpty { backingName = text }
    }
    extensions = try HeaderExtension.parse(
      bytes, from: Int(headerLength), to: Int(end), path: path)
  }
}

extension HeaderExtension {
  /// Reads extensions up to the end mark or the end of their area.
  fileprivate static func parse(_ bytes: [UInt8], from start: Int, to end: Int, path: String)
    throws(DiskImageError) -> [HeaderExtension]
  {
    var found: [HeaderExtension] = []
    var position = start
    while position + 8 <= end {
      let kind = Kind(rawValue: bytes.big(UInt32.self, at: position) ?? 0)
      let length = Int(bytes.big(UInt32.self, at: position + 4) ?? 0)
      if kind == .end { break }
      position += 8
      guard length <= end - position else {
        throw DiskImageError(
          .corrupt, path, "has a header extension that runs out of its area",
          offset: UInt64(position - 8))
      }
      found.append(
        HeaderExtension(kind: kind, data: Array(bytes[position..<position + length])))
      position += (length + 7) & ~7
    }
    return found
  }
}
