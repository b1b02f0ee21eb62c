// Content of files and folders: open, read, write, locks.

import CLinux

extension NinePServer {
  /// What a guest may open files with; the rest is between it and its own cache.
  private static let openFlags =
    O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC | Int32(LINUX_O_DIRECTORY)

  func open(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let file = try file(&reader)
    let flags = Int32(bitPattern: try reader.number(UInt32.self)) & Self.openFlags
    guard file.descriptor < 0 else { throw NinePError(EBADF) }
    try open(file, flags)
    identity(try file.facts()).append(to: &body)
    // As large as messages allow.
    body.append(littleEndian: UInt32(0))
  }

  func open(_ file: NinePFile, _ flags: Int32) throws(NinePError) {
    if flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0 { try requireWritable() }
    switch file.place {
    case .folder(let node): file.descriptor = try node.openEntries()
    case .entry(let node, let name):
      // Pipes and devices are the guest's own.
      guard try node.facts(of: name).isRegular else { throw NinePError(EINVAL) }
      file.descriptor = try node.open(name, flags)
    }
    file.flags = flags & ~O_TRUNC
  }

  func create(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let file = try file(&reader)
    let name = try reader.text()
    let asked = Int32(bitPattern: try reader.number(UInt32.self))
    let mode = try reader.number(UInt32.self) & Self.modeBits
    try requireWritable()
    guard case .folder(let node) = file.place, file.descriptor < 0 else {
      throw NinePError(EBADF)
    }
    let flags = asked & Self.openFlags & ~Int32(LINUX_O_DIRECTORY)
    do throws(NinePError) {
      let descriptor = try node.open(name, flags | O_CREAT | O_EXCL, mode: mode)
      // The guest has applied its mask; this process's is none of its business.
      fchmod(descriptor, mode)
      file.descriptor = descriptor
      file.place = .entry(node, name)
      file.flags = flags & ~O_TRUNC
    } catch {
      guard error.code == EEXIST, asked & O_EXCL == 0 else { throw error }
      let existing = NinePFile(place: .entry(node, name))
      try open(existing, flags)
      file.descriptor = existing.descriptor
      existing.descriptor = -1
      file.place = existing.place
      file.flags = existing.flags
    }
    identity(try file.facts()).append(to: &body)
    body.append(littleEndian: UInt32(0))
  }

