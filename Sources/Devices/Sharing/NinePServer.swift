// A server of 9P2000.L for one folder: what a guest's file system asks for, message by message.

import CLinux

/// Used by one thread at a time: the device's.
final class NinePServer {
  /// Largest message, in either direction.
  static let messageLimit: UInt32 = 512 << 10
  private static let smallestMessage: UInt32 = 4096
  private static let version = Array("9P2000.L".utf8)
  /// In front of an answer's data.
  static let dataOverhead = 11

  let folder: SharedFolder
  /// Files that the driver has numbers for. Each may hold a descriptor of this process's.
  var files: [UInt32: NinePFile] = [:]
  private let fileLimit: Int
  private(set) var messageSize = messageLimit
  /// Folders in use, so that each is there once.
  private var nodes: [FileIdentity: WeakNode] = [:]

  private struct WeakNode {
    weak var node: SharedFolderNode?
  }

  init(_ folder: SharedFolder) {
    self.folder = folder
    // The rest of the process needs descriptors, too.
    fileLimit = Int(min(max(linux_descriptor_limit() / 4, 64), 16_384))
  }

  /// Forgets all files.
  func reset(messageSize size: UInt32 = messageLimit) {
    files = [:]
    nodes = [:]
    messageSize = min(max(size, Self.smallestMessage), Self.messageLimit)
  }

  /// Answers a request. nil: it is none, and cannot be answered.
  func answer(_ request: [UInt8]) -> [UInt8]? {
    guard var reader = NinePReader(request) else { return nil }
    var body: [UInt8] = []
    var kind = reader.kind &+ 1
    do throws(NinePError) {
      guard let request = NinePRequest(rawValue: reader.kind) else {
        throw NinePError(EOPNOTSUPP)
      }
      try carryOut(request, &reader, &body)
    } catch {
      kind = NinePRequest.errorAnswer
      body = []
      body.append(littleEndian: UInt32(bitPattern: error.code))
    }
    var message: [UInt8] = []
    message.reserveCapacity(NinePReader.headerSize + body.count)
    message.append(littleEndian: UInt32(NinePReader.headerSize + body.count))
    message.append(kind)
    message.append(littleEndian: reader.tag)
    return message + body
  }

  private func carryOut(
    _ request: NinePRequest, _ reader: inout NinePReader, _ body: inout [UInt8]
  ) throws(NinePError) {
    switch request {
    case .version: try negotiate(&reader, &body)
    case .authenticate: throw NinePError(EOPNOTSUPP)
    case .attach: try attach(&reader, &body)
    // One request is answered after the other: this one's is answered already.
    case .flush: break
    case .walk: try walk(&reader, &body)
    case .clunk: try forget(&reader)
    case .walkAttribute, .createAttribute: throw NinePError(EOPNOTSUPP)
    case .statfs: try statfs(&reader, &body)
    case .getAttributes: try getAttributes(&reader, &body)
    case .setAttributes: try setAttributes(&reader)
    case .open: try open(&reader, &body)
    case .create: try create(&reader, &body)
    case .read: try read(&reader, &body)
    case .write: try write(&reader, &body)
    case .readFolder: try readFolder(&reader, &body)
    case .synchronize: try synchronize(&reader)
    case .lock: try lock(&reader, &body)
    case .getLock: try getLock(&reader, &body)
    case .readLink: try readLink(&reader, &body)
    case .symlink: try makeSymbolicLink(&reader, &body)
    case .makeNode: try makeNode(&reader, &body)
    case .makeFolder: try makeFolder(&reader, &body)
    case .link: try link(&reader)
    case .rename: try rename(&reader)
    case .renameAt: try renameAt(&reader)
    case .unlinkAt: try unlinkAt(&reader)
    case .remove: try remove(&reader)
    }
  }

  // MARK: Sessions

  private func negotiate(
    _ reader: inout NinePReader, _ body: inout [UInt8]
  ) throws(NinePError) {
    let size: UInt32 = try reader.number()
    let version = try reader.text()
    guard size >= Self.smallestMessage else { throw NinePError(EINVAL) }
    reset(messageSize: size)
    body.append(littleEndian: messageSize)
    body.append(text: version == Self.version ? version : Array("unknown".utf8))
  }

  private func attach(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let number: UInt32 = try reader.number()
    guard files[number] == nil else { throw NinePError(EBADF) }
    let file = NinePFile(node: folder.root)
    try add(file, number)
    identity(try folder.root.facts()).append(to: &body)
  }

  // MARK: Files

  func file(_ reader: inout NinePReader) throws(NinePError) -> NinePFile {
    guard let file = files[try reader.number()] else { throw NinePError(EBADF) }
    return file
  }

  /// A folder that is named by a number.
  func node(_ reader: inout NinePReader) throws(NinePError) -> SharedFolderNode {
    guard case .folder(let node) = try file(&reader).place else { throw NinePError(ENOTDIR) }
    return node
  }

  func requireWritable() throws(NinePError) {
    guard folder.isWritable else { throw NinePError(EROFS) }
  }

  func add(_ file: NinePFile, _ number: UInt32) throws(NinePError) {
    guard files[number] != nil || files.count < fileLimit else { throw NinePError(EMFILE) }
    files[number] = file
  }

