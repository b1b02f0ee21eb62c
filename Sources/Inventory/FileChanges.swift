import CLinux
import Platform
import Synchronization

/// Every change that the inventory makes on disk goes through here, so that durability is in one place, and a test
/// can let the process 'die' before any single step.
package final class FileChanges: Sendable {
  /// Called before each step with its name; a throw stands for the process's death at that point.
  package typealias Gate = @Sendable (String) throws(InventoryError) -> Void
  private let gate: Gate?

  package init(gate: Gate? = nil) {
    self.gate = gate
  }

  package func step(_ name: @autoclosure () -> String) throws(InventoryError) {
    if let gate { try gate(name()) }
  }

  /// Replaces or makes a file in one step: after a crash it holds either the old or the new content.
  ///
  /// - Parameter isLasting: false: after a power cut, as against the end of a process, the file may also be as it was, or
  ///   empty, until `makeLasting`.
  package func write(
    _ text: String, to path: String, mode: UInt32 = 0o600, isLasting: Bool = true
  ) throws(InventoryError) {
    try write(Array(text.utf8), to: path, mode: mode, isLasting: isLasting)
  }

  /// The same for any bytes.
  package func write(
    _ content: [UInt8], to path: String, mode: UInt32 = 0o600, isLasting: Bool = true
  ) throws(InventoryError) {
    let temporary = "\(path).\(UInt32.random(in: .min ... .max)).tmp"
    var isRenamed = false
    defer { if !isRenamed, (try? step("discard \(temporary)")) != nil { unlink(temporary) } }
    try step("create \(temporary)")
    let file = try platform { () throws(PlatformError) in
      try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: mode)
    }
    try step("write \(temporary)")
    var bytes = content[...]
    while !bytes.isEmpty {
      let count = try platform { () throws(PlatformError) in
        let number = file.rawValue
        return try systemCall("write", temporary) {
          bytes.withUnsafeBytes { CLinux.write(number, $0.baseAddress, $0.count) }
        }
      }
      bytes = bytes.dropFirst(count)
    }
    if isLasting {
      try step("fsync \(temporary)")
      let number = file.rawValue
      try platform { () throws(PlatformError) in
        _ = try systemCall("fsync", temporary) { fsync(number) }
      }
    }
    try step("rename \(path)")
    try platform { () throws(PlatformError) in
      _ = try systemCall("rename", path) { rename(temporary, path) }
    }
    isRenamed = true
    if isLasting { try synchronizeFolder(of: path) }
  }

  /// Makes a file that is there, and its name, last through a power cut.
  package func makeLasting(_ path: String) throws(InventoryError) {
    try step("fsync \(path)")
    try platform { () throws(PlatformError) in
      let file = try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW)
      let number = file.rawValue
      _ = try systemCall("fsync", path) { fsync(number) }
    }
    try synchronizeFolder(of: path)
  }

  /// Puts a file in the place of another one in one step. Lasts through a power cut after `synchronizeFolder`.
  package func replace(_ path: String, by replacement: String) throws(InventoryError) {
    try step("rename \(path)")
    try platform { () throws(PlatformError) in
      _ = try systemCall("rename", path) { rename(replacement, path) }
    }
  }

  /// Makes a folder and those above it.
  package func makeFolder(_ path: String, mode: UInt32 = 0o700) throws(InventoryError) {
    if mkdirIfMissing(path, mode) { return }
    guard linux_error_number() == ENOENT, let slash = path.lastIndex(of: "/"),
      slash != path.startIndex
    else {
      throw InventoryError(
        PlatformError(operation: "mkdir", code: linux_error_number(), subject: path))
    }
    try makeFolder(String(path[..<slash]), mode: mode)
    try step("mkdir \(path)")
    guard mkdirIfMissing(path, mode) else {
      throw InventoryError(
        PlatformError(operation: "mkdir", code: linux_error_number(), subject: path))
    }
    try synchronizeFolder(of: path)
  }

  private func mkdirIfMissing(_ path: String, _ mode: UInt32) -> Bool {
    var information = stat()
    if stat(path, &information) == 0, information.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR) {
      return true
    }
    return mkdir(path, mode) == 0
  }

  /// Gives a file or folder another name in one step; an existing target is never replaced.
  ///
  /// - Parameter isLasting: false: after a power cut it may have the old name, until `synchronizeFolder`.
  /// - Returns: false when the target exists.
  package func move(
    _ path: String, to target: String, isLasting: Bool = true
  ) throws(InventoryError) -> Bool {
    try step("move \(target)")
    let flags = linux_rename_noreplace()
    if linux_renameat2(AT_FDCWD, path, AT_FDCWD, target, flags) != 0 {
      let code = linux_error_number()
      if code == EEXIST || code == ENOTEMPTY { return false }
      throw InventoryError(PlatformError(operation: "rename", code: code, subject: path))
    }
    if isLasting { try synchronizeFolder(of: target) }
    return true
  }

  package func removeFile(_ path: String) throws(InventoryError) {
    try step("unlink \(path)")
    if unlink(path) != 0, linux_error_number() != ENOENT {
      throw InventoryError(
        PlatformError(operation: "unlink", code: linux_error_number(), subject: path))
    }
  }

  /// Removes a folder with everything in it; never follows symbolic links.
  package func removeTree(_ path: String) throws(InventoryError) {
    var information = stat()
    guard lstat(path, &information) == 0 else { return }
    guard information.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR) else {
      return try removeFile(path)
    }
    for entry in try FileReading.entries(of: path) { try removeTree("\(path)/\(entry)") }
    try step("rmdir \(path)")
    if rmdir(path) != 0, linux_error_number() != ENOENT {
      throw InventoryError(
        PlatformError(operation: "rmdir", code: linux_error_number(), subject: path))
    }
  }

  /// Makes names that were made or changed in the folder of `path` last through a power cut.
  package func synchronizeFolder(of path: String) throws(InventoryError) {
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    try step("fsync folder \(folder)")
    try platform { () throws(PlatformError) in
      let descriptor = try FileDescriptor.open(
        folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY)
      let number = descriptor.rawValue
      _ = try systemCall("fsync", folder) { fsync(number) }
    }
  }
}
