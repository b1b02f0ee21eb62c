import CLinux
import Glibc
import Platform

/// One machine of ours that is saved and restored.
struct OwnState {
  private let uj: String
  private let home: String
  private let environment: [String: String]
  private let kernel: String
  private let accel: String
  private let mebibytes: UInt64

  init(_ uj: String, folder: String, kernel: String, accel: String, mebibytes: UInt64) {
    self.uj = uj
    home = "\(folder)/home"
    environment = ["UNDERJACK_HOME": "\(folder)/home", "UNDERJACK_RUNTIME": "\(folder)/run"]
    self.kernel = kernel
    self.accel = accel
    self.mebibytes = mebibytes
  }

  @discardableResult
  private func command(_ arguments: [String]) throws -> String {
    let result = try ChildProcess.run([uj] + arguments, environment: environment, seconds: 600)
    guard result.status == 0 else {
      throw BenchmarkError("uj \(arguments.joined(separator: " ")): \(result.output)")
    }
    return result.output
  }

  private func log(_ name: String) -> String { "\(home)/machines/\(name)/log/serial0.log" }

  /// A machine whose memory is full.
  private func begin(_ name: String) throws {
    try command([
      "new", name, "--kernel", kernel, "--memory", "\(mebibytes)M", "--disk", "16M", "--accel",
      accel,
    ])
    try command(["start", name])
    try waitUntil(seconds: 300, "\(name): a full memory") { fileSize(log(name)) > 16 }
  }

  func measure(_ figures: inout StateFigures) throws {
    let name = "m\(figures.total.values.count)"
    try begin(name)
    let (whole, pause, size) = try take(name, "first")
    figures.total.values.append(whole)
    figures.pause.values.append(pause)
    figures.size.values.append(size)
    usleep(1_000_000)
    let (increment, again, rest) = try take(name, "second")
    figures.incrementTotal.values.append(increment)
    figures.pause.values.append(again)
    figures.incrementSize.values.append(rest)
    try command(["stop", "-f", name])
    try command(["snapshot", "rollback", name, "second"])
    let before = fileSize(log(name))
    let start = MonotonicClock.now
    let child = try ChildProcess.start([uj, "start", name], environment: environment)
    try waitUntil(seconds: 60, "\(name): a sign of life") { fileSize(log(name)) > before }
    figures.restore.values.append(Double(MonotonicClock.now - start) / 1e6)
    _ = ChildProcess.wait(for: child.identifier)
    try command(["stop", "-f", name])
    try command(["delete", name, "--yes"])
  }

  /// - Returns: milliseconds in all and of the guest's pause, and MiB on the disk.
  private func take(
    _ name: String, _ title: String
  ) throws -> (total: Double, pause: Double, size: Double) {
    let before = statesOnDisk(name)
    let start = MonotonicClock.now
    let output = try command(["snapshot", "take", name, title, "--memory"])
    let total = Double(MonotonicClock.now - start) / 1e6
    // "it stood still for 1.2 ms"
    let words = output.split { $0 == " " || $0 == "\n" }
    guard let unit = words.lastIndex(of: "ms"), unit > 0, let pause = Double(words[unit - 1]) else {
      throw BenchmarkError("uj snapshot take: \(output)")
    }
    return (total, pause, Double(statesOnDisk(name) - before) / Double(1 << 20))
  }

  private func statesOnDisk(_ name: String) -> UInt64 {
    let folder = "\(home)/machines/\(name)/snapshots"
    guard let entries = opendir(folder) else { return 0 }
    defer { closedir(entries) }
    var sum: UInt64 = 0
    while let entry = readdir(entries) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !name.hasPrefix(".") { sum += allocatedBytes("\(folder)/\(name)/memory.state") }
    }
    return sum
  }

  /// Bytes (Pss) of one machine restored from a snapshot, and of several.
  func instances(_ count: Int) throws -> (one: Double, all: Double) {
    try begin("source")
    try command(["snapshot", "take", "source", "point", "--memory"])
    try command(["stop", "-f", "source"])
    var processes: [pid_t] = []
    var one = 0.0
    for index in 0..<count {
      let name = "copy\(index)"
      try command(["snapshot", "branch", "source", "point", name, "--memory"])
      try command(["start", name])
      processes.append(try hostProcess(name))
      // Until it has read all of its memory.
      let pages = Int64(StateGuest.filled(memory: mebibytes << 20) / 4096)
      try waitUntil(seconds: 300, "\(name): all of its memory read") {
        fileSize(log(name)) > pages / 64 + 16
      }
      if index == 0 { one = try memory(of: processes) }
      // The others are measured while they stand still: a dozen busy guests take their time.
      try command(["pause", name])
    }
    let all = try memory(of: processes)
    for index in 0..<count { try command(["stop", "-f", "copy\(index)"]) }
    return (one, all)
  }

  private func hostProcess(_ name: String) throws -> pid_t {
    let text = try command(["rpc", name, "hello"])
    let parts = text.components(after: "\"process\"")
    guard let number = pid_t(parts.prefix { $0.isNumber }) else {
      throw BenchmarkError("uj rpc \(name) hello: \(text)")
    }
    return number
  }

  private func memory(of processes: [pid_t]) throws -> Double {
    var sum = 0.0
    for process in processes {
      let text = try readWholeFile("/proc/\(process)/smaps_rollup")
      for line in text.split(separator: "\n") where line.hasPrefix("Pss:") {
        let words = line.split(separator: " ")
        if words.count > 1, let value = Double(words[1]) { sum += value * 1024 }
      }
    }
    return sum
  }
}

extension String {
  /// What follows the first occurrence of a text, without blanks and colons before it.
  fileprivate func components(after text: String) -> Substring {
    var rest = self[...]
    while !rest.isEmpty, !rest.hasPrefix(text) { rest = rest.dropFirst() }
    return rest.dropFirst(text.count).drop { $0 == ":" || $0 == " " }
  }
}
