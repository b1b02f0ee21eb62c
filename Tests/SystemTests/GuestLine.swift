import CLinux
import Hosting
import Platform
import TestGuests

/// A guest's serial port through the link to its pseudo-terminal, as cu(1) uses it.
final class GuestLine {
  private let line: FileDescriptor
  private(set) var seen: [UInt8] = []

  /// Waits for the link to be there.
  init(_ uj: Underjack, _ machine: String, port: Int = 0) throws {
    // Where the machine's runtime folder is, the machine itself knows best.
    let text = try uj.run("rpc", machine, "status")
    guard let status = try? JSONValue(parsing: text),
      let path = status["serialDevices"]?.array?.dropFirst(port).first?.string
    else { throw TestGuestError("\(machine): no serial device in \(text)") }
    line = try FileDescriptor.open(path, O_RDWR | O_NOCTTY | O_NONBLOCK)
    var settings = termios()
    tcgetattr(line.rawValue, &settings)
    cfmakeraw(&settings)
    tcsetattr(line.rawValue, Int32(TCSANOW), &settings)
  }

  func type(_ text: String, seconds: Double = 60) throws { try send(text + "\r", seconds: seconds) }

  /// Types without the Enter key.
  func send(_ text: String, seconds: Double = 60) throws {
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { CLinux.write(line.rawValue, $0.baseAddress, $0.count) }
      if count > 0 {
        bytes = bytes.dropFirst(count)
        continue
      }
      guard MonotonicClock.now < deadline else {
        throw TestGuestError(
          "the line did not take '\(text)' in \(seconds) s: "
            + String(cString: strerror(linux_error_number())))
      }
      usleep(10_000)
    }
  }

  /// Reads until `text` came; returns all since the last call.
  @discardableResult
  func wait(for text: String, seconds: Double = 60) throws -> String {
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    let wanted = Array(text.utf8)
    var buffer = [UInt8](repeating: 0, count: 65536)
    var searched = 0
    while true {
      if let range = Self.find(wanted, in: seen, from: max(0, searched - wanted.count)) {
        defer { seen.removeFirst(range) }
        return String(decoding: seen[..<range], as: UTF8.self)
      }
      searched = seen.count
      guard MonotonicClock.now < deadline else {
        throw TestGuestError(
          "the guest did not print '\(text)' in \(seconds) s, but: "
            + String(decoding: seen.suffix(2000), as: UTF8.self))
      }
      let count = buffer.withUnsafeMutableBytes { read(line.rawValue, $0.baseAddress, $0.count) }
      if count > 0 { seen += buffer[..<count] } else { usleep(5000) }
    }
  }

  /// Runs a command of the guest's shell and returns what it printed. The echo of what was typed does not count, in
  /// however many lines the shell's editor shows it.
  func run(_ command: String, seconds: Double = 60) throws -> String {
    try type("echo BE\"\"GIN; \(command); echo E\"\"ND$?.")
    _ = try wait(for: "BEGIN\r\n", seconds: seconds)
    let text = try wait(for: "END", seconds: seconds)
    _ = try wait(for: ".", seconds: seconds)
    return text.dropLast(3).split(whereSeparator: \.isNewline).map(String.init)
      .joined(separator: "\n")
  }

  private static func find(_ wanted: [UInt8], in bytes: [UInt8], from start: Int) -> Int? {
    guard bytes.count >= wanted.count else { return nil }
    var index = start
    while index <= bytes.count - wanted.count {
      if bytes[index] == wanted[0], bytes[index..<index + wanted.count].elementsEqual(wanted) {
        return index + wanted.count
      }
      index += 1
    }
    return nil
  }
}
