import CLinux
import Platform

/// Says that somebody works on a machine: its host process as long as it runs, or a command that changes its files.
///
/// A lock of the open file description (fcntl(2)) on `machines/NAME/lock`: the kernel drops it whatever way the holder
/// ends, it can be asked for without being taken, and it travels with the folder when a machine is renamed.
package struct MachineLock: ~Copyable, Sendable {
  /// Who holds it; the file's first word.
  package enum Role: String, Sendable {
    /// The machine runs.
    case host
    /// A command changes files for a moment.
    case change
    /// A command merges layers, which may take long and makes way for anybody.
    case merge
  }

  package struct Holder: Sendable, Equatable {
    package var role: Role
    /// The process that took it.
    package var process: Int32

    package init(role: Role, process: Int32) {
      self.role = role
      self.process = process
    }
  }

  private let file: FileDescriptor

  /// Takes the lock at once.
  ///
  /// - Throws: `InventoryError` of kind `running` or `busy` when somebody has it.
  package init(path: String, role: Role, machine: MachineName) throws(InventoryError) {
    self.init(owning: try Self.lockedFile(path: path, role: role, machine: machine))
  }

  private init(owning file: consuming FileDescriptor) {
    self.file = file
  }

  private static func lockedFile(
    path: String, role: Role, machine: MachineName
  ) throws(InventoryError) -> FileDescriptor {
    let file = try opened(path, machine)
    // A command holds the lock for milliseconds: wait for it; a host for as long as its machine runs: do not.
    let deadline = MonotonicClock.now &+ 2_000_000_000
    var dismissed: Int32 = 0
    while !(try lock(file.rawValue, path)) {
      let holder = content(file.rawValue)
      if let holder, holder.role == .merge, holder.process > 1, holder.process != dismissed {
        // It loses nothing, and goes on with the rest when it is asked to.
        dismissed = holder.process
        kill(holder.process, SIGTERM)
      }
      if let holder, holder.role == .host {
        throw InventoryError(
          .running, "\(machine): is running (host process \(holder.process)); stop it first")
      }
      guard MonotonicClock.now < deadline else {
        throw InventoryError(
          .busy, "\(machine): process \(holder?.process ?? 0) is changing it; try again")
      }
      usleep(2000)
    }
    var ours = stat()
    var named = stat()
    guard fstat(file.rawValue, &ours) == 0, stat(path, &named) == 0, ours.st_ino == named.st_ino
    else { throw InventoryError(.notFound, "\(machine): was deleted or renamed meanwhile") }
    let text = "\(role.rawValue) \(getpid())\n"
    _ = ftruncate(file.rawValue, 0)
    _ = text.utf8CString.withUnsafeBytes { pwrite(file.rawValue, $0.baseAddress, $0.count - 1, 0) }
    return file
  }

  private static func opened(
    _ path: String, _ machine: MachineName
  ) throws(InventoryError) -> FileDescriptor {
    do {
      return try FileDescriptor.open(path, O_RDWR | O_CREAT)
    } catch {
      if error.code == ENOENT { throw InventoryError(.notFound, "\(machine): no such machine") }
      throw InventoryError(error)
    }
  }

  private static func lock(_ descriptor: Int32, _ path: String) throws(InventoryError) -> Bool {
    var lock = wholeFile()
    if linux_fcntl_lock(descriptor, linux_lock_command_set(), &lock) == 0 { return true }
    let code = linux_error_number()
    if code == EAGAIN || code == EACCES || code == EINTR { return false }
    throw InventoryError(PlatformError(operation: "lock", code: code, subject: path))
  }

  deinit {
    // The next holder must not be taken for this one before it has written its own line.
    _ = ftruncate(file.rawValue, 0)
  }

  /// Who holds the lock now; nil when nobody does. Takes nothing.
  package static func holder(path: String) -> Holder? {
    guard let file = try? FileDescriptor.open(path, O_RDONLY) else { return nil }
    var lock = wholeFile()
    guard linux_fcntl_lock(file.rawValue, linux_lock_command_get(), &lock) == 0,
      lock.l_type != Int16(F_UNLCK)
    else { return nil }
    return content(file.rawValue) ?? Holder(role: .change, process: 0)
  }

  private static func wholeFile() -> flock {
    var lock = flock()
    lock.l_type = Int16(F_WRLCK)
    lock.l_whence = Int16(SEEK_SET)
    return lock
  }

  private static func content(_ descriptor: Int32) -> Holder? {
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    guard count > 0 else { return nil }
    let words = String(decoding: bytes[..<count], as: UTF8.self).split { $0 == " " || $0 == "\n" }
    guard words.count >= 2, let role = Role(rawValue: String(words[0])),
      let process = Int32(words[1])
    else { return nil }
    return Holder(role: role, process: process)
  }
}
