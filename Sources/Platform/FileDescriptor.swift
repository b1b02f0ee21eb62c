import CLinux

/// An open file, socket or kernel object. Closed when the value goes out of scope.
public struct FileDescriptor: ~Copyable, Sendable {
  /// The number that system calls take. Valid as long as this value lives.
  public let rawValue: Int32

  /// Takes ownership of an open descriptor.
  public init(owning rawValue: Int32) {
    self.rawValue = rawValue
  }

  deinit {
    close(rawValue)
  }

  /// Gives ownership up: the caller closes the number.
  public consuming func release() -> Int32 {
    let number = rawValue
    discard self
    return number
  }

  /// open(2), always with O_CLOEXEC.
  public static func open(
    _ path: String, _ flags: Int32, mode: UInt32 = 0o600
  ) throws(PlatformError) -> FileDescriptor {
    FileDescriptor(
      owning: try systemCall("open", path) { linux_open(path, flags | O_CLOEXEC, mode) })
  }

  /// A second descriptor for the same open file (F_DUPFD_CLOEXEC).
  public borrowing func duplicate() throws(PlatformError) -> FileDescriptor {
    let number = rawValue
    return FileDescriptor(
      owning: try systemCall("dup") { linux_fcntl(number, F_DUPFD_CLOEXEC, 0) })
  }

  /// Sets or clears O_NONBLOCK.
  public borrowing func setNonBlocking(_ on: Bool) throws(PlatformError) {
    let number = rawValue
    let flags = try systemCall("fcntl") { linux_fcntl(number, F_GETFL, 0) }
    let wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK
    try systemCall("fcntl") { linux_fcntl(number, F_SETFL, wanted) }
  }

  /// read(2). 0 is the end of the file.
  public borrowing func read(into buffer: UnsafeMutableRawBufferPointer) throws(PlatformError)
    -> Int
  {
    let number = rawValue
    return try systemCall("read") { CLinux.read(number, buffer.baseAddress, buffer.count) }
  }

  /// write(2); may write less than was asked.
  public borrowing func write(_ buffer: UnsafeRawBufferPointer) throws(PlatformError) -> Int {
    let number = rawValue
    return try systemCall("write") { CLinux.write(number, buffer.baseAddress, buffer.count) }
  }
}

/// A descriptor that several owners hold; closed with the last of them.
public final class SharedDescriptor: Sendable {
  public let descriptor: FileDescriptor

  public init(owning rawValue: Int32) { descriptor = FileDescriptor(owning: rawValue) }
  public init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

  public var rawValue: Int32 { descriptor.rawValue }
}
