/// Sizes as people write them: `512M`, `10G`; K, M, G and T are powers of 1024, a bare number is bytes.
package enum ByteSize {
  private static let units: [(suffix: Character, shift: UInt64)] = [
    ("T", 40), ("G", 30), ("M", 20), ("K", 10),
  ]

  /// nil when the text is no size or does not fit in 63 bits.
  package static func parse(_ text: String) -> UInt64? {
    var digits = Substring(text)
    if let last = digits.last, last == "B" || last == "b", digits.count > 1 {
      digits.removeLast()
      if digits.last == "i" { digits.removeLast() }
    }
    var shift: UInt64 = 0
    if let last = digits.last?.uppercased().first,
      let unit = units.first(where: { $0.suffix == last })
    {
      shift = unit.shift
      digits.removeLast()
    }
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }),
      let number = UInt64(digits)
    else { return nil }
    let (value, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    return overflow || value > UInt64(Int64.max) ? nil : value
  }

  /// Exact, with the largest unit that divides the value: 268435456 is `256M`.
  package static func format(_ bytes: UInt64) -> String {
    for unit in units where bytes != 0 && bytes % (1 << unit.shift) == 0 {
      return "\(bytes >> unit.shift)\(unit.suffix)"
    }
    return "\(bytes)"
  }

  /// Rounded for a column: `1.5G`, `256M`.
  package static func formatRounded(_ bytes: UInt64) -> String {
    for unit in units where bytes >= (1 << unit.shift) {
      let whole = bytes >> unit.shift
      let tenth = ((bytes & ((1 << unit.shift) - 1)) * 10) >> unit.shift
      return whole >= 10 || tenth == 0
        ? "\(whole)\(unit.suffix)" : "\(whole).\(tenth)\(unit.suffix)"
    }
    return "\(bytes)"
  }
}
