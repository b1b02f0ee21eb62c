import CLinux

/// Times as the user's clock shows them.
enum ClockTime {
  /// `14:03:59`.
  static func text(_ time: Int64) -> String {
    guard let parts = parts(time) else { return "--:--:--" }
    return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
  }

  /// `2026-11-23 14:03`.
  static func date(_ time: Int64) -> String {
    guard let parts = parts(time) else { return "-" }
    return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
      + " \(two(parts.tm_hour)):\(two(parts.tm_min))"
  }

  private static func parts(_ time: Int64) -> tm? {
    var seconds = time_t(time)
    var parts = tm()
    return localtime_r(&seconds, &parts) == nil ? nil : parts
  }

  private static func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
}
