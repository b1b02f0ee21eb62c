import StateFile
import Testing

/// Values as bytes and back, and what becomes of bytes that are none.
@Suite struct StateValueTests {
  private struct Sample: Codable, Equatable {
    enum Kind: String, Codable { case one, two }
    enum Choice: Codable, Equatable {
      case number(UInt64)
      case pair(Int8, String)
      case nothing
    }
    struct Part: Codable, Equatable {
      var values: [Int: [UInt8]] = [:]
      var flags: [UInt8: Bool] = [:]
    }
    var bytes: [UInt8] = [0, 1, 255]
    var words: [UInt16] = [7, 65535]
    var low = Int64.min
    var high = UInt64.max
    var small: Int8 = -128
    var text = "grün"
    var missing: Int?
    var present: Int? = -1
    var kind = Kind.two
    var choices: [Choice] = [.number(.max), .pair(-3, "x"), .nothing]
    var part = Part(values: [3: [1, 2], -4: []], flags: [9: true])
    var nested: [[UInt32]?] = [[1, 2], nil, []]
    var ratio = 0.1
  }

  @Test("What is encoded comes back the same, through bytes") func roundTrip() throws {
    let sample = Sample()
    let value = try StateEncoder.encode(sample)
    #expect(value["bytes"] == .bytes([0, 1, 255]))
    let decoded = try StateValue(decoding: value.encoded)
    #expect(decoded == value)
    let result = try StateDecoder.decode(Sample.self, from: decoded)
    #expect(result == sample)
  }

  /// RFC 8949, appendix A.
  @Test(
    "Numbers are as short as they can be",
    arguments: [
      (StateValue.unsigned(23), [0x17]), (.unsigned(24), [0x18, 24]),
      (.unsigned(1000), [0x19, 0x03, 0xE8]), (.unsigned(1_000_000), [0x1A, 0, 0x0F, 0x42, 0x40]),
      (.unsigned(.max), [0x1B] + Array(repeating: 0xFF, count: 8)), (.negative(99), [0x38, 0x63]),
      (.double(1.1), [0xFB, 0x3F, 0xF1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9A]),
      (.array([.bool(true), .null]), [0x82, 0xF5, 0xF6]),
      (.map([.init("a", .bytes([1]))]), [0xA1, 0x61, 0x61, 0x41, 1]),
    ] as [(StateValue, [UInt8])])
  func knownBytes(value: StateValue, bytes: [UInt8]) throws {
    #expect(value.encoded == bytes)
    #expect(try StateValue(decoding: bytes) == value)
  }

  @Test(
    "Counts that are larger than what follows, nesting without end and rests are refused",
    arguments: [
      [0x5B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [0x9A, 0xFF, 0xFF, 0xFF, 0xFF],
      [0xBB, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [0x62, 0xC3, 0x28], [0xA1, 1, 1],
      Array(repeating: 0x81, count: 100_000) + [0], [0, 0], [], [0x1F], [0xC0, 0], [0xF7],
    ] as [[UInt8]])
  func refused(bytes: [UInt8]) {
    #expect(throws: StateValueError.self) { try StateValue(decoding: bytes) }
  }

  @Test("A number that does not fit its place is refused and named") func tooLarge() throws {
    struct Narrow: Codable { var inner: Inner }
    struct Inner: Codable { var value: UInt8 }
    let value = StateValue.map([.init("inner", .map([.init("value", .unsigned(256))]))])
    let error = #expect(throws: StateValueError.self) {
      try StateDecoder.decode(Narrow.self, from: value)
    }
    #expect(error?.description == "inner.value: is not a number of 8 bits")
  }

  @Test("Random bytes never do more than be refused") func randomBytes() throws {
    var generator = SmallGenerator(state: 1)
    let whole = try StateEncoder.encode(Sample()).encoded
    var accepted = 0
    for round in 0..<20_000 {
      var bytes = whole
      if round % 3 == 0 {
        bytes = (0..<Int(generator.next() % 40)).map { _ in
          UInt8(truncatingIfNeeded: generator.next())
        }
      } else {
        for _ in 0...generator.next() % 3 {
          bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(
            truncatingIfNeeded: generator.next())
        }
        if round % 5 == 0 { bytes.removeLast(Int(generator.next() % UInt64(bytes.count))) }
      }
      guard let value = try? StateValue(decoding: bytes) else { continue }
      if (try? StateDecoder.decode(Sample.self, from: value)) != nil { accepted += 1 }
    }
    // A flipped bit in a number gives another number: the checksums are the container's.
    #expect(accepted < 20_000)
  }
}

/// A generator of which a failure can be had again.
struct SmallGenerator: RandomNumberGenerator {
  var state: UInt64

  /// SplitMix64 (Steele, Lea, Flood 2014).
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}
