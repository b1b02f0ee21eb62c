// Names and attributes of files: what stat, chmod, mkdir, link, rename and unlink become.

import CLinux

extension NinePServer {
  /// Of the permissions a guest may set, all but set-user-ID and set-group-ID: files are the host user's, who did not ask
  /// for programs that run with his rights.
  static let modeBits: UInt32 = 0o1777

  private enum Attribute {
    static let basic: UInt64 = 0x7FF
    static let mode: UInt32 = 0x1
    static let owner: UInt32 = 0x2
    static let group: UInt32 = 0x4
    static let size: UInt32 = 0x8
    static let accessTime: UInt32 = 0x10
    static let changeTime: UInt32 = 0x20
    static let setsAccessTime: UInt32 = 0x80
    static let setsChangeTime: UInt32 = 0x100
  }

  func getAttributes(
    _ reader: inout NinePReader, _ body: inout [UInt8]
  ) throws(NinePError) {
    let facts = try file(&reader).facts()
    body.append(littleEndian: Attribute.basic)
    identity(facts).append(to: &body)
    body.append(littleEndian: facts.mode)
    body.append(littleEndian: facts.owner)
    body.append(littleEndian: facts.group)
    for number in [
      facts.links, facts.special_device, facts.size, facts.block_size, facts.blocks,
    ] { body.append(littleEndian: number) }
    for number in [
      facts.access_time, facts.access_nanoseconds, facts.change_time, facts.change_nanoseconds,
      facts.status_time, facts.status_nanoseconds,
    ] { body.append(littleEndian: number) }
    // Birth, generation and version are not told.
    for _ in 0..<4 { body.append(littleEndian: UInt64(0)) }
  }

  func setAttributes(_ reader: inout NinePReader) throws(NinePError) {
    let file = try file(&reader)
    let valid: UInt32 = try reader.number()
    let mode: UInt32 = try reader.number()
    let owner: UInt32 = try reader.number()
    let group: UInt32 = try reader.number()
    let size: UInt64 = try reader.number()
    var times: [UInt64] = []
    for _ in 0..<4 { times.append(try reader.number()) }
    try requireWritable()
    if valid & Attribute.size != 0 { try truncate(file, size) }
    if valid & (Attribute.owner | Attribute.group) != 0 {
      try change(file) { folder, name, flags in
        fchownat(
          folder, name, valid & Attribute.owner != 0 ? owner : .max,
          valid & Attribute.group != 0 ? group : .max, flags)
      }
    }
    if valid & Attribute.mode != 0 { try setMode(file, mode & Self.modeBits) }
    if valid & (Attribute.accessTime | Attribute.changeTime) != 0 {
      func time(_ bit: UInt32, _ setBit: UInt32, _ index: Int) -> (Int64, Int64) {
        guard valid & bit != 0 else { return (0, Int64(LINUX_UTIME_OMIT)) }
        guard valid & setBit != 0 else { return (0, Int64(LINUX_UTIME_NOW)) }
        return (
          Int64(truncatingIfNeeded: times[index]), Int64(times[index + 1] % 1_000_000_000)
        )
      }
      let access = time(Attribute.accessTime, Attribute.setsAccessTime, 0)
      let change = time(Attribute.changeTime, Attribute.setsChangeTime, 2)
      try self.change(file) { folder, name, _ in
        linux_change_times(folder, name, access.0, access.1, change.0, change.1)
      }
    }
  }

  /// Calls `body` with the folder and the name of a file, which follows no link.
  private func change(
    _ file: NinePFile, _ body: (Int32, UnsafePointer<CChar>, Int32) -> Int32
  ) throws(NinePError) {
    let result: Int32
    switch file.place {
    case .entry(let node, let name):
      result = try SharedFolderNode.with(name) {
        body(node.descriptor, $0, Int32(LINUX_AT_SYMLINK_NOFOLLOW))
      }
    case .folder(let node): result = body(node.descriptor, ".", Int32(LINUX_AT_SYMLINK_NOFOLLOW))
    }
    _ = try SharedFolderNode.check(result)
  }

  private func setMode(_ file: NinePFile, _ mode: UInt32) throws(NinePError) {
    do throws(NinePError) {
      try change(file) { folder, name, _ in linux_change_mode(folder, name, mode) }
    } catch {
      guard error.code == ENOSYS else { throw error }
      // A kernel before 6.6: by a descriptor.
      switch file.place {
      case .folder(let node): try setMode(try node.openEntries(), mode)
      case .entry(let node, let name):
        guard try node.facts(of: name).isRegular else {
          throw NinePError(EOPNOTSUPP)
        }
        try setMode(try node.open(name, O_RDONLY), mode)
      }
    }
  }

  private func setMode(_ descriptor: Int32, _ mode: UInt32) throws(NinePError) {
    defer { close(descriptor) }
    guard fchmod(descriptor, mode) == 0 else { throw NinePError(linux_error_number()) }
  }

  private func truncate(_ file: NinePFile, _ size: UInt64) throws(NinePError) {
    guard let length = Int(exactly: size) else { throw NinePError(EFBIG) }
    if file.descriptor >= 0, file.flags & O_ACCMODE != O_RDONLY {
      guard ftruncate(file.descriptor, length) == 0 else {
        throw NinePError(linux_error_number())
      }
      return
    }
    guard case .entry(let node, let name) = file.place,
      try node.facts(of: name).isRegular
    else { throw NinePError(EINVAL) }
    let descriptor = try node.open(name, O_WRONLY)
    defer { close(descriptor) }
    guard ftruncate(descriptor, length) == 0 else { throw NinePError(linux_error_number()) }
  }