  func identity(_ facts: linux_file_facts) -> NinePIdentity {
    let kind: UInt8 =
      switch Int(facts.mode) & LINUX_S_IFMT {
      case LINUX_S_IFDIR: NinePIdentity.folder
      case LINUX_S_IFLNK: NinePIdentity.symbolicLink
      default: 0
      }
    let identity = FileIdentity(facts)
    // Files of other file systems, mounted in the folder, have the same numbers again.
    let other = identity.device == folder.root.identity.device ? 0 : identity.device
    return NinePIdentity(
      kind: kind, number: identity.number ^ (other &* 0x9E37_79B9_7F4A_7C15))
  }

  private func walk(_ reader: inout NinePReader, _ body: inout [UInt8]) throws(NinePError) {
    let old: UInt32 = try reader.number()
    let new: UInt32 = try reader.number()
    let count: UInt16 = try reader.number()
    guard let file = files[old] else { throw NinePError(EBADF) }
    guard new == old || files[new] == nil else { throw NinePError(EBADF) }
    guard count <= 16 else { throw NinePError(EINVAL) }
    var place = file.place
    var identities: [NinePIdentity] = []
    for index in 0..<Int(count) {
      let name = try reader.text()
      do throws(NinePError) {
        let (next, facts) = try step(place, name)
        place = next
        identities.append(identity(facts))
      } catch {
        if index == 0 { throw error }
        break
      }
    }
    // Only a way that was gone to its end leads to a file.
    if identities.count == Int(count) { try add(NinePFile(place: place), new) }
    body.append(littleEndian: UInt16(identities.count))
    for identity in identities { identity.append(to: &body) }
  }

  /// One name further. Upwards only as far as the root.
  func step(
    _ place: NinePFile.Place, _ name: [UInt8]
  ) throws(NinePError) -> (NinePFile.Place, linux_file_facts) {
    guard case .folder(let node) = place else { throw NinePError(ENOTDIR) }
    if name == Array("..".utf8) {
      let parent = node.parent ?? node
      return (.folder(parent), try parent.facts())
    }
    let facts = try node.facts(of: name)
    guard facts.isFolder else { return (.entry(node, name), facts) }
    let child = try open(node, name)
    return (.folder(child), try child.facts())
  }

  /// A folder in a folder, the same object for the same one.
  private func open(
    _ node: SharedFolderNode, _ name: [UInt8]
  ) throws(NinePError) -> SharedFolderNode {
    let number = try node.open(name, Int32(LINUX_O_PATH | LINUX_O_DIRECTORY))
    var facts = linux_file_facts()
    guard linux_descriptor_facts(number, &facts) == 0 else {
      close(number)
      throw NinePError(EIO)
    }
    let identity = FileIdentity(facts)
    if let known = nodes[identity]?.node {
      close(number)
      if known.identity != folder.root.identity { (known.parent, known.name) = (node, name) }
      return known
    }
    if nodes.count > 4 * fileLimit { nodes = nodes.filter { $0.value.node != nil } }
    let child = SharedFolderNode(
      descriptor: number, identity: identity, parent: node, name: name)
    nodes[identity] = WeakNode(node: child)
    return child
  }

  private func forget(_ reader: inout NinePReader) throws(NinePError) {
    guard files.removeValue(forKey: try reader.number()) != nil else { throw NinePError(EBADF) }
  }

  /// An entry has another name now: files that are known by the old one follow.
  func didRename(
    _ from: SharedFolderNode, _ name: [UInt8], _ to: SharedFolderNode, _ newName: [UInt8]
  ) {
    for file in files.values {
      switch file.place {
      case .entry(let node, let old) where node === from && old == name:
        file.place = .entry(to, newName)
      case .folder(let node) where node.parent === from && node.name == name:
        (node.parent, node.name) = (to, newName)
      default: break
      }
    }
    for case let node? in nodes.values.map(\.node) where node.parent === from && node.name == name {
      (node.parent, node.name) = (to, newName)
    }
  }
}

/// A file that the driver has a number for.
final class NinePFile {
  enum Place {
    case folder(SharedFolderNode)
    /// Anything else in a folder.
    case entry(SharedFolderNode, [UInt8])
  }

  var place: Place
  /// -1: not open.
  var descriptor: Int32 = -1
  /// What it was opened with.
  var flags: Int32 = 0
  /// Where reading a folder goes on without a seek.
  var folderOffset: UInt64 = 0

  init(place: Place) { self.place = place }
  convenience init(node: SharedFolderNode) { self.init(place: .folder(node)) }

  deinit { if descriptor >= 0 { close(descriptor) } }

  func facts() throws(NinePError) -> linux_file_facts {
    if descriptor >= 0 {
      var facts = linux_file_facts()
      guard linux_descriptor_facts(descriptor, &facts) == 0 else {
        throw NinePError(linux_error_number())
      }
      return facts
    }
    switch place {
    case .folder(let node): return try node.facts()
    case .entry(let node, let name): return try node.facts(of: name)
    }
  }

  func openDescriptor() throws(NinePError) -> Int32 {
    guard descriptor >= 0 else { throw NinePError(EBADF) }
    return descriptor
  }

  /// The folder that it stands in, and its name there.
  func entry() throws(NinePError) -> (SharedFolderNode, [UInt8]) {
    switch place {
    case .entry(let node, let name): return (node, name)
    case .folder(let node):
      guard let parent = node.parent else { throw NinePError(EBUSY) }
      return (parent, node.name)
    }
  }
}
