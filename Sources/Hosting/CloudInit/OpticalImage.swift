// A disc image with a few files in one folder: ISO 9660 (ECMA-119) with Joliet names, and with Rock Ridge (IEEE P1282)
// for systems that read no Joliet or prefer POSIX attributes.

/// Puts an image together in memory. The same files give the same bytes: all times are the same moment.
struct OpticalImage {
  struct File {
    /// As systems show it: letters, digits, `-`, `_` and dots, at most 64.
    var name: String
    var content: [UInt8]
  }

  static let sectorSize = 2048
  /// Sectors before the first volume descriptor.
  private static let systemArea = 16
  /// Primary, Joliet, end; then two path tables for each of the two trees.
  private static let pathTables = systemArea + 3
  private static let directories = pathTables + 4
  /// 1 January 2000, 00:00:00 UTC, in directories.
  private static let moment: [UInt8] = [100, 1, 1, 0, 0, 0, 0]

  private enum Tree: Equatable { case primary, joliet }

  private let label: String
  private let files: [File]
  /// The sector where each file begins.
  private var places: [Int] = []
  private var primarySectors = 1
  private var jolietSectors = 1

  /// - Parameter label: the volume's name, at most 16 characters.
  init(label: String, files: [File]) {
    self.label = String(label.prefix(16))
    self.files = files.sorted { $0.name < $1.name }
  }

  /// The whole image.
  mutating func bytes() -> [UInt8] {
    places = Array(repeating: 0, count: files.count)
    primarySectors = directory(.primary).count / Self.sectorSize
    jolietSectors = directory(.joliet).count / Self.sectorSize
    var next = Self.directories + primarySectors + jolietSectors
    for (index, file) in files.enumerated() {
      places[index] = next
      next += (file.content.count + Self.sectorSize - 1) / Self.sectorSize
    }
    var image = [UInt8](repeating: 0, count: Self.systemArea * Self.sectorSize)
    image += volume(.primary, sectors: next)
    image += volume(.joliet, sectors: next)
    image += Self.padded([255] + Array("CD001".utf8) + [1])
    for tree in [Tree.primary, .joliet] {
      for isBigEndian in [false, true] { image += Self.padded(pathTable(tree, isBigEndian)) }
    }
    image += directory(.primary)
    image += directory(.joliet)
    for file in files { image += Self.padded(file.content) }
    return image
  }