  func statfs(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    _ = try file(&reader)
    var facts = linux_volume_facts()
    guard linux_take_volume_facts(folder.root.descriptor, &facts) == 0 else {
      throw NinePError(linux_error_number())
    }
    body.append(littleEndian: UInt32(0x0102_1997))
    body.append(littleEndian: UInt32(truncatingIfNeeded: facts.block_size))
    for number in [
      facts.blocks, facts.free, facts.available, facts.files, facts.free_files, 0,
    ] as [UInt64] { body.append(littleEndian: number) }
    body.append(littleEndian: UInt32(255))
  }

  // MARK: Entries

  func readLink(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    guard case .entry(let node, let name) = try file(&reader).place else {
      throw NinePError(EINVAL)
    }
    var buffer = [CChar](repeating: 0, count: 4096)
    let capacity = buffer.count
    let count = try SharedFolderNode.with(name) {
      readlinkat(node.descriptor, $0, &buffer, capacity)
    }
    guard count >= 0 else { throw NinePError(linux_error_number()) }
    body.append(text: buffer.prefix(count).map { UInt8(bitPattern: $0) })
  }

  func makeSymbolicLink(
    _ reader: inout NinePReader, _ body: inout [UInt8]
  ) throws(NinePError) {
    let node = try node(&reader)
    let name = try reader.text()
    let target = try reader.text()
    try requireWritable()
    guard !target.isEmpty, !target.contains(0), target.count < 4096 else {
      throw NinePError(EINVAL)
    }
    // What stands in it is for the guest: nobody here follows it.
    let text = (target + [0]).map { CChar(bitPattern: $0) }
    _ = try SharedFolderNode.check(
      try SharedFolderNode.with(name) { symlinkat(text, node.descriptor, $0) })
    identity(try node.facts(of: name)).append(to: &body)
  }

  /// Pipes, sockets and empty files; a device would be the host's.
  func makeNode(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let node = try node(&reader)
    let name = try reader.text()
    let mode: UInt32 = try reader.number()
    try requireWritable()
    let kind = mode & UInt32(LINUX_S_IFMT)
    guard [LINUX_S_IFIFO, LINUX_S_IFSOCK, LINUX_S_IFREG].contains(Int(kind)) else {
      throw NinePError(EPERM)
    }
    _ = try SharedFolderNode.check(
      try SharedFolderNode.with(name) {
        mknodat(node.descriptor, $0, kind | mode & Self.modeBits, 0)
      })
    identity(try node.facts(of: name)).append(to: &body)
  }

  func makeFolder(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let node = try node(&reader)
    let name = try reader.text()
    let mode = try reader.number(UInt32.self) & Self.modeBits
    try requireWritable()
    _ = try SharedFolderNode.check(
      try SharedFolderNode.with(name) { mkdirat(node.descriptor, $0, mode) })
    // The guest has applied its mask.
    if let made = try? node.open(name, O_RDONLY | Int32(LINUX_O_DIRECTORY)) {
      fchmod(made, mode)
      close(made)
    }
    identity(try node.facts(of: name)).append(to: &body)
  }

  func link(_ reader: inout NinePReader) throws(NinePError) {
    let node = try node(&reader)
    let source = try file(&reader)
    let name = try reader.text()
    try requireWritable()
    guard case .entry(let from, let old) = source.place else { throw NinePError(EPERM) }
    var result: Int32 = -1
    _ = try SharedFolderNode.with(old) { oldName in
      do throws(NinePError) {
        result = try SharedFolderNode.with(name) {
          linkat(from.descriptor, oldName, node.descriptor, $0, 0)
        }
      } catch {
        result = -2
      }
    }
    guard result != -2 else { throw NinePError(ENOENT) }
    _ = try SharedFolderNode.check(result)
  }

  func rename(_ reader: inout NinePReader) throws(NinePError) {
    let (from, old) = try file(&reader).entry()
    let to = try node(&reader)
    try rename(from, old, to, try reader.text())
  }

  func renameAt(_ reader: inout NinePReader) throws(NinePError) {
    let from = try node(&reader)
    let old = try reader.text()
    let to = try node(&reader)
    try rename(from, old, to, try reader.text())
  }

  private func rename(
    _ from: SharedFolderNode, _ old: [UInt8], _ to: SharedFolderNode, _ new: [UInt8]
  ) throws(NinePError) {
    try requireWritable()
    guard SharedFolderNode.isPlain(new) else { throw NinePError(EINVAL) }
    let newName = (new + [0]).map { CChar(bitPattern: $0) }
    _ = try SharedFolderNode.check(
      try SharedFolderNode.with(old) {
        linux_rename_at(from.descriptor, $0, to.descriptor, newName)
      })
    didRename(from, old, to, new)
  }

  func unlinkAt(_ reader: inout NinePReader) throws(NinePError) {
    let node = try node(&reader)
    let name = try reader.text()
    let flags = Int32(bitPattern: try reader.number(UInt32.self)) & Int32(LINUX_AT_REMOVEDIR)
    try unlink(node, name, flags)
  }

  private func unlink(
    _ node: SharedFolderNode, _ name: [UInt8], _ flags: Int32
  ) throws(NinePError) {
    try requireWritable()
    _ = try SharedFolderNode.check(
      try SharedFolderNode.with(name) { unlinkat(node.descriptor, $0, flags) })
  }

  /// The number is free afterwards, whatever becomes of the file.
  func remove(_ reader: inout NinePReader) throws(NinePError) {
    let number: UInt32 = try reader.number()
    guard let file = files.removeValue(forKey: number) else { throw NinePError(EBADF) }
    let (node, name) = try file.entry()
    if case .folder = file.place {
      try unlink(node, name, Int32(LINUX_AT_REMOVEDIR))
    } else {
      try unlink(node, name, 0)
    }
  }
}
