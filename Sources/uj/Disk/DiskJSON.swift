// JSON for programs, without Foundation: a value and its text.

/// A JSON value. Objects keep their order.
indirect enum DiskJSON {
  case null
  case boolean(Bool)
  case number(UInt64)
  case text(String)
  case array([DiskJSON])
  case object([(String, DiskJSON)])

  static func optional(_ text: String?) -> DiskJSON { text.map { .text($0) } ?? .null }

  /// On one line.
  var encoded: String {
    switch self {
    case .null: return "null"
    case .boolean(let value): return value ? "true" : "false"
    case .number(let value): return "\(value)"
    case .text(let value): return Self.quoted(value)
    case .array(let values): return "[" + values.map(\.encoded).joined(separator: ", ") + "]"
    case .object(let fields):
      return "{"
        + fields.map { "\(Self.quoted($0.0)): \($0.1.encoded)" }.joined(separator: ", ") + "}"
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case _ where scalar.value < 32:
        let hex = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

/// Bytes for a person: three digits and a unit.
func readableSize(_ bytes: UInt64) -> String {
  var value = Double(bytes)
  for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
    if value < 1000 || unit == "TiB" {
      if unit == "B" { return "\(bytes) B" }
      let tenths = (value * 10).rounded()
      return value < 100
        ? "\(Int(tenths) / 10).\(Int(tenths) % 10) \(unit)" : "\(Int(value.rounded())) \(unit)"
    }
    value /= 1024
  }
  return "\(bytes) B"
}
