// Terms to bytes: opcodes and encodings of ACPI 6.5, section 20.2.

extension AMLTerm {
  private enum Opcode {
    static let zero: UInt8 = 0x00
    static let one: UInt8 = 0x01
    static let name: UInt8 = 0x08
    static let bytePrefix: UInt8 = 0x0A
    static let wordPrefix: UInt8 = 0x0B
    static let doubleWordPrefix: UInt8 = 0x0C
    static let stringPrefix: UInt8 = 0x0D
    static let quadWordPrefix: UInt8 = 0x0E
    static let scope: UInt8 = 0x10
    static let buffer: UInt8 = 0x11
    static let package: UInt8 = 0x12
    static let method: UInt8 = 0x14
    static let dualName: UInt8 = 0x2E
    static let multiName: UInt8 = 0x2F
    static let extended: UInt8 = 0x5B
    static let local: UInt8 = 0x60
    static let argument: UInt8 = 0x68
    static let store: UInt8 = 0x70
    static let and: UInt8 = 0x7B
    static let or: UInt8 = 0x7D
    static let notify: UInt8 = 0x86
    static let createDoubleWordField: UInt8 = 0x8A
    static let isLess: UInt8 = 0x95
    static let ifCondition: UInt8 = 0xA0
    static let elseBranch: UInt8 = 0xA1
    static let returnValue: UInt8 = 0xA4
    static let ones: UInt8 = 0xFF
  }

  private enum ExtendedOpcode {
    static let operationRegion: UInt8 = 0x80
    static let field: UInt8 = 0x81
    static let device: UInt8 = 0x82
  }

  /// The term in machine language.
  package var encoded: [UInt8] {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return bytes
  }

  func encode(into bytes: inout [UInt8]) {
    switch self {
    case .integer(let value): Self.encode(integer: value, into: &bytes)
    case .string(let text):
      bytes.append(Opcode.stringPrefix)
      bytes.append(contentsOf: text.utf8.filter { (1...0x7F).contains($0) })
      bytes.append(0)
    case .buffer(let content):
      var inner = AMLTerm.integer(UInt64(content.count)).encoded
      inner.append(contentsOf: content)
      bytes.append(Opcode.buffer)
      bytes.append(packaged: inner)
    case .package(let elements):
      precondition(elements.count <= 255, "a package has at most 255 elements")
      bytes.append(Opcode.package)
      bytes.append(packaged: [UInt8(elements.count)] + Self.encoded(elements))
    case .reference(let name): bytes.append(contentsOf: name.encoded)
    case .local(let index): bytes.append(Opcode.local + min(index, 7))
    case .argument(let index): bytes.append(Opcode.argument + min(index, 6))
    case .name, .scope, .device, .method, .operationRegion, .field, .doubleWordField:
      encodeObject(into: &bytes)
    case .store, .and, .or, .isLess, .ifElse, .returnValue, .call, .notify:
      encodeStatement(into: &bytes)
    }
  }

  private func encodeObject(into bytes: inout [UInt8]) {
    switch self {
    case .name(let name, let value):
      bytes.append(Opcode.name)
      bytes.append(contentsOf: name.encoded)
      value.encode(into: &bytes)
    case .scope(let name, let terms):
      bytes.append(Opcode.scope)
      bytes.append(packaged: name.encoded + Self.encoded(terms))
    case .device(let name, let terms):
      bytes.append(contentsOf: [Opcode.extended, ExtendedOpcode.device])
      bytes.append(packaged: name.encoded + Self.encoded(terms))
    case .method(let name, let arguments, let isSerialized, let terms):
      let flags = min(arguments, 7) | (isSerialized ? 1 << 3 : 0)
      bytes.append(Opcode.method)
      bytes.append(packaged: name.encoded + [flags] + Self.encoded(terms))
    case .operationRegion(let name, let space, let offset, let length):
      bytes.append(contentsOf: [Opcode.extended, ExtendedOpcode.operationRegion])
      bytes.append(contentsOf: name.encoded + [space.rawValue])
      Self.encode(integer: offset, into: &bytes)
      Self.encode(integer: length, into: &bytes)
    case .field(let region, let access, let units):
      // Flags: access width, no lock, other bits of a changed word preserved.
      var inner = region.encoded + [access.rawValue]
      for unit in units {
        switch unit {
        case .named(let name, let bits):
          inner.append(contentsOf: name.encoded)
          inner.append(contentsOf: Self.packageLength(bits))
        case .reserved(let bits):
          inner.append(0)
          inner.append(contentsOf: Self.packageLength(bits))
        }
      }
      bytes.append(contentsOf: [Opcode.extended, ExtendedOpcode.field])
      bytes.append(packaged: inner)
    case .doubleWordField(let buffer, let offset, let name):
      bytes.append(Opcode.createDoubleWordField)
      buffer.encode(into: &bytes)
      Self.encode(integer: offset, into: &bytes)
      bytes.append(contentsOf: name.encoded)
    default: break
    }
  }

