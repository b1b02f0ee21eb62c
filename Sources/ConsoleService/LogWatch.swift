import ConsoleUI
import Glibc
import Inventory
import Platform

/// Follows one log file for the view of logs.
struct LogWatch {
  let source: LogSource
  private let path: String
  private var identity: (device: UInt, inode: UInt) = (0, 0)
  private var offset = 0
  private var isFirst = true

  /// The end of a log that is shown at first.
  private static let tail = 1 << 20
  private static let chunk = 1 << 18

  /// nil for a source that is no file.
  init?(_ source: LogSource, at location: InventoryLocation) {
    guard let machine = source.machine, let name = try? MachineName(machine) else { return nil }
    switch source {
    case .console(_, let port): path = location.serialLog(name, port: port)
    case .host: path = location.hostLog(name)
    case .events: return nil
    }
    self.source = source
  }

  /// What was added since the last look; nil when nothing was.
  mutating func news() -> (bytes: [UInt8], restart: Bool)? {
    var information = stat()
    guard stat(path, &information) == 0 else {
      defer { isFirst = false }
      return isFirst ? ([], true) : nil
    }
    let now = (device: UInt(information.st_dev), inode: UInt(information.st_ino))
    let size = Int(information.st_size)
    // Another file, or a shorter one: it was rotated or emptied.
    let restart = isFirst || now != identity || size < offset
    if restart {
      identity = now
      offset = max(0, size - Self.tail)
      isFirst = false
    }
    guard restart || size > offset else { return nil }
    let bytes = Self.read(path, from: offset, count: min(Self.tail, size - offset))
    offset += bytes.count
    return (bytes, restart)
  }

  static func read(_ path: String, from offset: Int, count: Int) -> [UInt8] {
    guard count > 0, let stream = fopen(path, "r") else { return [] }
    defer { fclose(stream) }
    fseek(stream, offset, SEEK_SET)
    var bytes = [UInt8](repeating: 0, count: count)
    let read = fread(&bytes, 1, bytes.count, stream)
    return Array(bytes[..<read])
  }
}

/// What a guest printed since its log was last looked at: whether it rang the bell, and its last lines.
enum LogGlance {
  private static let limit = 8192

  static func read(_ path: String, from old: Int, size: Int) -> (rang: Bool, lastLines: [String]) {
    let start = max(0, size - limit)
    let bytes = LogWatch.read(path, from: start, count: size - start)
    // Only what is new may ring.
    let fresh = bytes.dropFirst(max(0, min(bytes.count, old - start)))
    var text = LogText()
    text.feed(bytes)
    let lines = text.all.filter { line in line.contains { $0 != " " } }
    return (rings(fresh), Array(lines.suffix(6)))
  }

  /// A bell that does not end a string such as a window's title (OSC ... BEL).
  static func rings(_ bytes: some Sequence<UInt8>) -> Bool {
    var isString = false
    var previous: UInt8 = 0
    for byte in bytes {
      if previous == 0x1B, byte == 0x5D { isString = true }
      if byte == 0x07 {
        if !isString { return true }
        isString = false
      }
      if byte == 0x0A || previous == 0x1B && byte == 0x5C { isString = false }
      previous = byte
    }
    return false
  }
}
