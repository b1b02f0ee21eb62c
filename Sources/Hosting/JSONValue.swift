/// A value of JSON (RFC 8259), as the control protocol carries it. Foundation's coders would cost every `uj` several
/// milliseconds at its start and every host process memory.
package enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int64)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  package subscript(key: String) -> JSONValue? {
    if case .object(let members) = self { members[key] } else { nil }
  }
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var integer: Int64? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int64(exactly: value)
    default: nil
    }
  }
  package var number: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
  package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }

  /// 64-bit counters beyond JSON's signed range do not occur in practice; they are held at its end.
  package static func unsigned(_ value: some FixedWidthInteger) -> JSONValue {
    .integer(Int64(clamping: value))
  }

  package static func optional<Value>(_ value: Value?, _ body: (Value) -> JSONValue) -> JSONValue {
    value.map(body) ?? .null
  }

  /// One line, members in the order of their names.
  package var text: String {
    var text = ""
    write(to: &text, indentation: nil)
    return text
  }

  /// Several lines, for people.
  package var prettyText: String {
    var text = ""
    write(to: &text, indentation: 0)
    return text
  }

  private func write(to text: inout String, indentation: Int?) {
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .integer(let value): text += String(value)
    case .number(let value): text += value.isFinite ? "\(value)" : "null"
    case .string(let value): Self.write(value, to: &text)
    case .array(let values):
      Self.write("[", "]", values, to: &text, indentation) { value, text, deeper in
        value.write(to: &text, indentation: deeper)
      }
    case .object(let members):
      let sorted = members.sorted { $0.key < $1.key }
      Self.write("{", "}", sorted, to: &text, indentation) { member, text, deeper in
        Self.write(member.key, to: &text)
        text += deeper == nil ? ":" : ": "
        member.value.write(to: &text, indentation: deeper)
      }
    }
  }

  private static func write<Element>(
    _ open: String, _ close: String, _ elements: [Element], to text: inout String,
    _ indentation: Int?, _ element: (Element, inout String, Int?) -> Void
  ) {
    text += open
    let deeper = indentation.map { $0 + 2 }
    for (index, value) in elements.enumerated() {
      if index > 0 { text += "," }
      if let deeper { text += "\n" + String(repeating: " ", count: deeper) }
      element(value, &text, deeper)
    }
    if let indentation, !elements.isEmpty {
      text += "\n" + String(repeating: " ", count: indentation)
    }
    text += close
  }

  private static func write(_ string: String, to text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      default:
        if scalar.value < 0x20 || scalar.value == 0x7F {
          let digits = String(scalar.value, radix: 16)
          text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          text.unicodeScalars.append(scalar)
        }
      }
    }
    text += "\""
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral,
  ExpressibleByNilLiteral
{
  package init(stringLiteral value: String) { self = .string(value) }
  package init(integerLiteral value: Int64) { self = .integer(value) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(nilLiteral: ()) { self = .null }
  package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements, uniquingKeysWith: { $1 }))
  }
}
