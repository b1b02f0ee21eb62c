import CLinux
import ConsoleUI
import Platform

/// How busy the host is, from /proc/stat and /proc/meminfo (proc(5)).
struct HostSampler {
  private let accelerator: String
  private let home: String
  private var lastBusy: UInt64 = 0
  private var lastTotal: UInt64 = 0
  private var nextSample: UInt64 = 0

  init(accelerator: String, home: String) {
    self.accelerator = accelerator
    self.home = home
  }

  /// At most once a second; nil in between.
  mutating func sample() -> HostStatus? {
    let now = MonotonicClock.now
    guard now >= nextSample else { return nil }
    nextSample = now &+ 900_000_000
    var status = HostStatus(
      processors: max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))), accelerator: accelerator,
      home: home)
    status.processorUse = processorUse()
    for line in lines(of: "/proc/meminfo") {
      let words = line.split(separator: " ")
      guard words.count >= 2, let kilobytes = UInt64(words[1]) else { continue }
      if words[0] == "MemTotal:" { status.memory = kilobytes &* 1024 }
      if words[0] == "MemAvailable:" { status.availableMemory = kilobytes &* 1024 }
    }
    return status
  }

  /// Share of all processors since the last sample.
  private mutating func processorUse() -> Double? {
    guard let line = lines(of: "/proc/stat").first else { return nil }
    let ticks = line.split(separator: " ").dropFirst().prefix(8).compactMap { UInt64($0) }
    guard ticks.count >= 5 else { return nil }
    let total = ticks.reduce(0, &+)
    // Idle and waiting for disks.
    let busy = total &- ticks[3] &- ticks[4]
    defer { (lastBusy, lastTotal) = (busy, total) }
    guard lastTotal > 0, total > lastTotal, busy >= lastBusy else { return nil }
    return Double(busy - lastBusy) / Double(total - lastTotal)
  }

  private func lines(of path: String) -> [Substring] {
    String(decoding: LogTail.head(path, limit: 8192), as: UTF8.self).split(separator: "\n")
  }
}

/// Parts of files that may be large or growing.
enum LogTail {
  /// The last bytes of a file, from the beginning of a line where there is one.
  static func read(_ path: String, limit: Int) -> [UInt8] {
    guard let stream = fopen(path, "r") else { return [] }
    defer { fclose(stream) }
    fseek(stream, 0, SEEK_END)
    let size = ftell(stream)
    guard size > 0 else { return [] }
    fseek(stream, max(0, size - limit), SEEK_SET)
    var bytes = [UInt8](repeating: 0, count: min(limit, size))
    let count = fread(&bytes, 1, bytes.count, stream)
    let text = bytes[..<count]
    guard size > limit, let newline = text.firstIndex(of: 0x0A) else { return Array(text) }
    return Array(text[(newline + 1)...])
  }

  static func head(_ path: String, limit: Int) -> ArraySlice<UInt8> {
    guard let stream = fopen(path, "r") else { return [] }
    defer { fclose(stream) }
    var bytes = [UInt8](repeating: 0, count: limit)
    let count = fread(&bytes, 1, limit, stream)
    return bytes[..<count]
  }
}
