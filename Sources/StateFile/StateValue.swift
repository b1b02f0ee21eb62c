// Values as bytes: the part of CBOR (RFC 8949) that saved states need. Integers, byte and text strings, arrays, maps with
// text keys, booleans, null and 64-bit floating point, all of definite length.

/// A value of a saved state.
package enum StateValue: Sendable, Equatable {
  case unsigned(UInt64)
  /// -1 - n.
  case negative(UInt64)
  case bytes([UInt8])
  case text(String)
  case array([StateValue])
  /// In the order in which the members were written.
  case map([Member])
  case bool(Bool)
  case null
  case double(Double)

  package struct Member: Sendable, Equatable {
    package var key: String
    package var value: StateValue

    package init(_ key: String, _ value: StateValue) {
      self.key = key
      self.value = value
    }
  }

  package subscript(key: String) -> StateValue? {
    guard case .map(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }
}

/// Why bytes are no value: one phrase.
package struct StateValueError: Error, Equatable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}

// MARK: Writing

extension StateValue {
  /// Major types (RFC 8949, 3.1).
  private enum Major {
    static let unsigned: UInt8 = 0
    static let negative: UInt8 = 1
    static let bytes: UInt8 = 2
    static let text: UInt8 = 3
    static let array: UInt8 = 4
    static let map: UInt8 = 5
    static let simple: UInt8 = 7
  }

  /// The second part of the first byte of what is no number.
  private enum Simple {
    static let no: UInt8 = 0xF4
    static let yes: UInt8 = 0xF5
    static let null: UInt8 = 0xF6
    static let double: UInt8 = 0xFB
  }

  package var encoded: [UInt8] {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return bytes
  }

  private func append(to output: inout [UInt8]) {
    switch self {
    case .unsigned(let value): Self.append(Major.unsigned, value, to: &output)
    case .negative(let value): Self.append(Major.negative, value, to: &output)
    case .bytes(let bytes):
      Self.append(Major.bytes, UInt64(bytes.count), to: &output)
      output += bytes
    case .text(let text):
      Self.append(Major.text, UInt64(text.utf8.count), to: &output)
      output += text.utf8
    case .array(let values):
      Self.append(Major.array, UInt64(values.count), to: &output)
      for value in values { value.append(to: &output) }
    case .map(let members):
      Self.append(Major.map, UInt64(members.count), to: &output)
      for member in members {
        StateValue.text(member.key).append(to: &output)
        member.value.append(to: &output)
      }
    case .bool(let value): output.append(value ? Simple.yes : Simple.no)
    case .null: output.append(Simple.null)
    case .double(let value):
      output.append(Simple.double)
      for shift in stride(from: UInt64(56), through: 0, by: -8) {
        output.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
      }
    }
  }

  /// The first byte and the number, big-endian and as short as it can be.
  private static func append(_ major: UInt8, _ number: UInt64, to output: inout [UInt8]) {
    let first = major << 5
    guard number >= 24 else { return output.append(first | UInt8(number)) }
    // Two to this power of bytes follow.
    let power: UInt8 = number <= 0xFF ? 0 : number <= 0xFFFF ? 1 : number <= 0xFFFF_FFFF ? 2 : 3
    output.append(first | (24 + power))
    let width = UInt64(1) << UInt64(power)
    for index in (0..<width).reversed() {
      output.append(UInt8(truncatingIfNeeded: number >> (8 * index)))
    }
  }
}

// MARK: Reading

extension StateValue {
  /// Takes bytes from anywhere apart: what is no value is an error, and no count makes anything larger than the bytes.
  package init(decoding bytes: [UInt8]) throws(StateValueError) {
    var reader = Reader(bytes: bytes)
    self = try reader.value(depth: 0)
    guard reader.position == bytes.count else {
      throw StateValueError("something stands behind the end")
    }
  }

  private struct Reader {
    let bytes: [UInt8]
    var position = 0

    /// States are not nested deeper; the stack of a thread is.
    static let depthLimit = 64

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func value(depth: Int) throws(StateValueError) -> StateValue {
      guard depth < Self.depthLimit else { throw StateValueError("values are nested too deep") }
      let first = try byte()
      switch first {
      case Simple.no: return .bool(false)
      case Simple.yes: return .bool(true)
      case Simple.null: return .null
      case Simple.double: return .double(Double(bitPattern: try integer(width: 8)))
      default: break
      }
      let number = try number(first & 31)
      switch first >> 5 {
      case Major.unsigned: return .unsigned(number)
      case Major.negative: return .negative(number)
      case Major.bytes: return .bytes([UInt8](try take(number)))
      case Major.text: return .text(try text(number))
      case Major.array:
        // Each element takes a byte at least.
        var values: [StateValue] = []
        values.reserveCapacity(try count(number, each: 1))
        for _ in 0..<number { values.append(try value(depth: depth + 1)) }
        return .array(values)
      case Major.map:
        var members: [Member] = []
        members.reserveCapacity(try count(number, each: 2))
        for _ in 0..<number {
          let key = try byte()
          guard key >> 5 == Major.text else { throw StateValueError("a member has no name") }
          let name = try text(try self.number(key & 31))
          members.append(Member(name, try value(depth: depth + 1)))
        }
        return .map(members)
      default: throw StateValueError("a value is of no known kind")
      }
    }

    private mutating func byte() throws(StateValueError) -> UInt8 {
      guard position < bytes.count else { throw StateValueError("it ends too early") }
      defer { position += 1 }
      return bytes[position]
    }

    private mutating func number(_ code: UInt8) throws(StateValueError) -> UInt64 {
      switch code {
      case 0..<24: return UInt64(code)
      case 24: return try integer(width: 1)
      case 25: return try integer(width: 2)
      case 26: return try integer(width: 4)
      case 27: return try integer(width: 8)
      default: throw StateValueError("a length is not given")
      }
    }

    private mutating func integer(width: Int) throws(StateValueError) -> UInt64 {
      var value: UInt64 = 0
      for _ in 0..<width { value = value << 8 | UInt64(try byte()) }
      return value
    }

    private func count(_ number: UInt64, each size: UInt64) throws(StateValueError) -> Int {
      guard number <= UInt64(bytes.count - position) / size else {
        throw StateValueError("a count is larger than what follows")
      }
      return Int(number)
    }

    private mutating func take(_ number: UInt64) throws(StateValueError) -> ArraySlice<UInt8> {
      let length = try count(number, each: 1)
      defer { position += length }
      return bytes[position..<position + length]
    }

    private mutating func text(_ number: UInt64) throws(StateValueError) -> String {
      guard let text = String(validating: try take(number), as: UTF8.self) else {
        throw StateValueError("a text is not UTF-8")
      }
      return text
    }
  }
}
