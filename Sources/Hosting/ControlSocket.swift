import CLinux
import Platform

/// Unix-domain stream sockets, non-blocking and closed on exec.
enum ControlSocket {
  /// The socket of a running machine's host.
  static func connect(_ path: String) throws(PlatformError) -> FileDescriptor {
    let socket = FileDescriptor(owning: try systemCall("socket", path) { linux_unix_socket() })
    let number = socket.rawValue
    try withShortPath(path) { (short) throws(PlatformError) in
      _ = try systemCall("connect", path) { linux_unix_connect(number, short) }
    }
    return socket
  }

  /// A socket that only this user can connect to. A stale one of a dead host is replaced: the caller holds the
  /// machine's lock.
  static func listen(
    _ path: String, access: ControlAccess = ControlAccess()
  ) throws(PlatformError) -> FileDescriptor {
    let socket = FileDescriptor(owning: try systemCall("socket", path) { linux_unix_socket() })
    let number = socket.rawValue
    unlink(path)
    // Whatever the folder's mode and the umask are: nobody can connect before `listen`, and then the mode is right.
    try withShortPath(path) { (short) throws(PlatformError) in
      _ = try systemCall("bind", path) { linux_unix_bind(number, short) }
    }
    _ = try systemCall("chmod", path) { chmod(path, 0o600) }
    access.open(path)
    _ = try systemCall("listen", path) { CLinux.listen(number, 64) }
    return socket
  }

  /// An address holds 107 bytes of path. Longer ones go through a descriptor of the folder.
  private static func withShortPath(
    _ path: String, _ body: (String) throws(PlatformError) -> Void
  ) throws(PlatformError) {
    guard path.utf8.count > 107, let slash = path.lastIndex(of: "/") else {
      return try body(path)
    }
    let folder = try FileDescriptor.open(String(path[..<slash]), O_RDONLY | O_DIRECTORY)
    try body("/proc/self/fd/\(folder.rawValue)\(path[slash...])")
  }

  /// User and group of the process at the other end.
  static func peer(_ descriptor: Int32) -> (user: UInt32, group: UInt32)? {
    var credentials = linux_peer_credentials()
    guard linux_get_peer_credentials(descriptor, &credentials) == 0 else { return nil }
    return (credentials.user, credentials.group)
  }

  /// The other groups of the process at the other end.
  static func peerGroups(_ descriptor: Int32) -> [UInt32] {
    // NGROUPS_MAX.
    var groups = [UInt32](repeating: 0, count: 65536)
    let count = linux_get_peer_groups(descriptor, &groups, Int32(groups.count))
    return Array(groups.prefix(Int(max(0, count))))
  }

  /// Reads what is there now into `buffer`.
  ///
  /// - Returns: nil when nothing is there; 0 at the end or on an error.
  static func receive(_ descriptor: Int32, into buffer: inout [UInt8]) -> Int? {
    while true {
      let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 { return count }
      let code = linux_error_number()
      if code == EINTR { continue }
      return code == EAGAIN ? nil : 0
    }
  }

  /// The same, and takes a descriptor that came along.
  ///
  /// - Returns: also for the caller to own: -1 where none came.
  static func receive(
    _ descriptor: Int32, into buffer: inout [UInt8], passed: inout Int32
  ) -> Int? {
    while true {
      let count = buffer.withUnsafeMutableBytes {
        linux_receive_with_descriptor(descriptor, $0.baseAddress, $0.count, &passed)
      }
      if count >= 0 { return count }
      let code = linux_error_number()
      if code == EINTR { continue }
      return code == EAGAIN ? nil : 0
    }
  }

  /// Waits until a descriptor is ready or a time of `MonotonicClock` has come.
  static func wait(_ descriptor: Int32, for events: Int32, until deadline: UInt64) -> Bool {
    while true {
      let now = MonotonicClock.now
      let milliseconds = deadline <= now ? 0 : (deadline - now + 999_999) / 1_000_000
      var request = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      let count = poll(&request, 1, Int32(clamping: milliseconds))
      if count > 0 { return true }
      if count < 0, linux_error_number() == EINTR { continue }
      if count < 0 || MonotonicClock.now >= deadline { return false }
    }
  }
}
