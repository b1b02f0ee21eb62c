// Changing what the header says about the backing file, and emptying an overlay.

extension Qcow2Image {
  /// Lets the image name another parent, or none. Everything that the image needs of its own is written first.
  ///
  /// The image goes on with the parent that it has open until it is closed.
  func setBacking(_ parent: (path: String, format: DiskFormat)?) throws(DiskImageError) {
    try requireWritable()
    if parent != nil && header.dataIsRaw {
      throw DiskImageError(.invalid, path, "cannot have a backing file: its data file is raw")
    }
    try exclusively { () throws(DiskImageError) in
      try settle()
      var new = header
      new.backingName = parent?.path
      new.setText(.backingFormat, parent?.format.rawValue)
      let bytes = try encodedBesides(new)
      // First what the old header does not use: the new name, and extensions that now reach further. Then the first
      // sector, all at once: it holds what points to the name, and the format.
      try storage.writeBytes(Array(bytes.dropFirst(512)), at: 512)
      try storage.flush()
      try storage.writeBytes(Array(bytes.prefix(512)), at: 0)
      try storage.flush()
      header = new
    }
  }

  /// The new header, its name behind everything of the old one if there is room.
  private func encodedBesides(_ new: Qcow2Header) throws(DiskImageError) -> [UInt8] {
    let end = try header.encoded(path: path).count
    let old = try storage.readBytes(20, at: 0)
    let name = (old.big(UInt64.self, at: 8) ?? 0) + UInt64(old.big(UInt32.self, at: 16) ?? 0)
    let first = (max(end, Int(clamping: min(name, geometry.clusterSize))) + 7) & ~7
    do throws(DiskImageError) {
      return try new.encoded(path: path, nameFrom: first)
    } catch {
      return try new.encoded(path: path)
    }
  }

  /// Gives up every cluster: all of the disk shows the backing file. Internal snapshots keep theirs.
  func dropEverything() throws(DiskImageError) {
    try requireWritable()
    try exclusively { () throws(DiskImageError) in
      try dropMappings(from: 0, to: size.roundedUp(to: geometry.unit))
      try settle()
    }
  }
}
