// Messages of 9P2000.L (Plan 9 manual, section 5; diod, protocol.md): size, type and tag in front, little-endian fields.

/// Kinds of requests. An answer's number is one more.
enum NinePRequest: UInt8 {
  case statfs = 8
  case open = 12
  case create = 14
  case symlink = 16
  case makeNode = 18
  case rename = 20
  case readLink = 22
  case getAttributes = 24
  case setAttributes = 26
  case walkAttribute = 30
  case createAttribute = 32
  case readFolder = 40
  case synchronize = 50
  case lock = 52
  case getLock = 54
  case link = 70
  case makeFolder = 72
  case renameAt = 74
  case unlinkAt = 76
  case version = 100
  case authenticate = 102
  case attach = 104
  case flush = 108
  case walk = 110
  case read = 116
  case write = 118
  case clunk = 120
  case remove = 122

  static let errorAnswer: UInt8 = 7
}

/// Why a request was refused: an errno of Linux's, which is what the protocol has.
struct NinePError: Error, Equatable {
  var code: Int32
  init(_ code: Int32) { self.code = code }
}

/// Reads a request's fields, none of which is trusted.
struct NinePReader {
  static let headerSize = 7
  private let bytes: [UInt8]
  private var position = headerSize

  let kind: UInt8
  let tag: UInt16

  /// nil: not even a header.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.headerSize else { return nil }
    self.bytes = bytes
    kind = bytes[4]
    tag = UInt16(bytes[5]) | UInt16(bytes[6]) << 8
  }

  mutating func number<Value: FixedWidthInteger & UnsignedInteger>(
    _ type: Value.Type = Value.self
  ) throws(NinePError) -> Value {
    let size = MemoryLayout<Value>.size
    guard bytes.count - position >= size else { throw NinePError(22) }
    var value: Value = 0
    for index in 0..<size { value |= Value(bytes[position + index]) << Value(8 * index) }
    position += size
    return value
  }

  mutating func text() throws(NinePError) -> [UInt8] {
    let count = Int(try number(UInt16.self))
    return try data(count)
  }

  mutating func data(_ count: Int) throws(NinePError) -> [UInt8] {
    guard count >= 0, bytes.count - position >= count else { throw NinePError(22) }
    defer { position += count }
    return Array(bytes[position..<position + count])
  }
}

/// What a file is to the guest: its kind, and a number that no other has.
struct NinePIdentity: Equatable {
  static let folder: UInt8 = 0x80
  static let symbolicLink: UInt8 = 0x02
  static let size = 13

  var kind: UInt8
  var number: UInt64

  func append(to bytes: inout [UInt8]) {
    bytes.append(kind)
    // Versions are for caches that nobody keeps here.
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: number)
  }
}

extension [UInt8] {
  mutating func append(text: [UInt8]) {
    append(littleEndian: UInt16(clamping: text.count))
    append(contentsOf: text.prefix(Int(UInt16.max)))
  }
}
