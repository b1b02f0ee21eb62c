import CLinux
import Platform

/// Names of crash reports: they stand in the machine's log folder, and their order is that of time.
package enum MachineCrash {
  static let prefix = "crash-"
  static let suffix = ".txt"
  /// Reports of a machine that are kept.
  static let limit = 8

  /// `2026-11-23T23-24-26Z`.
  package static func stamp(_ seconds: Int64 = Int64(time(nil))) -> String {
    var moment = time_t(seconds)
    var parts = tm()
    gmtime_r(&moment, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H-%M-%SZ", &parts)
    return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
}

extension Inventory {
  /// The path of a report that is to be written now; makes room for it.
  package func newCrashReport(_ name: MachineName) -> String {
    let folder = location.log(name)
    for old in crashReports(name).dropLast(MachineCrash.limit - 1) { unlink("\(folder)/\(old)") }
    let start = "\(folder)/\(MachineCrash.prefix)\(MachineCrash.stamp())"
    let number = (0..<9).first { !FileReading.exists("\(start)-\($0)\(MachineCrash.suffix)") } ?? 9
    return "\(start)-\(number)\(MachineCrash.suffix)"
  }

  package func writeCrashReport(_ text: String, to path: String) throws(InventoryError) {
    try changes.write(text, to: path)
  }

  /// The newest report of the machine's last run; nil when that has left none.
  package func crashReport(_ name: MachineName) -> String? {
    guard let record = try? runRecord(name), let newest = crashReports(name).last,
      newest >= MachineCrash.prefix + MachineCrash.stamp(record.started)
    else { return nil }
    return "\(location.log(name))/\(newest)"
  }

  private func crashReports(_ name: MachineName) -> [String] {
    ((try? FileReading.entries(of: location.log(name))) ?? [])
      .filter { $0.hasPrefix(MachineCrash.prefix) && $0.hasSuffix(MachineCrash.suffix) }.sorted()
  }
}
