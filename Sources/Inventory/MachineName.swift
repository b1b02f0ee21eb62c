/// A machine's name: also the name of its folders, so it must be harmless as one.
///
/// 1 to 63 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`.
package struct MachineName: Hashable, Sendable, Comparable, CustomStringConvertible {
  package let description: String
  package static let maximumLength = 63

  package init(_ text: String) throws(InventoryError) {
    guard !text.isEmpty else { throw InventoryError(.invalid, "a machine's name is empty") }
    let shown = text.utf8.count > 80 ? "\(text.prefix(60))..." : text
    guard text.utf8.count <= Self.maximumLength else {
      throw InventoryError(
        .invalid, "\(printable(shown)): a name has at most \(Self.maximumLength) characters")
    }
    guard text.utf8.allSatisfy(Self.isAllowed) else {
      throw InventoryError(
        .invalid, "\(printable(shown)): a name consists of letters, digits and . _ - only")
    }
    guard !text.hasPrefix("."), !text.hasPrefix("-") else {
      throw InventoryError(.invalid, "\(shown): a name does not start with . or -")
    }
    description = text
  }

  package static func < (left: MachineName, right: MachineName) -> Bool {
    left.description < right.description
  }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
      UInt8(ascii: "-"):
      true
    default: false
    }
  }
}

/// The text with control characters made visible, fit for a one-line message on a terminal.
package func printable(_ text: some StringProtocol) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    if scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) {
      result += "?"
    } else {
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}