  private static func padded(_ bytes: [UInt8]) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: (sectorSize - bytes.count % sectorSize) % sectorSize)
  }

  private func root(_ tree: Tree) -> (sector: Int, sectors: Int) {
    tree == .primary
      ? (Self.directories, primarySectors)
      : (Self.directories + primarySectors, jolietSectors)
  }

  // MARK: Volumes

  /// A volume descriptor (ECMA-119, 8.4 and 8.5).
  private func volume(_ tree: Tree, sectors: Int) -> [UInt8] {
    func text(_ value: String, _ count: Int) -> [UInt8] {
      guard tree == .joliet else {
        return Array(value.utf8) + [UInt8](repeating: 0x20, count: count - value.utf8.count)
      }
      var bytes = Self.wide(value)
      while bytes.count + 1 < count { bytes += [0, 0x20] }
      return bytes + [UInt8](repeating: 0, count: count - bytes.count)
    }
    let table = Self.pathTables + (tree == .primary ? 0 : 2)
    var bytes: [UInt8] = [tree == .primary ? 1 : 2] + Array("CD001".utf8) + [1, 0]
    bytes += text("", 32) + text(label, 32)
    bytes += [UInt8](repeating: 0, count: 8) + Self.both32(sectors)
    // UCS-2, level 3, is what tells Joliet.
    bytes +=
      (tree == .joliet ? [0x25, 0x2F, 0x45] : [])
      + [UInt8](
        repeating: 0, count: tree == .joliet ? 29 : 32)
    bytes += Self.both16(1) + Self.both16(1) + Self.both16(Self.sectorSize)
    bytes += Self.both32(pathTable(tree, false).count)
    bytes += Self.little32(table) + Self.little32(0)
    bytes += Self.big32(table + 1) + Self.big32(0)
    bytes += record([0], at: root(tree).sector, size: root(tree).sectors * Self.sectorSize, true)
    bytes += text("", 128) + text("UNDERJACK", 128) + text("", 128) + text("UNDERJACK", 128)
    bytes += text("", 37) + text("", 37) + text("", 37)
    let time = Array("2000010100000000".utf8) + [0]
    let never = [UInt8](repeating: 0x30, count: 16) + [0]
    bytes += time + time + never + never + [1, 0]
    return Self.padded(bytes)
  }

  private func pathTable(_ tree: Tree, _ isBigEndian: Bool) -> [UInt8] {
    let sector = root(tree).sector
    return [1, 0] + (isBigEndian ? Self.big32(sector) + [0, 1] : Self.little32(sector) + [1, 0])
      + [0, 0]
  }

  // MARK: Folders

  private func directory(_ tree: Tree) -> [UInt8] {
    let own = root(tree)
    let size = own.sectors * Self.sectorSize
    let isPrimary = tree == .primary
    var records = [
      record([0], at: own.sector, size: size, true, isPrimary ? Self.rootAttributes : []),
      record([1], at: own.sector, size: size, true, isPrimary ? Self.attributes(0o40555, 2) : []),
    ]
    for (index, file) in files.enumerated() {
      let name = isPrimary ? Array(shortName(index).utf8) : Self.wide(file.name)
      let more =
        isPrimary
        ? Self.attributes(0o100444, 1)
          + [0x4E, 0x4D, UInt8(5 + file.name.utf8.count), 1, 0] + Array(file.name.utf8) : []
      records.append(record(name, at: places[index], size: file.content.count, false, more))
    }
    var bytes: [UInt8] = []
    for record in records {
      // No record crosses the end of a sector.
      if bytes.count % Self.sectorSize + record.count > Self.sectorSize {
        bytes = Self.padded(bytes)
      }
      bytes += record
    }
    return Self.padded(bytes)
  }

  /// Eight characters that every reader takes; the number keeps them apart and in order.
  private func shortName(_ index: Int) -> String {
    let letters = files[index].name.uppercased().unicodeScalars.filter {
      ("A"..."Z").contains($0) || ("0"..."9").contains($0)
    }
    let base = String(String.UnicodeScalarView(letters.prefix(6)))
    let number = index < 10 ? "0\(index)" : "\(index)"
    return "\(base.isEmpty ? "FILE" : base)\(number).;1"
  }

  /// ECMA-119, 9.1.
  private func record(
    _ name: [UInt8], at sector: Int, size: Int, _ isFolder: Bool, _ attributes: [UInt8] = []
  ) -> [UInt8] {
    var bytes: [UInt8] = [0, 0]
    bytes += Self.both32(sector) + Self.both32(size) + Self.moment
    bytes += [isFolder ? 2 : 0, 0, 0] + Self.both16(1) + [UInt8(name.count)] + name
    if name.count % 2 == 0 { bytes.append(0) }
    bytes += attributes
    if bytes.count % 2 == 1 { bytes.append(0) }
    bytes[0] = UInt8(bytes.count)
    return bytes
  }

  /// Mode, links, owner and group (P1282, 4.1.1).
  private static func attributes(_ mode: Int, _ links: Int) -> [UInt8] {
    [0x50, 0x58, 36, 1] + both32(mode) + both32(links) + both32(0) + both32(0)
  }

  /// That there are attributes (SUSP, 5.3), and of which kind (5.5).
  private static let rootAttributes: [UInt8] =
    [0x53, 0x50, 7, 1, 0xBE, 0xEF, 0] + attributes(0o40555, 2)
    + [0x45, 0x52, 18, 1, 10, 0, 0, 1] + Array("RRIP_1991A".utf8)

  // MARK: Numbers

  private static func wide(_ text: String) -> [UInt8] {
    text.utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
  }
  private static func little32(_ value: Int) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
  private static func big32(_ value: Int) -> [UInt8] { little32(value).reversed() }
  private static func both32(_ value: Int) -> [UInt8] { little32(value) + big32(value) }
  private static func both16(_ value: Int) -> [UInt8] {
    let little = Array(little32(value).prefix(2))
    return little + little.reversed()
  }
}
