import CLinux
import Platform

/// The last run of a machine, `run.toml`: written when a host starts and again when it ends in order. A record without
/// an end whose host does not hold the lock any more is a crash.
package struct RunRecord: Sendable, Equatable {
  /// The host's process number.
  package var process: Int32
  /// Seconds since 1970.
  package var started: Int64
  /// Identifies the boot of the host machine, so that a power cut is told from a crash.
  package var boot: String
  package var ended: Int64?
  /// Why it ended, one line.
  package var reason: String?
  /// The end was no fault: power-off by the guest or a stop by a person.
  package var isClean: Bool

  package init(process: Int32 = getpid(), started: Int64 = Int64(time(nil))) {
    self.process = process
    self.started = started
    boot = Self.currentBoot
    isClean = false
  }

  package mutating func end(reason: String, isClean: Bool) {
    ended = Int64(time(nil))
    self.reason = reason
    self.isClean = isClean
  }

  package static let currentBoot: String = {
    let text = try? FileReading.text("/proc/sys/kernel/random/boot_id")
    return text.map { String($0.prefix { $0 != "\n" }) } ?? ""
  }()

  package init(text: String, path: String) throws(InventoryError) {
    let root = try TableReader(path: path, text: text)
    process = Int32(try root.integer("process", in: 0...Int(Int32.max)) ?? 0)
    started = Int64(try root.integer("started", in: 0...Int.max) ?? 0)
    boot = try root.string("boot") ?? ""
    ended = try root.integer("ended", in: 0...Int.max).map { Int64($0) }
    reason = try root.string("reason")
    isClean = try root.bool("clean") ?? false
    try root.finish()
  }

  package var text: String {
    var lines = [
      "# Written by the host process.", "process = \(process)", "started = \(started)",
      "boot = \(TOMLText.quote(boot))", "clean = \(isClean)",
    ]
    if let ended { lines.append("ended = \(ended)") }
    if let reason { lines.append("reason = \(TOMLText.quote(reason))") }
    return lines.joined(separator: "\n") + "\n"
  }
}

extension Inventory {
  /// nil when the machine has never run.
  package func runRecord(_ name: MachineName) throws(InventoryError) -> RunRecord? {
    let path = location.runRecord(name)
    guard let text = try FileReading.text(path) else { return nil }
    return try RunRecord(text: text, path: path)
  }

  /// - Parameter isLasting: false: for a moment at which nobody should wait for a disk; `makeRecordLast` follows.
  package func write(
    _ record: RunRecord, _ name: MachineName, isLasting: Bool = true
  ) throws(InventoryError) {
    try changes.write(record.text, to: location.runRecord(name), isLasting: isLasting)
  }

  package func makeRecordLast(_ name: MachineName) throws(InventoryError) {
    try changes.makeLasting(location.runRecord(name))
  }

  /// Why the last run of a machine that does not run now ended badly; nil when it did not.
  package func crashReason(_ name: MachineName) -> String? {
    guard let record = try? runRecord(name) else { return nil }
    if record.ended != nil { return record.isClean ? nil : record.reason ?? "ended badly" }
    if record.boot != RunRecord.currentBoot { return "this computer went down while it ran" }
    guard let words = lastWords(name) else {
      return "host process \(record.process) was killed, or died without a word"
    }
    return "host process \(record.process) died: \(words)"
  }

  /// What the runtime or a library wrote in the host's log at the end of the last run: the first line after our own
  /// ones, which begin with the time.
  private func lastWords(_ name: MachineName) -> String? {
    let lines = FileReading.lastLines(location.hostLog(name), count: 400, limit: 128 << 10)
    let isOurs: (String) -> Bool = { line in
      line.count > 19 && line.prefix(10).split(separator: "-").map(\.count) == [4, 2, 2]
    }
    let end = lines.lastIndex(where: isOurs).map { $0 + 1 } ?? 0
    return lines[end...].first { $0.contains { !$0.isWhitespace } }
  }
}
