import CLinux
import Glibc
import Platform

/// QEMU with the same guest, by its monitor.
struct QEMUState {
  static let program = "/usr/bin/qemu-system-x86_64"

  enum Way: String, CaseIterable {
    /// Into a qcow2 image, the guest stopped all the time.
    case snapshot = "savevm"
    /// Pre-copy to a file.
    case migration = "migrate"
  }

  private let folder: String
  private let kernel: String
  private let accel: String
  private let mebibytes: UInt64

  init(folder: String, kernel: String, accel: String, mebibytes: UInt64) {
    self.folder = folder
    self.kernel = kernel
    self.accel = accel
    self.mebibytes = mebibytes
  }

  private var serial: String { "\(folder)/qemu.serial" }
  private var disk: String { "\(folder)/qemu.qcow2" }
  private var stream: String { "\(folder)/qemu.state" }
  private var socket: String { "\(folder)/qemu.monitor" }

  private func start(_ more: [String]) throws -> pid_t {
    unlink(serial)
    unlink(socket)
    return try ChildProcess.start(
      [
        Self.program, "-machine", "pc,accel=\(accel),graphics=off", "-nodefaults", "-display",
        "none", "-m", "\(mebibytes)", "-serial", "file:\(serial)", "-monitor",
        "unix:\(socket),server=on,wait=off", "-drive", "if=none,id=d,format=qcow2,file=\(disk)",
        "-kernel", kernel,
      ] + more
    ).identifier
  }

  func measure(_ way: Way, _ figures: inout StateFigures) throws {
    let made = try ChildProcess.run(["/usr/bin/qemu-img", "create", "-f", "qcow2", disk, "16M"])
    guard made.status == 0 else { throw BenchmarkError(made.output) }
    unlink(stream)
    let first = try start([])
    defer {
      kill(first, SIGKILL)
      _ = ChildProcess.wait(for: first)
    }
    try waitUntil(seconds: 300, "qemu: a full memory") {
      // Firmware writes there too.
      usleep(20_000)
      return ((try? readWholeFile(serial)) ?? "").contains("\(StateGuest.text)\n..")
    }
    let monitor = try Monitor(socket)
    let begin = MonotonicClock.now
    switch way {
    case .snapshot:
      _ = try monitor.ask("savevm s")
      let time = Double(MonotonicClock.now - begin) / 1e6
      figures.total.values.append(time)
      // The guest is stopped before the first byte.
      figures.pause.values.append(time)
      figures.size.values.append(Double(allocatedBytes(disk)) / Double(1 << 20))
    case .migration:
      _ = try monitor.ask("migrate_set_parameter max-bandwidth 100G")
      _ = try monitor.ask("migrate \"exec:cat > \(stream)\"")
      figures.unflushed.values.append(Double(MonotonicClock.now - begin) / 1e6)
      // Ours and savevm's outlive a power cut when they are done; this one does from here on.
      try flush(stream)
      figures.total.values.append(Double(MonotonicClock.now - begin) / 1e6)
      let report = try monitor.ask("info migrate")
      figures.pause.values.append(Self.milliseconds("downtime:", in: report))
      figures.size.values.append(Double(allocatedBytes(stream)) / Double(1 << 20))
    }
    kill(first, SIGKILL)
    // Nobody must have the image open.
    usleep(300_000)
    let again = MonotonicClock.now
    let second = try start(
      way == .snapshot ? ["-loadvm", "s"] : ["-incoming", "exec:cat \(stream)"])
    defer {
      kill(second, SIGKILL)
      _ = ChildProcess.wait(for: second)
    }
    try waitUntil(seconds: 120, "qemu: a sign of life") { fileSize(serial) > 0 }
    figures.restore.values.append(Double(MonotonicClock.now - again) / 1e6)
  }

  private func flush(_ path: String) throws {
    let file = try FileDescriptor.open(path, O_RDONLY)
    let number = file.rawValue
    _ = try systemCall("fsync", path) { fsync(number) }
  }

  /// "downtime: 12 milliseconds"
  private static func milliseconds(_ key: String, in text: String) -> Double {
    for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix(key) {
      let words = line.split(separator: " ")
      if words.count > 1, let value = Double(words[1]) { return value }
    }
    return .nan
  }

  /// A connection to QEMU's monitor.
  private final class Monitor {
    private let connection: FileDescriptor
    private static let prompt = "(qemu) "

    init(_ path: String) throws {
      connection = FileDescriptor(
        owning: try systemCall("socket") {
          Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        })
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      let bytes = Array(path.utf8)
      guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
        throw BenchmarkError("\(path): too long for a socket")
      }
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
      let number = connection.rawValue
      let outcome = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      guard outcome == 0 else { throw BenchmarkError("\(path): QEMU's monitor does not answer") }
      _ = try answer()
    }

    func ask(_ command: String) throws -> String {
      let bytes = Array((command + "\n").utf8)
      _ = try bytes.withUnsafeBytes { try connection.write($0) }
      return try answer()
    }

    private func answer() throws -> String {
      var text = ""
      var buffer = [UInt8](repeating: 0, count: 4096)
      while !text.hasSuffix(Self.prompt) {
        var ready = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, 600_000) > 0 else { throw BenchmarkError("qemu: \(text)") }
        let count = try buffer.withUnsafeMutableBytes { try connection.read(into: $0) }
        guard count > 0 else { throw BenchmarkError("qemu has ended: \(text)") }
        text += String(decoding: buffer[..<count], as: UTF8.self)
      }
      return text
    }
  }
}
