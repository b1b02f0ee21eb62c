// What a serial port printed, on disk: appended as it comes, rotated by size. A full disk must not disturb the machine,
// so an error is kept to be shown and writing is tried again later.

import CLinux
import Platform

/// Where and how a port's output is logged.
public struct LogConfiguration: Sendable {
  public var path: String
  /// Bytes after which a new file is begun.
  public var maximumSize: Int
  /// Old files kept: `path.1` the newest to `path.N`.
  public var keptFiles: Int
  /// A UTC time stamp (ISO 8601, milliseconds) before each line.
  public var timestamps: Bool

  public init(
    path: String, maximumSize: Int = 4 << 20, keptFiles: Int = 3, timestamps: Bool = false
  ) {
    self.path = path
    self.maximumSize = max(maximumSize, 4096)
    self.keptFiles = min(max(keptFiles, 0), 100)
    self.timestamps = timestamps
  }
}

/// An append-only file with rotation. Belongs to one thread.
final class LogWriter {
  private let configuration: LogConfiguration
  private var descriptor: Int32 = -1
  private var size = 0
  private var atLineStart = true
  private var buffer: [UInt8] = []
  private var retryTime: UInt64 = 0
  /// Why the last write failed; nil when all is well.
  private(set) var failure: PlatformError?

  private static let retryDelay: UInt64 = 5_000_000_000

  /// - Throws: `PlatformError` when the file cannot be opened.
  init(_ configuration: LogConfiguration) throws(PlatformError) {
    self.configuration = configuration
    try open()
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private func open() throws(PlatformError) {
    let file = try FileDescriptor.open(
      configuration.path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY, mode: 0o600)
    var status = stat()
    let number = file.rawValue
    try systemCall("fstat", configuration.path) { fstat(number, &status) }
    size = Int(status.st_size)
    descriptor = file.release()
  }

  /// Adds what the guest printed.
  func append(_ bytes: UnsafeRawBufferPointer) {
    if configuration.timestamps {
      buffer.removeAll(keepingCapacity: true)
      stamp(bytes)
      buffer.withUnsafeBytes { write($0) }
    } else {
      write(bytes)
    }
  }

  /// Adds a line of our own.
  func mark(_ text: String) {
    var line = atLineStart ? "" : "\n"
    line += "--- \(Self.timestamp()) \(text) ---\n"
    Array(line.utf8).withUnsafeBytes { write($0) }
    atLineStart = true
  }

  private func stamp(_ bytes: UnsafeRawBufferPointer) {
    var time: [UInt8]?
    for byte in bytes {
      if atLineStart {
        if time == nil { time = Array(Self.timestamp().utf8) + [0x20] }
        buffer.append(contentsOf: time ?? [])
        atLineStart = false
      }
      buffer.append(byte)
      if byte == 0x0A { atLineStart = true }
    }
  }

  private func write(_ bytes: UnsafeRawBufferPointer) {
    if let last = bytes.last, !configuration.timestamps { atLineStart = last == 0x0A }
    if failure != nil {
      guard MonotonicClock.now >= retryTime else { return }
      failure = nil
    }
    do {
      if size >= configuration.maximumSize { try rotate() }
      if descriptor < 0 { try open() }
      var rest = bytes
      while !rest.isEmpty {
        let number = descriptor
        let chunk = rest
        let count = try systemCall("write", configuration.path) {
          CLinux.write(number, chunk.baseAddress, chunk.count)
        }
        size += count
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      }
    } catch {
      failure = error
      retryTime = MonotonicClock.now + Self.retryDelay
    }
  }

  /// Moves path.1 to path.2 and so on, path to path.1, and begins a new file.
  private func rotate() throws(PlatformError) {
    let path = configuration.path
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    if configuration.keptFiles == 0 {
      unlink(path)
    } else {
      for number in stride(from: configuration.keptFiles - 1, through: 1, by: -1) {
        _ = linux_renameat2(
          AT_FDCWD, "\(path).\(number)", AT_FDCWD, "\(path).\(number + 1)", 0)
      }
      _ = linux_renameat2(AT_FDCWD, path, AT_FDCWD, "\(path).1", 0)
    }
    try open()
  }

  /// The time of day in UTC, such as 2026-11-22T21:54:54.123Z.
  static func timestamp() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    func padded(_ value: Int, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let date = [
      padded(Int(parts.tm_year) + 1900, 4), padded(Int(parts.tm_mon) + 1, 2),
      padded(Int(parts.tm_mday), 2),
    ].joined(separator: "-")
    let time = [Int(parts.tm_hour), Int(parts.tm_min), Int(parts.tm_sec)]
      .map { padded($0, 2) }.joined(separator: ":")
    return "\(date)T\(time).\(padded(now.tv_nsec / 1_000_000, 3))Z"
  }
}
