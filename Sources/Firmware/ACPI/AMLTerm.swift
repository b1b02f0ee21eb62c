// ACPI machine language as a tree of terms (ACPI 6.5, chapter 20). Only what a machine's description needs.

/// A name in the ACPI namespace, such as `\_SB.PCI0` or `^PRQ0`. Written in the program, never taken from outside.
package struct AMLName: Sendable, Equatable, ExpressibleByStringLiteral {
  let text: String

  package init(stringLiteral value: String) { self.init(value) }

  package init(_ text: String) {
    self.text = text
    precondition(Self.isValid(text), "no ACPI name: \(text)")
  }

  private static func isValid(_ text: String) -> Bool {
    let path = text.drop { $0 == "\\" || $0 == "^" }
    if path.isEmpty { return !text.isEmpty }
    return path.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { segment in
      (1...4).contains(segment.utf8.count)
        && segment.utf8.enumerated().allSatisfy { index, byte in
          switch byte {
          case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"): true
          case UInt8(ascii: "0")...UInt8(ascii: "9"): index > 0
          default: false
          }
        }
    }
  }
}

/// One term. Integers take the shortest encoding.
package indirect enum AMLTerm: Sendable {
  // Data
  case integer(UInt64)
  case string(String)
  case buffer([UInt8])
  case package([AMLTerm])
  case reference(AMLName)
  case local(UInt8)
  case argument(UInt8)

  // Named objects
  case name(AMLName, AMLTerm)
  case scope(AMLName, [AMLTerm])
  case device(AMLName, [AMLTerm])
  case method(AMLName, arguments: UInt8 = 0, isSerialized: Bool = false, [AMLTerm])
  case operationRegion(AMLName, AMLRegionSpace, offset: UInt64, length: UInt64)
  case field(AMLName, AMLFieldAccess, [AMLFieldUnit])
  /// CreateDWordField: a 32-bit integer inside a buffer, as a name.
  case doubleWordField(of: AMLTerm, at: UInt64, AMLName)

  // Statements and expressions
  case store(AMLTerm, in: AMLTerm)
  case and(AMLTerm, AMLTerm)
  case or(AMLTerm, AMLTerm)
  case isLess(AMLTerm, AMLTerm)
  case ifElse(AMLTerm, [AMLTerm], else: [AMLTerm] = [])
  case returnValue(AMLTerm)
  case call(AMLName, [AMLTerm])
  case notify(AMLName, AMLTerm)

  /// A 7-character identifier such as PNP0A03, compressed to 32 bits (section 19.3.4).
  package static func identifier(_ text: StaticString) -> AMLTerm {
    let bytes = text.withUTF8Buffer { [UInt8]($0) }
    precondition(bytes.count == 7, "an EISA identifier has 7 characters")
    func hexadecimal(_ byte: UInt8) -> UInt32 {
      UInt32(byte <= UInt8(ascii: "9") ? byte - UInt8(ascii: "0") : byte - UInt8(ascii: "A") + 10)
    }
    var value: UInt32 = 0
    for byte in bytes[..<3] { value = value << 5 | UInt32(byte - 0x40) }
    for byte in bytes[3...] { value = value << 4 | hexadecimal(byte) }
    return .integer(UInt64(value.byteSwapped))
  }
}

package enum AMLRegionSpace: UInt8, Sendable {
  case systemMemory = 0
  case systemIO = 1
  case pciConfiguration = 2
}

package enum AMLFieldAccess: UInt8, Sendable {
  case any = 0
  case byte = 1
  case word = 2
  case doubleWord = 3
}

package enum AMLFieldUnit: Sendable {
  case named(AMLName, bits: Int)
  case reserved(bits: Int)
}
