// A machine on its way to another host, as a stream of bytes in each direction. Each begins with a greeting:
//
//   0   magic, 16 bytes
//  16   version, 32 bits
//
// and goes on with frames:
//
//   0   kind, see `MoveFrame.Kind`
//   1   which disk or file, where the kind is of one; else 0
//   2   zeros
//   4   bytes of content, 32 bits
//   8   a place or a number, 64 bits
//  16   CRC-32C of the 16 bytes before and the content
//  20   content
//
// All integers are little-endian. Nothing in a stream makes the reader keep more than one frame.
import CChecksum

/// What stands before a frame's content.
package struct MoveFrame: Sendable, Equatable {
  package enum Kind: UInt8, Sendable, CaseIterable {
    /// Sender: what the machine is, a `StateValue`.
    case machine = 1
    /// Sender: memory from `place`.
    case memory = 2
    /// Sender: zeros of memory from `place`; the content is their number.
    case memoryZeros = 3
    /// Sender: content of disk `part` from `place`.
    case disk = 4
    /// Sender: zeros of disk `part` from `place`; the content is their number.
    case diskZeros = 5
    /// Sender: content of file `part` from `place`.
    case file = 6
    /// Sender: tell me when all before this is there. `place` is a number to answer with.
    case synchronize = 7
    /// Sender: a part of the manifest, from `place`.
    case manifest = 8
    /// Sender: the guest stands still, and that was all. `place` is the manifest's size.
    case complete = 9
    /// Sender: it is yours. From here on the sender never runs the machine unless it hears `failed`.
    case handOver = 10
    /// Sender: nothing comes of it; the content says why.
    case withdrawn = 11

    /// Receiver: go on, there is room for this machine.
    case accepted = 32
    /// Receiver: all before `synchronize` is there.
    case synchronized = 33
    /// Receiver: `complete` was; nothing can go wrong any more but the start.
    case ready = 34
    /// Receiver: the machine runs here, and that lasts.
    case runs = 35
    /// Receiver: nothing runs here and nothing will; the content says why.
    case failed = 36
    /// Receiver: the guest executes here; `runs` or `failed` follows.
    case executes = 37
  }

  package var kind: Kind
  package var part: UInt8
  package var place: UInt64
  /// Bytes of content.
  package var count: Int

  package static let version: UInt32 = 2
  static let magic: [UInt8] = Array("Underjack moves\n".utf8)
  static let greetingSize = 20
  static let headerSize = 20
  /// Bytes of content at most.
  package static let contentLimit = 1 << 20

  static var greeting: [UInt8] {
    magic + (0..<4).map { UInt8(truncatingIfNeeded: version >> (8 * UInt32($0))) }
  }

  /// - Parameter bytes: of a greeting's size.
  static func check(greeting bytes: UnsafeRawBufferPointer) throws(MoveError) {
    guard bytes.count == greetingSize, bytes.prefix(magic.count).elementsEqual(magic) else {
      throw .stranger(String(decoding: bytes.prefix { $0 >= 0x20 && $0 < 0x7F }, as: UTF8.self))
    }
    let version = UInt32(
      littleEndian: bytes.loadUnaligned(fromByteOffset: magic.count, as: UInt32.self))
    guard version == Self.version else { throw .otherVersion(version) }
  }

  /// Writes what stands before the content, which is in `bytes` already.
  func encode(into bytes: UnsafeMutableRawBufferPointer) {
    bytes.storeBytes(of: kind.rawValue, toByteOffset: 0, as: UInt8.self)
    bytes.storeBytes(of: part, toByteOffset: 1, as: UInt8.self)
    bytes.storeBytes(of: 0, toByteOffset: 2, as: UInt16.self)
    bytes.storeBytes(of: UInt32(count).littleEndian, toByteOffset: 4, as: UInt32.self)
    bytes.storeBytes(of: place.littleEndian, toByteOffset: 8, as: UInt64.self)
    bytes.storeBytes(of: Self.sum(bytes, count).littleEndian, toByteOffset: 16, as: UInt32.self)
  }

  /// Reads what stands before the content: nothing of it is believed before `checkSum`.
  init(_ bytes: UnsafeRawBufferPointer) throws(MoveError) {
    guard bytes.count >= Self.headerSize,
      let kind = Kind(rawValue: bytes.loadUnaligned(fromByteOffset: 0, as: UInt8.self)),
      bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self) == 0
    else { throw .damaged("a frame is of no known kind") }
    let count = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    guard count <= UInt32(Self.contentLimit) else {
      throw .damaged("a frame is larger than frames can be")
    }
    self.init(
      kind: kind, part: bytes.loadUnaligned(fromByteOffset: 1, as: UInt8.self),
      place: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
      count: Int(count))
  }

  package init(kind: Kind, part: UInt8 = 0, place: UInt64 = 0, count: Int = 0) {
    self.kind = kind
    self.part = part
    self.place = place
    self.count = count
  }

  /// - Parameter bytes: a whole frame.
  func checkSum(_ bytes: UnsafeRawBufferPointer) throws(MoveError) {
    let stated = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
    guard stated == Self.sum(bytes, count) else {
      throw .damaged("a frame does not have its checksum")
    }
  }

  private static func sum(_ bytes: UnsafeRawBufferPointer, _ count: Int) -> UInt32 {
    let head = checksum_crc32c(0, bytes.baseAddress, 16)
    return checksum_crc32c(head, bytes.baseAddress.map { $0 + headerSize }, count)
  }

  private static func sum(_ bytes: UnsafeMutableRawBufferPointer, _ count: Int) -> UInt32 {
    sum(UnsafeRawBufferPointer(bytes), count)
  }
}
