/// Makes the state of a device out of a `StateValue`, which may be anything: what does not fit is an error.
package enum StateDecoder {
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from value: StateValue
  ) throws(StateValueError) -> Value {
    do {
      return try ValueDecoder(value: value, codingPath: []).unwrap(type)
    } catch let error as DecodingError {
      throw StateValueError(error.phrase)
    } catch {
      throw StateValueError("\(error)")
    }
  }
}

extension DecodingError {
  /// Where and what, in one phrase.
  fileprivate var phrase: String {
    switch self {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      let place = context.codingPath.map { $0.stringValue }.joined(separator: ".")
      return place.isEmpty ? context.debugDescription : "\(place): \(context.debugDescription)"
    case .keyNotFound(let key, let context):
      let place = (context.codingPath + [key]).map { $0.stringValue }.joined(separator: ".")
      return "\(place) is missing"
    @unknown default: return "\(self)"
    }
  }
}

private struct ValueDecoder: Decoder {
  let value: StateValue
  let codingPath: [any CodingKey]
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func unwrap<Value: Decodable>(_ type: Value.Type) throws -> Value {
    if type == [UInt8].self, case .bytes(let bytes) = value, let result = bytes as? Value {
      return result
    }
    return try Value(from: self)
  }

  func mismatch(_ wanted: String) -> DecodingError {
    .dataCorrupted(.init(codingPath: codingPath, debugDescription: "is not \(wanted)"))
  }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    guard case .map(let members) = value else { throw mismatch("a structure") }
    return KeyedDecodingContainer(KeyedSource<Key>(members, codingPath))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    switch value {
    case .array(let values): return UnkeyedSource(values: values, codingPath: codingPath)
    case .bytes(let bytes):
      return UnkeyedSource(
        values: bytes.map { .unsigned(UInt64($0)) }, codingPath: codingPath)
    default: throw mismatch("a list")
    }
  }

  func singleValueContainer() throws -> any SingleValueDecodingContainer {
    SingleSource(decoder: self)
  }
}

private struct SingleSource: SingleValueDecodingContainer {
  let decoder: ValueDecoder
  var codingPath: [any CodingKey] { decoder.codingPath }

  func decodeNil() -> Bool { decoder.value == .null }

  func decode(_ type: Bool.Type) throws -> Bool {
    guard case .bool(let value) = decoder.value else { throw decoder.mismatch("true or false") }
    return value
  }

  func decode(_ type: String.Type) throws -> String {
    guard case .text(let value) = decoder.value else { throw decoder.mismatch("a text") }
    return value
  }

  func decode(_ type: Double.Type) throws -> Double {
    guard case .double(let value) = decoder.value else { throw decoder.mismatch("a number") }
    return value
  }

  func decode(_ type: Float.Type) throws -> Float { Float(try decode(Double.self)) }

  private func integer<Value: FixedWidthInteger>(_ type: Value.Type) throws -> Value {
    let result: Value? =
      switch decoder.value {
      case .unsigned(let value): Value(exactly: value)
      // ~n is -1 - n.
      case .negative(let value): value <= UInt64(Int64.max) ? Value(exactly: ~Int64(value)) : nil
      default: nil
      }
    guard let result else { throw decoder.mismatch("a number of \(Value.bitWidth) bits") }
    return result
  }

  func decode(_ type: Int.Type) throws -> Int { try integer(type) }
  func decode(_ type: Int8.Type) throws -> Int8 { try integer(type) }
  func decode(_ type: Int16.Type) throws -> Int16 { try integer(type) }
  func decode(_ type: Int32.Type) throws -> Int32 { try integer(type) }
  func decode(_ type: Int64.Type) throws -> Int64 { try integer(type) }
  func decode(_ type: UInt.Type) throws -> UInt { try integer(type) }
  func decode(_ type: UInt8.Type) throws -> UInt8 { try integer(type) }
  func decode(_ type: UInt16.Type) throws -> UInt16 { try integer(type) }
  func decode(_ type: UInt32.Type) throws -> UInt32 { try integer(type) }
  func decode(_ type: UInt64.Type) throws -> UInt64 { try integer(type) }
  func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try decoder.unwrap(type) }
}

private struct UnkeyedSource: UnkeyedDecodingContainer {
  let values: [StateValue]
  let codingPath: [any CodingKey]
  var currentIndex = 0
  var count: Int? { values.count }
  var isAtEnd: Bool { currentIndex >= values.count }

  init(values: [StateValue], codingPath: [any CodingKey]) {
    self.values = values
    self.codingPath = codingPath
  }

  private mutating func next() throws -> ValueDecoder {
    guard !isAtEnd else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: codingPath, debugDescription: "has too few elements"))
    }
    defer { currentIndex += 1 }
    return ValueDecoder(
      value: values[currentIndex], codingPath: codingPath + [StateKey(intValue: currentIndex)])
  }

  mutating func decodeNil() throws -> Bool {
    guard !isAtEnd, values[currentIndex] == .null else { return false }
    currentIndex += 1
    return true
  }

  mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
    try next().unwrap(type)
  }

  mutating func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type
  ) throws -> KeyedDecodingContainer<NestedKey> {
    try next().container(keyedBy: type)
  }

  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    try next().unkeyedContainer()
  }

  mutating func superDecoder() throws -> any Decoder { try next() }
}

private struct KeyedSource<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let members: [String: StateValue]
  let codingPath: [any CodingKey]

  /// Of members of one name the last one counts.
  init(_ members: [StateValue.Member], _ codingPath: [any CodingKey]) {
    self.members = Dictionary(members.map { ($0.key, $0.value) }) { $1 }
    self.codingPath = codingPath
  }

  var allKeys: [Key] { members.keys.compactMap { Key(stringValue: $0) } }
  func contains(_ key: Key) -> Bool { members[key.stringValue] != nil }

  private func source(_ key: any CodingKey) throws -> ValueDecoder {
    guard let value = members[key.stringValue] else {
      throw DecodingError.keyNotFound(
        key, .init(codingPath: codingPath, debugDescription: "is missing"))
    }
    return ValueDecoder(value: value, codingPath: codingPath + [key])
  }

  func decodeNil(forKey key: Key) throws -> Bool { try source(key).value == .null }

  func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
    try source(key).unwrap(type)
  }

  func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<NestedKey> {
    try source(key).container(keyedBy: type)
  }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try source(key).unkeyedContainer()
  }

  func superDecoder() throws -> any Decoder { try source(StateKey("super")) }
  func superDecoder(forKey key: Key) throws -> any Decoder { try source(key) }
}
