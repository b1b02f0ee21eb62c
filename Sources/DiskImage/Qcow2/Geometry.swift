// How an offset on the disk is cut into table indices, and the bits of L1, L2 and refcount entries.

/// The fixed numbers of one image.
struct Qcow2Geometry: Sendable {
  let clusterBits: UInt64
  let clusterSize: UInt64
  let version: UInt32
  /// 16-byte L2 entries with a bitmap of 32 subclusters.
  let hasSubclusters: Bool
  /// Data lies in another file, at the guest's offsets.
  let hasExternalData: Bool
  let refcountOrder: UInt64
  /// Entries of an L2 table, as a power of two.
  let l2Bits: UInt64
  /// Bytes of an L2 entry.
  let l2EntrySize: UInt64
  /// Clusters per refcount block, as a power of two.
  let refcountBlockBits: UInt64
  /// Bytes that are cached, read and written of a table at once.
  let sliceSize: UInt64
  /// The least that is allocated within a cluster: the subcluster, or the cluster itself.
  let unit: UInt64

  init(_ header: Qcow2Header) {
    clusterBits = UInt64(header.clusterBits)
    clusterSize = header.clusterSize
    version = header.version
    hasSubclusters = header.incompatible.contains(.extendedL2)
    hasExternalData = header.incompatible.contains(.externalData)
    refcountOrder = UInt64(header.refcountOrder)
    l2EntrySize = hasSubclusters ? 16 : 8
    l2Bits = clusterBits - (hasSubclusters ? 4 : 3)
    refcountBlockBits = clusterBits + 3 - refcountOrder
    sliceSize = min(clusterSize, 4096)
    unit = hasSubclusters ? clusterSize / 32 : clusterSize
  }

  var l2Entries: UInt64 { 1 << l2Bits }
  /// Bytes of the disk under one L1 entry.
  var l1Span: UInt64 { 1 << (clusterBits + l2Bits) }
  var l2EntriesPerSlice: UInt64 { sliceSize / l2EntrySize }
  var refcountsPerSlice: UInt64 { (sliceSize << 3) >> refcountOrder }
  /// The largest refcount.
  var refcountMaximum: UInt64 {
    refcountOrder == 6 ? UInt64(Int64.max) : (1 << (1 << refcountOrder)) - 1
  }
  func offsetInCluster(_ offset: UInt64) -> UInt64 { offset & (clusterSize - 1) }
  func clusters(_ bytes: UInt64) -> UInt64 { bytes.roundedUp(to: clusterSize) >> clusterBits }

  /// Low bits of a compressed entry that are the host offset.
  var compressedOffsetBits: UInt64 { 70 - clusterBits }
}

/// An L1 entry's or standard L2 entry's bits.
enum EntryBits {
  /// Refcount is exactly one: may be written in place.
  static let copied: UInt64 = 1 << 63
  static let compressed: UInt64 = 1 << 62
  /// Reads as zeros (version 3, standard L2 entries).
  static let zero: UInt64 = 1
  /// Bits 9 to 55.
  static let offset: UInt64 = 0x00ff_ffff_ffff_fe00
}

/// One L2 entry: the descriptor, and with subclusters their bitmap (bits 0-31 allocated, 32-63 reads as zeros).
struct L2Entry: Equatable {
  var descriptor: UInt64
  var bitmap: UInt64 = 0

  static let unallocated = L2Entry(descriptor: 0)

  var isCompressed: Bool { descriptor & EntryBits.compressed != 0 }
  var isCopied: Bool { descriptor & EntryBits.copied != 0 }
  /// Host byte offset of a cluster that is not compressed; 0 when there is none.
  var hostOffset: UInt64 { isCompressed ? 0 : descriptor & EntryBits.offset }
  var allocatedUnits: UInt32 { UInt32(truncatingIfNeeded: bitmap) }
  var zeroUnits: UInt32 { UInt32(truncatingIfNeeded: bitmap >> 32) }
}

/// Where a compressed cluster lies: any byte offset, length in 512-byte sectors.
struct CompressedPlace {
  var offset: UInt64
  /// Bytes to read; the last ones may be rubbish.
  var count: UInt64

  init(_ descriptor: UInt64, _ geometry: Qcow2Geometry) {
    let bits = geometry.compressedOffsetBits
    offset = descriptor & ((1 << bits) - 1)
    let sectors = (descriptor & ~EntryBits.copied & ~EntryBits.compressed) >> bits
    count = (sectors + 1) * 512 - (offset & 511)
  }

  /// The entry for `count` bytes at `offset`, which must fit the field.
  static func descriptor(offset: UInt64, count: UInt64, _ geometry: Qcow2Geometry) -> UInt64 {
    let sectors = ((offset + count - 1) >> 9) - (offset >> 9)
    return EntryBits.compressed | sectors << geometry.compressedOffsetBits | offset
  }

  /// The host clusters that the bytes touch.
  func hostClusters(_ geometry: Qcow2Geometry) -> ClosedRange<UInt64> {
    (offset >> geometry.clusterBits)...((offset + count - 1) >> geometry.clusterBits)
  }
}