  func read(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let descriptor = try file(&reader).openDescriptor()
    let offset: UInt64 = try reader.number()
    let wanted: UInt32 = try reader.number()
    guard let place = Int(exactly: offset) else { throw NinePError(EINVAL) }
    let count = min(Int(wanted), Int(messageSize) - Self.dataOverhead)
    var result = 0
    let data = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      repeat {
        result = pread(descriptor, buffer.baseAddress, count, place)
      } while result < 0 && linux_error_number() == EINTR
      filled = max(result, 0)
    }
    guard result >= 0 else { throw NinePError(linux_error_number()) }
    body.reserveCapacity(4 + data.count)
    body.append(littleEndian: UInt32(data.count))
    body += data
  }

  func write(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let descriptor = try file(&reader).openDescriptor()
    let offset: UInt64 = try reader.number()
    let count: UInt32 = try reader.number()
    let data = try reader.data(Int(count))
    try requireWritable()
    guard let place = Int(exactly: offset) else { throw NinePError(EINVAL) }
    var result = 0
    repeat {
      result = data.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, place) }
    } while result < 0 && linux_error_number() == EINTR
    guard result >= 0 else { throw NinePError(linux_error_number()) }
    body.append(littleEndian: UInt32(result))
  }

  func synchronize(_ reader: inout NinePReader) throws(NinePError) {
    let descriptor = try file(&reader).openDescriptor()
    guard fsync(descriptor) == 0 else { throw NinePError(linux_error_number()) }
  }

  // MARK: Folders

  private static let entryBufferSize = 32 << 10

  /// Entries as the host has them: number, next offset, length of the record, kind, name (getdents64(2)).
  func readFolder(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let file = try file(&reader)
    let offset: UInt64 = try reader.number()
    let wanted: UInt32 = try reader.number()
    let descriptor = try file.openDescriptor()
    guard case .folder = file.place else { throw NinePError(ENOTDIR) }
    if offset != file.folderOffset {
      guard let place = Int(exactly: offset), lseek(descriptor, place, SEEK_SET) >= 0 else {
        throw NinePError(EINVAL)
      }
      file.folderOffset = offset
    }
    let limit = min(Int(wanted), Int(messageSize) - Self.dataOverhead)
    var entries: [UInt8] = []
    var count = 0
    let records = [UInt8](unsafeUninitializedCapacity: Self.entryBufferSize) { buffer, filled in
      guard let start = buffer.baseAddress else { return }
      count = linux_read_entries(descriptor, start, UInt32(Self.entryBufferSize))
      filled = max(count, 0)
    }
    guard count >= 0 else { throw NinePError(linux_error_number()) }
    var position = 0
    while position + 19 <= records.count {
      func number(_ start: Int, _ size: Int) -> UInt64 {
        (0..<size).reduce(0) { $0 | UInt64(records[position + start + $1]) << UInt64(8 * $1) }
      }
      let length = Int(number(16, 2))
      guard length >= 19, position + length <= records.count else { break }
      let name = Array(records[position + 19..<position + length].prefix { $0 != 0 })
      guard entries.count + NinePIdentity.size + 11 + name.count <= limit else { break }
      let kind = records[position + 18]
      let next = number(8, 8)
      let mark: UInt8 =
        kind == 4 ? NinePIdentity.folder : kind == 10 ? NinePIdentity.symbolicLink : 0
      NinePIdentity(kind: mark, number: number(0, 8)).append(to: &entries)
      entries.append(littleEndian: next)
      entries.append(kind)
      entries.append(text: name)
      file.folderOffset = next
      position += length
    }
    if position < records.count {
      // What had no room is read again.
      _ = lseek(descriptor, Int(truncatingIfNeeded: file.folderOffset), SEEK_SET)
    }
    body.append(littleEndian: UInt32(entries.count))
    body += entries
  }

  // MARK: Locks

  /// Kinds of locks in the protocol, in the order of its numbers.
  private static let lockKinds: [Int32] = [F_RDLCK, F_WRLCK, F_UNLCK]

  func lock(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let descriptor = try file(&reader).openDescriptor()
    let kind: UInt8 = try reader.number()
    _ = try reader.number(UInt32.self)
    var start: UInt64 = try reader.number()
    var length: UInt64 = try reader.number()
    guard Int(kind) < Self.lockKinds.count else { throw NinePError(EINVAL) }
    var type = Int16(Self.lockKinds[Int(kind)])
    // Blocking is the guest's business: it asks again.
    if linux_description_lock(descriptor, 0, &type, &start, &length) == 0 {
      body.append(0)
    } else {
      let code = linux_error_number()
      guard code == EAGAIN || code == EACCES else { throw NinePError(code) }
      body.append(1)
    }
  }

  func getLock(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let descriptor = try file(&reader).openDescriptor()
    let kind: UInt8 = try reader.number()
    var start: UInt64 = try reader.number()
    var length: UInt64 = try reader.number()
    let process: UInt32 = try reader.number()
    let client = try reader.text()
    guard Int(kind) < Self.lockKinds.count else { throw NinePError(EINVAL) }
    var type = Int16(Self.lockKinds[Int(kind)])
    guard linux_description_lock(descriptor, 1, &type, &start, &length) == 0 else {
      throw NinePError(linux_error_number())
    }
    body.append(UInt8(Self.lockKinds.firstIndex(of: Int32(type)) ?? 2))
    body.append(littleEndian: start)
    body.append(littleEndian: length)
    body.append(littleEndian: process)
    body.append(text: client)
  }
}
