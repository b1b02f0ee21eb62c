/// Numbers as people read and write them.
package enum Quantity {
  private static let units: [(Character, UInt64)] = [
    ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40),
  ]

  /// Bytes of `512M`, `2G`, `1.5GiB`, `8t`; without a unit mebibytes, as in vmctl. Nil for anything else and for 0.
  package static func bytes(_ text: String) -> UInt64? {
    var word = text.lowercased()
    if word.hasSuffix("ib") { word.removeLast(2) } else if word.hasSuffix("b") { word.removeLast() }
    var unit: UInt64 = 1 << 20
    if let last = word.last, let found = units.first(where: { $0.0 == last }) {
      unit = found.1
      word.removeLast()
    }
    guard word.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }),
      let value = Double(word), value > 0, value * Double(unit) < 9e15
    else { return nil }
    return UInt64(value * Double(unit))
  }

  /// At most five cells: `512M`, `1.5G`, `0`.
  package static func short(_ bytes: UInt64) -> String {
    let letters = ["B", "K", "M", "G", "T", "P", "E"]
    var value = Double(bytes)
    var index = 0
    while value >= 1000, index < letters.count - 1 {
      value /= 1024
      index += 1
    }
    if value >= 10 || index == 0 || value == value.rounded() {
      return "\(Int(value.rounded()))\(letters[index])"
    }
    let tenths = Int((value * 10).rounded())
    return tenths % 10 == 0
      ? "\(tenths / 10)\(letters[index])" : "\(tenths / 10).\(tenths % 10)\(letters[index])"
  }

  /// At most six cells: `12s`, `3m05s`, `4h20m`, `12d3h`.
  package static func duration(_ nanoseconds: UInt64) -> String {
    let seconds = nanoseconds / 1_000_000_000
    func two(_ value: UInt64) -> String { value < 10 ? "0\(value)" : "\(value)" }
    switch seconds {
    case ..<60: return "\(seconds)s"
    case ..<3600: return "\(seconds / 60)m\(two(seconds % 60))s"
    case ..<86400: return "\(seconds / 3600)h\(two(seconds / 60 % 60))m"
    default: return "\(seconds / 86400)d\(seconds / 3600 % 24)h"
    }
  }

  /// `just now`, `5 min ago`, `3 h ago`, `2 days ago`.
  package static func age(of time: Int64, now: Int64) -> String {
    let (difference, overflow) = now.subtractingReportingOverflow(time)
    let seconds = overflow ? 0 : max(0, difference)
    switch seconds {
    case ..<10: return "just now"
    case ..<60: return "\(seconds) s ago"
    case ..<3600: return "\(seconds / 60) min ago"
    case ..<86400: return "\(seconds / 3600) h ago"
    case ..<172_800: return "yesterday"
    default: return "\(seconds / 86400) days ago"
    }
  }

  /// `  7%`, `100%`, `<1%`.
  package static func percent(_ share: Double) -> String {
    guard share.isFinite else { return "-" }
    let value = share * 100
    if value > 0.05, value < 1 { return "<1%" }
    return "\(Int(min(99999, max(0, value)).rounded()))%"
  }
}

extension Quantity {
  /// A count in at most five cells: `0`, `12`, `3.4k`, `12k`, `1.2M`.
  package static func count(_ value: Double) -> String {
    guard value.isFinite, value >= 0 else { return "-" }
    var value = value
    var index = 0
    let letters = ["", "k", "M", "G", "T"]
    while value >= 999.5, index < letters.count - 1 {
      value /= 1000
      index += 1
    }
    if index == 0 || value >= 9.95 { return "\(Int(min(value, 1e15).rounded()))\(letters[index])" }
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)\(letters[index])"
  }
}
