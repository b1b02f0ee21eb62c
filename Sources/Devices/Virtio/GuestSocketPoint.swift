// Where programs of the host meet a guest's sockets: a Unix socket, and beside it those that programs have made for
// ports that the guest connects to. The way of Firecracker's `vsock` device, whose clients can be used here.

import CLinux
import Platform
import Synchronization

/// The Unix socket of one machine. It outlives resets of the guest.
public final class GuestSocketPoint: Sendable {
  /// What went through, for people.
  public struct Statistics: Sendable, Equatable {
    /// Now.
    public var connections = 0
    /// Since the start, in both directions.
    public var opened: UInt64 = 0
    /// Nobody listened, or there were too many.
    public var refused: UInt64 = 0
    /// Packets that no driver should send: each cost its connection at most.
    public var malformed: UInt64 = 0
    public var bytesToGuest: UInt64 = 0
    public var bytesFromGuest: UInt64 = 0
    public init() {}
  }

  public let path: String
  let listener: FileDescriptor
  /// The socket's folder: paths through it are short, whatever its own is.
  private let folder: FileDescriptor
  private let name: String
  private let isClosed = Atomic<Bool>(false)
  let counters = Mutex(Statistics())

  public var statistics: Statistics { counters.withLock { $0 } }

  /// Listens; only this user may connect.
  ///
  /// - Throws: when somebody else listens there, or something that is no socket is there.
  public init(path: String) throws(PlatformError) {
    self.path = path
    let slash = path.lastIndex(of: "/")
    let parent = slash.map { String(path[..<$0]) } ?? "."
    name = String(path[(slash.map { path.index(after: $0) } ?? path.startIndex)...])
    // The longest name that is connected to has "_4294967295" behind, and an address holds 107 bytes.
    guard !name.isEmpty, name.utf8.count <= 70 else {
      throw PlatformError(operation: "bind", code: ENAMETOOLONG, subject: path)
    }
    folder = try FileDescriptor.open(parent.isEmpty ? "/" : parent, O_RDONLY | O_DIRECTORY)
    listener = FileDescriptor(owning: try systemCall("socket", path) { linux_unix_socket() })
    let number = listener.rawValue
    let short = "/proc/self/fd/\(folder.rawValue)/\(name)"
    var information = stat()
    if lstat(short, &information) == 0 {
      // What a killed process left is replaced.
      guard information.st_mode & UInt32(S_IFMT) == UInt32(S_IFSOCK), !Self.answers(short) else {
        throw PlatformError(operation: "bind", code: EADDRINUSE, subject: path)
      }
      unlink(short)
    }
    // The mode of the socket becomes that of the file: at no time anybody else may connect.
    _ = try systemCall("fchmod", path) { fchmod(number, 0o600) }
    _ = try systemCall("bind", path) { linux_unix_bind(number, short) }
    _ = try systemCall("listen", path) { CLinux.listen(number, 64) }
  }

  deinit { close() }

  /// Takes the socket away. Harmless when it is done already.
  public func close() {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    unlink("/proc/self/fd/\(folder.rawValue)/\(name)")
  }

  private static func answers(_ path: String) -> Bool {
    let number = linux_unix_socket()
    guard number >= 0 else { return false }
    defer { CLinux.close(number) }
    return linux_unix_connect(number, path) == 0 || linux_error_number() == EAGAIN
  }

  /// The next client; nil with nothing or the reason of a failure.
  func accept() -> Result<Int32?, PlatformError> {
    let number = linux_accept4(
      listener.rawValue, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
    if number >= 0 { return .success(number) }
    let code = linux_error_number()
    return code == EAGAIN || code == EINTR || code == ECONNABORTED
      ? .success(nil) : .failure(PlatformError(operation: "accept", code: code, subject: path))
  }

  /// The program that serves `port` for this guest; nil when there is none, or it has too much to do.
  func connect(port: UInt32) -> Int32? {
    let number = linux_unix_socket()
    guard number >= 0 else { return nil }
    guard linux_unix_connect(number, "/proc/self/fd/\(folder.rawValue)/\(name)_\(port)") == 0 else {
      CLinux.close(number)
      return nil
    }
    return number
  }
}
