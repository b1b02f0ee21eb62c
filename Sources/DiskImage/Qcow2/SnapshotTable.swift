// The table of internal snapshots, as it is in the file (format specification, "Snapshots").

/// One internal snapshot.
public struct Qcow2Snapshot: Sendable, Equatable {
  /// A number as text, unique in the image.
  public var identifier: String { String(decoding: identifierBytes, as: UTF8.self) }
  public var name: String { String(decoding: nameBytes, as: UTF8.self) }
  /// As in the file: at most 65535 bytes, and not always text.
  var identifierBytes: [UInt8]
  var nameBytes: [UInt8]
  /// Seconds and nanoseconds since 1970.
  public var seconds: UInt32 = 0
  public var nanoseconds: UInt32 = 0
  /// Nanoseconds that the guest had run.
  public var machineClock: UInt64 = 0
  /// Bytes of saved machine state behind the disk; 0 when there is none.
  public var machineStateSize: UInt64 = 0
  /// The size of the disk when the snapshot was taken, in bytes.
  public var diskSize: UInt64
  /// Instructions executed (record and replay), or nil.
  public var instructionCount: UInt64?

  var l1Offset: UInt64
  var l1Size: UInt32
  /// Extra data behind what we know; kept.
  var unknownExtra: [UInt8] = []
}

/// All snapshots of an image.
struct SnapshotTable {
  static let maximumBytes = 64 << 20
  static let maximumExtra = 1024
  var entries: [Qcow2Snapshot] = []
  /// Bytes that the table takes in the file.
  var byteCount: UInt64 = 0

  /// Reads the table in pieces: its length is known only at its end.
  static func read(from storage: any ImageStorage, _ header: Qcow2Header) throws(DiskImageError)
    -> SnapshotTable
  {
    var table = SnapshotTable()
    guard header.snapshotCount > 0 else { return table }
    var reader = SnapshotTableReader(storage: storage, start: header.snapshotsOffset)
    for _ in 0..<header.snapshotCount {
      table.entries.append(try reader.next(header))
    }
    table.byteCount = reader.position - reader.start
    return table
  }

  /// The bytes of the table.
  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    for snapshot in entries {
      let identifier = snapshot.identifierBytes
      let name = snapshot.nameBytes
      bytes.appendBig(snapshot.l1Offset)
      bytes.appendBig(snapshot.l1Size)
      bytes.appendBig(UInt16(identifier.count))
      bytes.appendBig(UInt16(name.count))
      bytes.appendBig(snapshot.seconds)
      bytes.appendBig(snapshot.nanoseconds)
      bytes.appendBig(snapshot.machineClock)
      bytes.appendBig(UInt32(clamping: snapshot.machineStateSize))
      bytes.appendBig(UInt32(24 + snapshot.unknownExtra.count))
      bytes.appendBig(snapshot.machineStateSize)
      bytes.appendBig(snapshot.diskSize)
      bytes.appendBig(snapshot.instructionCount ?? UInt64.max)
      bytes += snapshot.unknownExtra
      bytes += identifier
      bytes += name
      bytes += [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
    }
    return bytes
  }
}

/// Walks over a table of unknown length.
private struct SnapshotTableReader {
  let storage: any ImageStorage
  let start: UInt64
  var position: UInt64
  private var buffer: [UInt8] = []
  private var bufferStart: UInt64 = 0

  init(storage: any ImageStorage, start: UInt64) {
    self.storage = storage
    self.start = start
    position = start
  }

  private mutating func take(_ count: Int) throws(DiskImageError) -> [UInt8] {
    guard position - start + UInt64(count) <= UInt64(SnapshotTable.maximumBytes) else {
      throw DiskImageError(
        .corrupt, storage.path, "has a snapshot table of more than 64 MiB", offset: start)
    }
    if buffer.isEmpty || position < bufferStart
      || position + UInt64(count) > bufferStart + UInt64(buffer.count)
    {
      bufferStart = position
      buffer = try storage.readBytes(max(count, 1 << 16), at: position)
    }
    defer { position += UInt64(count) }
    let from = Int(position - bufferStart)
    return Array(buffer[from..<from + count])
  }

  mutating func next(_ header: Qcow2Header) throws(DiskImageError) -> Qcow2Snapshot {
    let place = position
    let fixed = try take(40)
    func field<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type, _ offset: Int) -> T {
      fixed.big(type, at: offset) ?? 0
    }
    let extraSize = Int(field(UInt32.self, 36))
    guard extraSize <= SnapshotTable.maximumExtra else {
      throw DiskImageError(
        .corrupt, storage.path, "has a snapshot with \(extraSize) bytes of extra data",
        offset: place)
    }
    let extra = try take(extraSize)
    let identifier = try take(Int(field(UInt16.self, 12)))
    let name = try take(Int(field(UInt16.self, 14)))
    position = start + (position - start).roundedUp(to: 8)
    var snapshot = Qcow2Snapshot(
      identifierBytes: identifier, nameBytes: name, diskSize: header.size,
      l1Offset: field(UInt64.self, 0), l1Size: field(UInt32.self, 8))
    snapshot.seconds = field(UInt32.self, 16)
    snapshot.nanoseconds = field(UInt32.self, 20)
    snapshot.machineClock = field(UInt64.self, 24)
    snapshot.machineStateSize = extra.big(UInt64.self, at: 0) ?? UInt64(field(UInt32.self, 32))
    snapshot.diskSize = extra.big(UInt64.self, at: 8) ?? header.size
    if let count = extra.big(UInt64.self, at: 16), count != UInt64.max {
      snapshot.instructionCount = count
    }
    if extraSize > 24 { snapshot.unknownExtra = Array(extra[24...]) }
    try validate(snapshot, header, place)
    return snapshot
  }

  private func validate(_ snapshot: Qcow2Snapshot, _ header: Qcow2Header, _ place: UInt64)
    throws(DiskImageError)
  {
    guard snapshot.l1Offset % header.clusterSize == 0, snapshot.l1Offset <= 1 << 56,
      UInt64(snapshot.l1Size) * 8 <= Qcow2Header.maximumL1Bytes
    else {
      throw DiskImageError(
        .corrupt, storage.path, "has a snapshot '\(snapshot.name)' with a broken L1 table",
        offset: place)
    }
    guard snapshot.diskSize <= UInt64(Int64.max) else {
      throw DiskImageError(
        .corrupt, storage.path, "has a snapshot '\(snapshot.name)' of \(snapshot.diskSize) bytes",
        offset: place)
    }
  }
}
