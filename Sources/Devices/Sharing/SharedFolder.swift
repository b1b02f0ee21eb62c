// A folder of the host that a guest may use, and nothing beside it. Every file is named by the folder that it stands in
// and one name, which is no path: neither "..", nor a symbolic link, nor a change of the tree meanwhile leads out of it
// (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).

import CLinux
import Platform
import Synchronization

/// A folder and how a guest sees it.
public final class SharedFolder: Sendable {
  /// What the guest mounts, at most 32 bytes.
  public let tag: String
  public let path: String
  public let isWritable: Bool
  let root: SharedFolderNode

  /// - Throws: `PlatformError` when there is no such folder, or it cannot be opened.
  public init(_ path: String, tag: String, isWritable: Bool) throws(PlatformError) {
    self.path = path
    self.tag = tag
    self.isWritable = isWritable
    let flags = Int32(LINUX_O_PATH | LINUX_O_DIRECTORY) | O_CLOEXEC
    let number = try systemCall("open", path) { linux_open(path, flags, 0) }
    var facts = linux_file_facts()
    guard linux_descriptor_facts(number, &facts) == 0 else {
      let code = linux_error_number()
      close(number)
      throw PlatformError(operation: "fstat", code: code, subject: path)
    }
    root = SharedFolderNode(
      descriptor: number, identity: .init(facts), parent: nil, name: [])
  }
}

/// Which file it is.
struct FileIdentity: Hashable, Sendable {
  var device: UInt64
  var number: UInt64

  init(_ facts: linux_file_facts) {
    device = facts.device
    number = facts.number
  }
}

extension linux_file_facts {
  var isFolder: Bool { Int(mode) & LINUX_S_IFMT == LINUX_S_IFDIR }
  var isRegular: Bool { Int(mode) & LINUX_S_IFMT == LINUX_S_IFREG }
}

/// A folder in the tree, open for as long as something in it is known.
final class SharedFolderNode: @unchecked Sendable {
  // @unchecked: used by the thread of one device; the root alone outlives it, and does not change.
  let descriptor: Int32
  let identity: FileIdentity
  /// nil for the root.
  var parent: SharedFolderNode?
  /// In its parent.
  var name: [UInt8]

  init(descriptor: Int32, identity: FileIdentity, parent: SharedFolderNode?, name: [UInt8]) {
    self.descriptor = descriptor
    self.identity = identity
    self.parent = parent
    self.name = name
  }

  deinit { close(descriptor) }

  /// Names from the root to here.
  var path: [[UInt8]] {
    var names: [[UInt8]] = []
    var node = self
    while let parent = node.parent {
      names.append(node.name)
      node = parent
    }
    return names.reversed()
  }

  // MARK: What stands in it

  /// Whether it is one name, and none that has a meaning.
  static func isPlain(_ name: [UInt8]) -> Bool {
    !name.isEmpty && name.count <= 255 && !name.contains(0) && !name.contains(0x2F)
      && name != [0x2E] && name != [0x2E, 0x2E]
  }

  /// Calls `body` with a name as C has it.
  static func with<Result>(
    _ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Result
  ) throws(NinePError) -> Result {
    guard isPlain(name) else { throw NinePError(ENOENT) }
    return (name + [0]).withUnsafeBufferPointer { bytes in
      bytes.withMemoryRebound(to: CChar.self) { text in
        // Not empty: there is the zero.
        body(text.baseAddress.unsafelyUnwrapped)
      }
    }
  }

  static func check(_ result: Int32) throws(NinePError) -> Int32 {
    guard result >= 0 else { throw NinePError(linux_error_number()) }
    return result
  }

  /// Of the entry itself, also where it is a symbolic link.
  func facts(of name: [UInt8]) throws(NinePError) -> linux_file_facts {
    var facts = linux_file_facts()
    _ = try Self.check(try Self.with(name) { linux_entry_facts(descriptor, $0, &facts) })
    return facts
  }

  func facts() throws(NinePError) -> linux_file_facts {
    var facts = linux_file_facts()
    _ = try Self.check(linux_descriptor_facts(descriptor, &facts))
    return facts
  }

  /// Opens an entry, which must be no symbolic link.
  func open(_ name: [UInt8], _ flags: Int32, mode: UInt32 = 0) throws(NinePError) -> Int32 {
    // Nothing is opened, and the kernel takes no flags that mean nothing.
    let isPlace = flags & Int32(LINUX_O_PATH) != 0
    let extra = Int32(LINUX_O_NOFOLLOW) | (isPlace ? 0 : O_NONBLOCK | O_NOCTTY)
    return try Self.check(
      try Self.with(name) {
        linux_open_beneath(
          descriptor, $0, flags | extra, mode)
      })
  }

  /// Opens this folder for reading its entries.
  func openEntries() throws(NinePError) -> Int32 {
    try Self.check(linux_open_beneath(descriptor, ".", O_RDONLY | Int32(LINUX_O_DIRECTORY), 0))
  }
}
