// The sockets of a switch: a folder with one for each port, which only its owner may enter.

import CLinux
import Devices
import Platform

/// A port's own socket, and the others that stand beside it.
final class SwitchFolder: Sendable {
  static let portLimit = 64

  let path: String
  /// Names a port to the others.
  let name: String
  let listener: FileDescriptor
  /// Readable when ports come and go (inotify(7)).
  let changes: FileDescriptor

  init(name switchName: String, in parent: String) throws(NetworkError) {
    path = "\(parent)/\(switchName)"
    do throws(PlatformError) {
      for folder in [parent, path] {
        if mkdir(folder, 0o700) != 0, linux_error_number() != EEXIST {
          throw PlatformError(operation: "mkdir", code: linux_error_number(), subject: folder)
        }
        var state = stat()
        guard lstat(folder, &state) == 0, state.st_mode & 0o170000 == 0o040000,
          state.st_uid == getuid(), state.st_mode & 0o077 == 0
        else { throw PlatformError(operation: "stat", code: EPERM, subject: folder) }
      }
      let notifier = FileDescriptor(
        owning: try systemCall("inotify_init") {
          inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
        })
      let watched = path
      try systemCall("inotify_add_watch", watched) {
        inotify_add_watch(
          notifier.rawValue, watched, UInt32(IN_CREATE) | UInt32(IN_DELETE) | UInt32(IN_MOVED_TO))
      }
      changes = notifier
      name = String(getpid(), radix: 36) + "-" + String(UInt32.random(in: .min ... .max), radix: 36)
      listener = try Self.listen(at: "\(path)/\(name)")
    } catch {
      throw NetworkError("switch \(switchName): \(error)")
    }
  }

  deinit { remove() }

  /// Takes the port away from the others' sight. Harmless when it is done already.
  func remove() {
    unlink("\(path)/\(name)")
    // Gone with the last port.
    rmdir(path)
  }

  private static func makeSocket() throws(PlatformError) -> FileDescriptor {
    FileDescriptor(
      owning: try systemCall("socket") {
        socket(
          AF_UNIX,
          Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue), 0)
      })
  }

  private static func withAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(PlatformError) -> Int32 {
    var address = sockaddr_un()
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw PlatformError(operation: "socket", code: ENAMETOOLONG, subject: path)
    }
    address.sun_family = UInt16(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }

  /// Appears under its name only when it listens: nobody is refused for coming too early.
  private static func listen(at path: String) throws(PlatformError) -> FileDescriptor {
    let descriptor = try makeSocket()
    let number = descriptor.rawValue
    // A dot keeps the others from looking at it.
    let slash = path.lastIndex(of: "/") ?? path.startIndex
    let early = path[...slash] + "." + path[path.index(after: slash)...]
    let code = try withAddress(String(early)) { bind(number, $0, $1) }
    try systemCall("bind", path) { code }
    try systemCall("listen", path) { CLinux.listen(number, 64) }
    try systemCall("rename", path) { rename(String(early), path) }
    return descriptor
  }

  /// The names of the other ports.
  func others() -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder), names.count < Self.portLimit {
      let found = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !found.hasPrefix("."), found != name { names.append(found) }
    }
    return names
  }

  func forgetChanges() {
    var bytes = [UInt8](repeating: 0, count: 4096)
    while read(changes.rawValue, &bytes, bytes.count) > 0 {}
  }

  /// Connects to another port; nil when nobody is there: its socket is what a killed process left.
  func connect(to other: String) -> FileDescriptor? {
    guard let descriptor = try? Self.makeSocket() else { return nil }
    let number = descriptor.rawValue
    let target = "\(path)/\(other)"
    var size: Int32 = 1 << 20
    setsockopt(
      number, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    guard let code = try? Self.withAddress(target, { CLinux.connect(number, $0, $1) }) else {
      return nil
    }
    guard code == 0 else {
      if linux_error_number() == ECONNREFUSED { unlink(target) }
      return nil
    }
    return descriptor
  }
}

/// Another port, as this one sends to it.
final class SwitchPeer {
  /// Frames and bytes that wait while the other machine is slow.
  private static let waitingLimit = (frames: 512, bytes: 2 << 20)

  let name: String
  let descriptor: FileDescriptor
  var index = -1
  private(set) var isGone = false
  private var waiting: [[UInt8]] = []
  private var waitingBytes = 0

  init?(_ name: String, in folder: SwitchFolder) {
    guard let descriptor = folder.connect(to: name) else { return nil }
    self.name = name
    self.descriptor = descriptor
    // The first packet says who sends.
    let own = Array(folder.name.utf8)
    _ = own.withUnsafeBytes { linux_send(self.descriptor.rawValue, $0.baseAddress, $0.count) }
  }

  var isWaiting: Bool { !waiting.isEmpty }

  func send(_ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader) {
    guard !isGone else { return }
    guard waiting.isEmpty else { return keep(frame, header) }
    var bytes: (UInt64, UInt64) = (0, 0)
    let count = withUnsafeMutableBytes(of: &bytes) { bytes in
      header.store(in: bytes, bufferCount: 0)
      return linux_send_two(
        descriptor.rawValue, bytes.baseAddress, NetworkHeader.size, frame.baseAddress, frame.count)
    }
    if count < 0 { didFail { keep(frame, header) } }
  }

  private func didFail(_ busy: () -> Void) {
    switch linux_error_number() {
    case EAGAIN, ENOBUFS: busy()
    case EINTR, EMSGSIZE: break
    default: isGone = true
    }
  }

  private func keep(_ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader) {
    guard waiting.count < Self.waitingLimit.frames,
      waitingBytes + frame.count <= Self.waitingLimit.bytes
    else { return }
    var packet = [UInt8](repeating: 0, count: NetworkHeader.size)
    packet.withUnsafeMutableBytes { header.store(in: $0, bufferCount: 0) }
    packet.append(contentsOf: frame)
    waiting.append(packet)
    waitingBytes += packet.count
  }

  func sendWaiting() {
    var done = 0
    while done < waiting.count, !isGone {
      let count = waiting[done].withUnsafeBytes {
        linux_send(descriptor.rawValue, $0.baseAddress, $0.count)
      }
      if count < 0 {
        var isBusy = false
        didFail { isBusy = true }
        if isBusy { break }
      }
      waitingBytes -= waiting[done].count
      done += 1
    }
    waiting.removeFirst(done)
    if isGone { waiting = [] }
  }
}

/// A port that sends to this one.
final class SwitchSource {
  let descriptor: FileDescriptor
  var index = -1
  private(set) var name: String?
  private(set) var isGone = false

  init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

  /// One packet: its size, 0 for one to be passed over, nil when there is none.
  func receive(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
    let count = read(descriptor.rawValue, buffer.baseAddress, buffer.count)
    guard count > 0 else {
      if count == 0 || linux_error_number() != EAGAIN && linux_error_number() != EINTR {
        isGone = true
      }
      return nil
    }
    guard name == nil else { return count }
    guard count <= 64 else {
      isGone = true
      return nil
    }
    name = String(decoding: buffer.prefix(count), as: UTF8.self)
    return 0
  }
}