  private func encodeStatement(into bytes: inout [UInt8]) {
    switch self {
    case .store(let value, let target):
      bytes.append(Opcode.store)
      value.encode(into: &bytes)
      target.encode(into: &bytes)
    case .and(let left, let right):
      bytes.append(Opcode.and)
      left.encode(into: &bytes)
      right.encode(into: &bytes)
      bytes.append(0)  // no target
    case .or(let left, let right):
      bytes.append(Opcode.or)
      left.encode(into: &bytes)
      right.encode(into: &bytes)
      bytes.append(0)
    case .isLess(let left, let right):
      bytes.append(Opcode.isLess)
      left.encode(into: &bytes)
      right.encode(into: &bytes)
    case .ifElse(let condition, let yes, let no):
      bytes.append(Opcode.ifCondition)
      bytes.append(packaged: condition.encoded + Self.encoded(yes))
      if !no.isEmpty {
        bytes.append(Opcode.elseBranch)
        bytes.append(packaged: Self.encoded(no))
      }
    case .returnValue(let value):
      bytes.append(Opcode.returnValue)
      value.encode(into: &bytes)
    case .call(let name, let arguments):
      bytes.append(contentsOf: name.encoded + Self.encoded(arguments))
    case .notify(let name, let value):
      bytes.append(Opcode.notify)
      bytes.append(contentsOf: name.encoded)
      value.encode(into: &bytes)
    default: break
    }
  }

  static func encoded(_ terms: [AMLTerm]) -> [UInt8] {
    terms.reduce(into: []) { $1.encode(into: &$0) }
  }

  private static func encode(integer value: UInt64, into bytes: inout [UInt8]) {
    switch value {
    case 0: bytes.append(Opcode.zero)
    case 1: bytes.append(Opcode.one)
    case .max: bytes.append(Opcode.ones)
    case ...0xFF: bytes.append(contentsOf: [Opcode.bytePrefix, UInt8(value)])
    case ...0xFFFF:
      bytes.append(Opcode.wordPrefix)
      bytes.append(little: UInt16(value))
    case ...0xFFFF_FFFF:
      bytes.append(Opcode.doubleWordPrefix)
      bytes.append(little: UInt32(value))
    default:
      bytes.append(Opcode.quadWordPrefix)
      bytes.append(little: value)
    }
  }

  /// PkgLength of a plain number: fields count bits with it.
  fileprivate static func packageLength(_ value: Int) -> [UInt8] {
    precondition((0..<(1 << 28)).contains(value), "longer than AML can say")
    if value < 1 << 6 { return [UInt8(value)] }
    // Low four bits in the first byte, whose two high bits tell how many more follow.
    var rest = value >> 4
    var following: [UInt8] = []
    while rest > 0 {
      following.append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
    return [UInt8(following.count) << 6 | UInt8(value & 0xF)] + following
  }
}

extension AMLName {
  private static let dualNamePrefix: UInt8 = 0x2E
  private static let multiNamePrefix: UInt8 = 0x2F

  /// NameString: prefixes, then segments of four characters, filled up with underscores.
  var encoded: [UInt8] {
    let prefix = text.prefix { $0 == "\\" || $0 == "^" }
    var bytes = Array(prefix.utf8)
    let segments = text.dropFirst(prefix.count).split(separator: ".")
    switch segments.count {
    case 0: bytes.append(0)
    case 1: break
    case 2: bytes.append(Self.dualNamePrefix)
    default: bytes.append(contentsOf: [Self.multiNamePrefix, UInt8(clamping: segments.count)])
    }
    for segment in segments {
      bytes.append(text: String(segment), count: 4, fill: UInt8(ascii: "_"))
    }
    return bytes
  }
}

extension [UInt8] {
  /// Appends a PkgLength, which counts its own bytes, and the content.
  fileprivate mutating func append(packaged content: [UInt8]) {
    var size = 1
    while AMLTerm.packageLength(content.count + size).count > size { size += 1 }
    append(contentsOf: AMLTerm.packageLength(content.count + size))
    append(contentsOf: content)
  }
}
