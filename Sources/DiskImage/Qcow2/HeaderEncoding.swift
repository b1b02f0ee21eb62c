// Writing the header: whole at creation and when names change, single fields in place otherwise.

extension Qcow2Header {
  /// The bytes from the start of the file to the end of the backing file's name.
  ///
  /// - Throws: `.invalid` when names and extensions do not fit into one cluster.
  ///
  /// - Parameter nameOffset: Where the name may begin at the earliest.
  package func encoded(path: String, nameFrom nameOffset: Int = 0) throws(DiskImageError)
    -> [UInt8]
  {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(1024)
    bytes.appendBig(Self.magic)
    bytes.appendBig(version)
    bytes.appendBig(UInt64(0))
    bytes.appendBig(UInt32(0))
    bytes.appendBig(clusterBits)
    bytes.appendBig(size)
    bytes.appendBig(cryptMethod)
    bytes.appendBig(l1Size)
    bytes.appendBig(l1Offset)
    bytes.appendBig(refcountTableOffset)
    bytes.appendBig(refcountTableClusters)
    bytes.appendBig(snapshotCount)
    bytes.appendBig(snapshotsOffset)
    if version >= 3 {
      bytes.appendBig(incompatible.rawValue)
      bytes.appendBig(compatible)
      bytes.appendBig(autoclear)
      bytes.appendBig(refcountOrder)
      bytes.appendBig(headerLength)
      if headerLength > 104 {
        bytes.append(compression.rawValue)
        bytes.append(contentsOf: [UInt8](repeating: 0, count: 7))
      }
      bytes.append(contentsOf: unknownBytes)
    }
    for item in extensions {
      bytes.appendBig(item.kind.rawValue)
      bytes.appendBig(UInt32(item.data.count))
      bytes.append(contentsOf: item.data)
      bytes.append(contentsOf: [UInt8](repeating: 0, count: (8 - item.data.count % 8) % 8))
    }
    bytes.appendBig(UInt64(0))
    if let backingName {
      let name = [UInt8](backingName.utf8)
      guard name.count <= 1023 else {
        throw DiskImageError(.invalid, path, "cannot name a backing file by more than 1023 bytes")
      }
      bytes += [UInt8](repeating: 0, count: max(0, nameOffset - bytes.count))
      bytes.setBig(UInt64(bytes.count), at: 8)
      bytes.setBig(UInt32(name.count), at: 16)
      bytes.append(contentsOf: name)
    }
    guard UInt64(bytes.count) <= clusterSize else {
      throw DiskImageError(
        .invalid, path, "has no room for its names in the first cluster; use larger clusters")
    }
    return bytes
  }

  /// The bytes from 36 to 71: L1 table, refcount table and snapshot table. They lie in one disk sector, so that one write
  /// exchanges any of them together.
  func encodedTablePointers() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBig(l1Size)
    bytes.appendBig(l1Offset)
    bytes.appendBig(refcountTableOffset)
    bytes.appendBig(refcountTableClusters)
    bytes.appendBig(snapshotCount)
    bytes.appendBig(snapshotsOffset)
    return bytes
  }

  static let tablePointersOffset: UInt64 = 36
  static let sizeOffset: UInt64 = 24
  static let featureBitsOffset: UInt64 = 72

  /// The bytes from 72 to 95: the three sets of feature bits.
  func encodedFeatureBits() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBig(incompatible.rawValue)
    bytes.appendBig(compatible)
    bytes.appendBig(autoclear)
    return bytes
  }

  /// The names of the feature bits, as QEMU writes them, for programs that do not know one.
  static func featureNameTable() -> HeaderExtension {
    let names: [(UInt8, UInt8, String)] = [
      (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"),
      (0, 3, "compression type"), (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"),
      (2, 0, "bitmaps"), (2, 1, "raw external data"),
    ]
    var data: [UInt8] = []
    for (kind, bit, name) in names {
      data.append(kind)
      data.append(bit)
      data.append(contentsOf: name.utf8)
      data.append(contentsOf: [UInt8](repeating: 0, count: 46 - name.utf8.count))
    }
    return HeaderExtension(kind: .featureNames, data: data)
  }
}
