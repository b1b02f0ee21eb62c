/// Turns the `Codable` state of a device into a `StateValue`.
package enum StateEncoder {
  package static func encode<Value: Encodable>(_ value: Value) throws -> StateValue {
    try Node.of(value, path: [])
  }
}

/// A value that grows while it is encoded: containers of `Encoder` are handles of it.
private final class Node {
  enum Content {
    case empty
    case value(StateValue)
    case array([Node])
    case map([(key: String, node: Node)])
  }
  var content = Content.empty

  static func of<Value: Encodable>(
    _ value: Value, path: [any CodingKey]
  ) throws -> StateValue {
    let node = Node()
    try node.fill(value, path: path)
    return node.finished
  }

  /// Byte strings are themselves and not lists of numbers: they are most of a state.
  func fill<Value: Encodable>(_ value: Value, path: [any CodingKey]) throws {
    if let bytes = value as? [UInt8] {
      content = .value(.bytes(bytes))
    } else {
      try value.encode(to: NodeEncoder(node: self, codingPath: path))
    }
  }

  var finished: StateValue {
    switch content {
    case .empty: .map([])
    case .value(let value): value
    case .array(let nodes): .array(nodes.map(\.finished))
    case .map(let members): .map(members.map { StateValue.Member($0.key, $0.node.finished) })
    }
  }

  func appendElement() -> Node {
    let node = Node()
    var nodes: [Node] = []
    if case .array(let present) = content { nodes = present }
    content = .empty
    nodes.append(node)
    content = .array(nodes)
    return node
  }

  func setMember(_ key: String) -> Node {
    let node = Node()
    var members: [(key: String, node: Node)] = []
    if case .map(let present) = content { members = present }
    content = .empty
    members.append((key, node))
    content = .map(members)
    return node
  }

  var elementCount: Int {
    if case .array(let nodes) = content { nodes.count } else { 0 }
  }
}

private struct NodeEncoder: Encoder {
  let node: Node
  let codingPath: [any CodingKey]
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    if case .map = node.content {} else { node.content = .map([]) }
    return KeyedEncodingContainer(KeyedContainer<Key>(node: node, codingPath: codingPath))
  }

  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    if case .array = node.content {} else { node.content = .array([]) }
    return UnkeyedContainer(node: node, codingPath: codingPath)
  }

  func singleValueContainer() -> any SingleValueEncodingContainer {
    SingleContainer(node: node, codingPath: codingPath)
  }
}

private struct SingleContainer: SingleValueEncodingContainer {
  let node: Node
  let codingPath: [any CodingKey]

  private func put(_ value: StateValue) { node.content = .value(value) }
  private func put(signed value: Int64) {
    put(value >= 0 ? .unsigned(UInt64(value)) : .negative(UInt64(bitPattern: ~value)))
  }

  func encodeNil() { put(.null) }
  func encode(_ value: Bool) { put(.bool(value)) }
  func encode(_ value: String) { put(.text(value)) }
  func encode(_ value: Double) { put(.double(value)) }
  func encode(_ value: Float) { put(.double(Double(value))) }
  func encode(_ value: Int) { put(signed: Int64(value)) }
  func encode(_ value: Int8) { put(signed: Int64(value)) }
  func encode(_ value: Int16) { put(signed: Int64(value)) }
  func encode(_ value: Int32) { put(signed: Int64(value)) }
  func encode(_ value: Int64) { put(signed: value) }
  func encode(_ value: UInt) { put(.unsigned(UInt64(value))) }
  func encode(_ value: UInt8) { put(.unsigned(UInt64(value))) }
  func encode(_ value: UInt16) { put(.unsigned(UInt64(value))) }
  func encode(_ value: UInt32) { put(.unsigned(UInt64(value))) }
  func encode(_ value: UInt64) { put(.unsigned(value)) }
  func encode<Value: Encodable>(_ value: Value) throws { try node.fill(value, path: codingPath) }
}

private struct UnkeyedContainer: UnkeyedEncodingContainer {
  let node: Node
  let codingPath: [any CodingKey]
  var count: Int { node.elementCount }

  func encodeNil() { node.appendElement().content = .value(.null) }

  func encode<Value: Encodable>(_ value: Value) throws {
    try node.appendElement().fill(value, path: codingPath)
  }

  func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type
  ) -> KeyedEncodingContainer<NestedKey> {
    NodeEncoder(node: node.appendElement(), codingPath: codingPath).container(keyedBy: type)
  }

  func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
    NodeEncoder(node: node.appendElement(), codingPath: codingPath).unkeyedContainer()
  }

  func superEncoder() -> any Encoder {
    NodeEncoder(node: node.appendElement(), codingPath: codingPath)
  }
}

private struct KeyedContainer<Key: CodingKey>: KeyedEncodingContainerProtocol {
  let node: Node
  let codingPath: [any CodingKey]

  func encodeNil(forKey key: Key) { node.setMember(key.stringValue).content = .value(.null) }

  func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws {
    try node.setMember(key.stringValue).fill(value, path: codingPath + [key])
  }

  private func nested(_ key: any CodingKey) -> NodeEncoder {
    NodeEncoder(node: node.setMember(key.stringValue), codingPath: codingPath + [key])
  }

  func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type, forKey key: Key
  ) -> KeyedEncodingContainer<NestedKey> {
    nested(key).container(keyedBy: type)
  }

  func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
    nested(key).unkeyedContainer()
  }

  func superEncoder() -> any Encoder { nested(StateKey("super")) }
  func superEncoder(forKey key: Key) -> any Encoder { nested(key) }
}

/// A member's name, or an element's place.
struct StateKey: CodingKey {
  var stringValue: String
  var intValue: Int?

  init(_ text: String) { stringValue = text }
  init(stringValue: String) { self.stringValue = stringValue }
  init(intValue: Int) {
    stringValue = "\(intValue)"
    self.intValue = intValue
  }
}
