// Sockets of the stream back end: Unix, or TCP on the loopback address.

import CLinux
import Devices
import Platform

/// Where the two ends of a stream meet.
public enum StreamAddress: Sendable, Codable, Equatable, CustomStringConvertible {
  /// A Unix socket.
  case file(String)
  /// TCP; within 127.0.0.0/8, because frames come and go unprotected.
  case loopback(IPv4Address, UInt16)

  /// `/run/peer` or `127.0.0.1:5555`; nil when it is neither.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count == 2, let address = IPv4Address(parts[0]) {
      guard address.value >> 24 == 127, let port = UInt16(parts[1]), port > 0,
        parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) })
      else { return nil }
      self = .loopback(address, port)
      return
    }
    guard !text.isEmpty, text.utf8.count <= 4096, !text.contains(","),
      text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else { return nil }
    self = .file(text)
  }

  public var description: String {
    switch self {
    case .file(let path): path
    case .loopback(let address, let port): "\(address):\(port)"
    }
  }
}

/// What begins and awaits connections. No socket here ever blocks.
enum StreamSocket {
  /// Begins a connection.
  ///
  /// - Returns: the socket; `isPending`: it is connected or failed when it becomes writable.
  static func connect(
    _ address: StreamAddress
  ) throws(PlatformError) -> (socket: SharedDescriptor, isPending: Bool) {
    let name = address.description
    let socket: SharedDescriptor
    let code: Int32
    switch address {
    case .file(let path):
      socket = SharedDescriptor(owning: try systemCall("socket", name) { linux_unix_socket() })
      let number = socket.rawValue
      code = try withShortPath(path) { linux_unix_connect(number, $0) < 0 ? errorNumber : 0 }
    case .loopback(let host, let port):
      socket = SharedDescriptor(owning: try systemCall("socket", name) { linux_tcp_socket() })
      code = linux_tcp_connect(socket.rawValue, host.value, port) < 0 ? errorNumber : 0
    }
    if code == EINPROGRESS { return (socket, true) }
    guard code == 0 else {
      throw PlatformError(operation: "connect", code: code, subject: name)
    }
    return (socket, false)
  }

  /// Listens. A Unix socket is its owner's alone, and replaces one that nobody listens on any more.
  static func listen(_ address: StreamAddress) throws(PlatformError) -> FileDescriptor {
    let name = address.description
    switch address {
    case .file(let path):
      try removeStale(path)
      let socket = FileDescriptor(owning: try systemCall("socket", name) { linux_unix_socket() })
      let number = socket.rawValue
      // The file gets the mode that the socket has when it is bound (unix(7)), so it is never anybody else's.
      try systemCall("fchmod", name) { fchmod(number, 0o600) }
      let code = try withShortPath(path) { linux_unix_bind(number, $0) < 0 ? errorNumber : 0 }
      guard code == 0 else { throw PlatformError(operation: "bind", code: code, subject: name) }
      try systemCall("listen", name) { CLinux.listen(number, 4) }
      return socket
    case .loopback(let host, let port):
      let socket = FileDescriptor(owning: try systemCall("socket", name) { linux_tcp_socket() })
      let number = socket.rawValue
      try systemCall("bind", name) { linux_tcp_bind(number, host.value, port) }
      try systemCall("listen", name) { CLinux.listen(number, 4) }
      return socket
    }
  }

  /// Takes away a socket whose owner is gone. What is no socket, or is listened on, stays.
  private static func removeStale(_ path: String) throws(PlatformError) {
    var state = stat()
    guard lstat(path, &state) == 0 else { return }
    guard state.st_mode & 0o170000 == 0o140000 else {
      throw PlatformError(operation: "bind", code: EEXIST, subject: path)
    }
    do throws(PlatformError) {
      _ = try connect(.file(path))
    } catch {
      guard error.code == ECONNREFUSED else { throw error }
      unlink(path)
      return
    }
    throw PlatformError(operation: "bind", code: EADDRINUSE, subject: path)
  }

  /// Says which file a socket is, to take away no other when it ends.
  static func identity(_ path: String) -> (device: UInt64, file: UInt64)? {
    var state = stat()
    return lstat(path, &state) == 0 ? (UInt64(state.st_dev), UInt64(state.st_ino)) : nil
  }

  private static var errorNumber: Int32 { linux_error_number() }

  /// An address holds 107 bytes of path. Longer ones go through a descriptor of the folder.
  private static func withShortPath(
    _ path: String, _ body: (String) -> Int32
  ) throws(PlatformError) -> Int32 {
    guard path.utf8.count > 107, let slash = path.lastIndex(of: "/") else { return body(path) }
    let folder = try FileDescriptor.open(String(path[..<slash]), O_RDONLY | O_DIRECTORY)
    return body("/proc/self/fd/\(folder.rawValue)\(path[slash...])")
  }
}
