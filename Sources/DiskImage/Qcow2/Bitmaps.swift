// Persistent dirty bitmaps (format specification, "Bitmaps"). They belong to backup programs. Here nothing is recorded in
// them: those that record what is written say from the first write on that they missed something ("in use"), the others
// stay as they are, and their clusters stay counted.

/// The directory of bitmaps, in the order of the file.
struct BitmapDirectory {
  struct Entry {
    /// The bitmap's own table.
    var tableOffset: UInt64
    var tableEntries: UInt64
    /// The file offset of the flags.
    var flagsPlace: UInt64
    var flags: UInt32
  }
  /// Of the directory, and of all tables together.
  static let maximumBytes: UInt64 = 64 << 20
  static let inUse: UInt32 = 1 << 0
  /// Records writes, as soon as somebody who can opens the image.
  static let records: UInt32 = 1 << 1

  var offset: UInt64
  var byteCount: UInt64
  var entries: [Entry] = []

  /// Reads the directory.
  ///
  /// - Returns: nil when the image has no bitmaps that count.
  /// - Throws: `.corrupt` when the directory cannot be right.
  static func read(from storage: any ImageStorage, _ header: Qcow2Header) throws(DiskImageError)
    -> BitmapDirectory?
  {
    guard header.autoclear & Qcow2Header.bitmapsConsistent != 0,
      let data = header.extensions.first(where: { $0.kind == .bitmaps })?.data,
      let count = data.big(UInt32.self, at: 0), let size = data.big(UInt64.self, at: 8),
      let offset = data.big(UInt64.self, at: 16), count > 0
    else { return nil }
    func broken() -> DiskImageError {
      DiskImageError(
        .corrupt, storage.path, "has a directory of bitmaps that cannot be right", offset: offset)
    }
    guard size <= maximumBytes, count <= 65535, offset % header.clusterSize == 0,
      offset > 0, offset <= 1 << 56
    else { throw broken() }
    var directory = BitmapDirectory(offset: offset, byteCount: size)
    let bytes = try storage.readBytes(Int(size), at: offset)
    var position = 0
    var tableBytes: UInt64 = 0
    for _ in 0..<count {
      guard let table = bytes.big(UInt64.self, at: position),
        let entries = bytes.big(UInt32.self, at: position + 8),
        let flags = bytes.big(UInt32.self, at: position + 12),
        let name = bytes.big(UInt16.self, at: position + 18),
        let extra = bytes.big(UInt32.self, at: position + 20), entries <= 1 << 26,
        table % header.clusterSize == 0, table <= 1 << 56
      else { throw broken() }
      tableBytes += UInt64(entries) * 8
      guard tableBytes <= maximumBytes else { throw broken() }
      directory.entries.append(
        Entry(
          tableOffset: table, tableEntries: UInt64(entries),
          flagsPlace: offset + UInt64(position) + 12, flags: flags))
      position += (24 + Int(name) + Int(extra) + 7) & ~7
    }
    return directory
  }
}

extension Qcow2Image {
  /// Before the first write: bitmaps that should record it are marked as not to be believed.
  ///
  /// - Parameter all: Those that record nothing, too: the disk gets another size than they have.
  /// - Returns: Whether the image has bitmaps whose clusters count.
  func invalidateBitmaps(all: Bool) throws(DiskImageError) -> Bool {
    guard let directory = try BitmapDirectory.read(from: storage, header) else { return false }
    var changed = false
    for entry in directory.entries where entry.flags & BitmapDirectory.inUse == 0 {
      guard all || entry.flags & BitmapDirectory.records != 0 else { continue }
      var flags: [UInt8] = []
      flags.appendBig(entry.flags | BitmapDirectory.inUse)
      try storage.writeBytes(flags, at: entry.flagsPlace)
      changed = true
    }
    if changed { try storage.flush() }
    return true
  }
}
