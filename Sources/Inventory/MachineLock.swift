import CLinux
import Platform

/// Says that somebody works on a machine: its host process as long as it runs, or a command that changes its files.
///
/// A lock of the open file description (fcntl(2)) on `machines/NAME/lock`: the kernel drops it whatever way the holder
/// ends, it can be asked for without being taken, and it travels with the folder when a machine is renamed.
///
/// Who waits for it holds a shared lock on another byte meanwhile. A merge looks there and makes way: so no process has to
/// be ended for it, which may be a console with other work, or by now a stranger with the same number.
package struct MachineLock: ~Copyable, Sendable {
  /// Who holds it; the file's first word. The second is the process.
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
    let begin = MonotonicClock.now
    var isAsking = false
    while !(try lock(file.rawValue, path)) {
      let holder = content(file.rawValue)
      if let holder, holder.role == .host {
        throw InventoryError(
          .running, "\(machine): is running (host process \(holder.process)); stop it first")
      }
      // It loses nothing, and goes on with the rest when it is asked to; two merges do not push each other aside.
      let makesWay = holder?.role == .merge && role != .merge
      if makesWay && !isAsking { isAsking = ask(file.rawValue, true) }
      guard MonotonicClock.now &- begin < (makesWay ? patienceWithMerge : patience) else {
        let work = holder?.role == .merge ? "is merging its layers" : "is changing it"
        throw InventoryError(
          .busy, "\(machine): process \(holder?.process ?? 0) \(work); try again")
      }
      usleep(2000)
    }
    if isAsking { _ = ask(file.rawValue, false) }
    var ours = stat()
    var named = stat()
    guard fstat(file.rawValue, &ours) == 0, stat(path, &named) == 0, ours.st_ino == named.st_ino
    else { throw InventoryError(.notFound, "\(machine): was deleted or renamed meanwhile") }
    // A host that nobody can tell could not be stopped, so none starts on a full disk. Others are gone in a moment, and
    // one of them may be there to delete something.
    guard Self.write("\(role.rawValue) \(getpid())", to: file.rawValue) || role != .host else {
      throw InventoryError(
        PlatformError(operation: "write", code: linux_error_number(), subject: path))
    }
    return file
  }

  /// The file always has this many bytes, so that later holders need no space for their own line.
  private static let length = 32

  private static func write(_ text: String, to descriptor: Int32) -> Bool {
    var bytes = Array(text.utf8.prefix(length - 1))
    bytes += Array(repeating: UInt8(ascii: "\n"), count: length - bytes.count)
    return bytes.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) } == length
  }

  /// Nanoseconds that one waits for a command's end.
  private static let patience: UInt64 = 2_000_000_000
  /// A merge first makes durable what it has moved.
  private static let patienceWithMerge: UInt64 = 20_000_000_000

  /// Says that somebody waits for the lock, or no longer.
  private static func ask(_ descriptor: Int32, _ on: Bool) -> Bool {
    var lock = range(at: 1, on ? F_RDLCK : F_UNLCK)
    return linux_fcntl_lock(descriptor, linux_lock_command_set(), &lock) == 0
  }

  /// Runs `body` and, on another thread, `makeWay` once as soon as somebody waits for this lock.
  borrowing func watching<Answer>(
    _ makeWay: @escaping @Sendable () -> Void, _ body: () throws(InventoryError) -> Answer
  ) throws(InventoryError) -> Answer {
    let descriptor = file.rawValue
    // Without a descriptor or a thread nothing but the making way is lost.
    guard let end = try? EventNotifier(),
      let watch = try? PosixThread(
        name: "lock watch",
        {
          var event = pollfd(fd: end.rawDescriptor, events: Int16(POLLIN), revents: 0)
          while poll(&event, 1, 10) <= 0 {
            guard Self.isAskedFor(descriptor) else { continue }
            return makeWay()
          }
        })
    else { return try body() }
    defer {
      end.signal()
      watch.join()
    }
    return try body()
  }

  private static func isAskedFor(_ descriptor: Int32) -> Bool {
    var lock = range(at: 1, F_WRLCK)
    return linux_fcntl_lock(descriptor, linux_lock_command_get(), &lock) == 0
      && lock.l_type != Int16(F_UNLCK)
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
    var lock = range(at: 0, F_WRLCK)
    if linux_fcntl_lock(descriptor, linux_lock_command_set(), &lock) == 0 { return true }
    let code = linux_error_number()
    if code == EAGAIN || code == EACCES || code == EINTR { return false }
    throw InventoryError(PlatformError(operation: "lock", code: code, subject: path))
  }

  deinit {
    // The next holder must not be taken for this one before it has written its own line.
    if !Self.write("", to: file.rawValue) { _ = ftruncate(file.rawValue, 0) }
  }

  /// Who holds the lock now; nil when nobody does. Takes nothing.
  package static func holder(path: String) -> Holder? {
    guard let file = try? FileDescriptor.open(path, O_RDONLY) else { return nil }
    var lock = range(at: 0, F_WRLCK)
    guard linux_fcntl_lock(file.rawValue, linux_lock_command_get(), &lock) == 0,
      lock.l_type != Int16(F_UNLCK)
    else { return nil }
    return content(file.rawValue) ?? Holder(role: .change, process: 0)
  }

  /// One byte: the first is the lock, the second says that somebody waits.
  private static func range(at offset: Int, _ kind: Int32) -> flock {
    var lock = flock()
    lock.l_type = Int16(kind)
    lock.l_whence = Int16(SEEK_SET)
    lock.l_start = off_t(offset)
    lock.l_len = 1
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
