// Descriptors of the transmit ring (Intel 317453, 3.3): old ones that are a buffer each, and the two kinds of new ones,
// context and data, by which a driver leaves checksums and segmentation to the adapter.

import CLinux
import GuestMemory

/// What goes on between descriptors.
struct E1000Transmitter: Sendable {
  enum Result: Sendable {
    /// Nothing to do.
    case idle
    /// Descriptors were used up without the end of a frame.
    case more
    /// A frame that cannot be.
    case refused
    case frame(Int, NetworkHeader)
  }

  private enum Command {
    static let endOfPacket: UInt8 = 1 << 0
    /// Old descriptors: a checksum; new ones: segmentation.
    static let checksum: UInt8 = 1 << 2
    static let segmentation: UInt8 = 1 << 2
    static let reportStatus: UInt8 = 1 << 3
    static let extended: UInt8 = 1 << 5
    static let tag: UInt8 = 1 << 6
  }

  /// A context: where checksums stand and how large segments are.
  struct Context: Codable, Sendable, Equatable {
    var networkStart = 0
    var networkChecksum = 0
    var networkEnd = 0
    var transportStart = 0
    var transportChecksum = 0
    var headerLength = 0
    var segmentSize = 0
    var isTCP = false
    var isVersion4 = false

    /// Whether a saved context is one: a descriptor has no more than 16 bits for any of its places.
    var isSound: Bool {
      [
        networkStart, networkChecksum, networkEnd, transportStart, transportChecksum, headerLength,
        segmentSize,
      ].allSatisfy { (0...0xFFFF).contains($0) }
    }
  }

  private(set) var context = Context()
  private var count = 0
  private var isTooLong = false
  private var options: UInt8 = 0
  private var isSegmented = false
  private var tag: UInt16?

  init() {}
  init(_ context: Context) { self.context = context }

  /// Takes descriptors up to the end of a frame.
  mutating func take(
    _ registers: inout E1000Registers, _ memory: GuestMemory,
    into frame: UnsafeMutableRawBufferPointer, limit: Int
  ) -> Result {
    typealias Offset = E1000Registers.Offset
    guard registers[Offset.transmitControl] & 2 != 0,
      var ring = E1000Ring(registers, at: Offset.transmitRing), ring.head != ring.tail
    else { return .idle }
    var result = Result.more
    var steps = 0
    while ring.head != ring.tail, steps < limit, case .more = result {
      guard let (place, low, high) = ring.load(memory) else {
        // A ring outside RAM: nothing in it can be.
        ring.head = ring.tail
        result = .refused
        break
      }
      result = take(low, high, memory, frame, tagType: registers.tagType)
      let command = UInt8(truncatingIfNeeded: high >> 24)
      if command & Command.reportStatus != 0 {
        memory.store(high | 1 << 32, at: GuestAddress(place &+ 8))
        registers.raise(.transmitDone)
      }
      ring.advance()
      steps += 1
    }
    registers[Offset.transmitRing + E1000Registers.Ring.head] = ring.head
    if ring.head == ring.tail { registers.raise(.transmitEmpty) }
    if case .frame(let size, _) = result {
      typealias Count = E1000Registers.Count
      registers.count(Count.sent)
      registers.count(Count.totalSent)
      registers.count(Count.octetsSent, UInt32(size), isWide: true)
      registers.count(Count.totalOctetsSent, UInt32(size), isWide: true)
    }
    return result
  }

  private mutating func take(
    _ low: UInt64, _ high: UInt64, _ memory: GuestMemory,
    _ frame: UnsafeMutableRawBufferPointer, tagType: UInt16
  ) -> Result {
    let command = UInt8(truncatingIfNeeded: high >> 24)
    let isExtended = command & Command.extended != 0
    if isExtended && high >> 20 & 0xF == 0 {
      setContext(low, high)
      return .more
    }
    if isExtended && count == 0 {
      options = UInt8(truncatingIfNeeded: high >> 40)
      isSegmented = command & Command.segmentation != 0
    }
    gather(low, Int(high & (isExtended ? 0xF_FFFF : 0xFFFF)), memory, frame)
    if command & Command.tag != 0 { tag = UInt16(truncatingIfNeeded: high >> 48) }
    guard command & Command.endOfPacket != 0 else { return .more }
    defer { (count, isTooLong, options, isSegmented, tag) = (0, false, 0, false, nil) }
    guard !isTooLong, count > 0 else { return .refused }
    var header = NetworkHeader()
    if isExtended {
      guard let wanted = finish(frame) else { return .refused }
      header = wanted
    } else if command & Command.checksum != 0 {
      addChecksum(frame, start: Int(high >> 40 & 0xFF), place: Int(high >> 16 & 0xFF), end: 0)
    }
    if let tag { insert(tag, tagType, frame, &header) }
    return .frame(count, header)
  }

  /// Buffers outside RAM send nothing of what they should; the frame is lost.
  private mutating func gather(
    _ address: UInt64, _ length: Int, _ memory: GuestMemory,
    _ frame: UnsafeMutableRawBufferPointer
  ) {
    // Room for a tag is kept.
    guard !isTooLong, length <= frame.count - 4 - count,
      let source = memory.pointer(at: GuestAddress(address), count: UInt64(length)),
      let target = frame.baseAddress
    else {
      if length > 0 { isTooLong = true }
      return
    }
    (target + count).copyMemory(from: source, byteCount: length)
    count += length
  }

  private mutating func setContext(_ low: UInt64, _ high: UInt64) {
    let command = UInt8(truncatingIfNeeded: high >> 24)
    context = Context(
      networkStart: Int(low & 0xFF), networkChecksum: Int(low >> 8 & 0xFF),
      networkEnd: Int(low >> 16 & 0xFFFF), transportStart: Int(low >> 32 & 0xFF),
      transportChecksum: Int(low >> 40 & 0xFF), headerLength: Int(high >> 40 & 0xFF),
      segmentSize: Int(high >> 48), isTCP: command & 1 != 0, isVersion4: command & 2 != 0)
  }

  // MARK: Checksums and segments

  /// Carries out what the first data descriptor asks for, as far as the other end of the cable does not.
  private func finish(_ frame: UnsafeMutableRawBufferPointer) -> NetworkHeader? {
    var header = NetworkHeader()
    if isSegmented {
      guard context.isTCP, context.segmentSize > 0, context.headerLength < count,
        fixLengths(frame)
      else { return nil }
    }
    if options & 1 != 0 || isSegmented && context.isVersion4 {
      addChecksum(
        frame, start: context.networkStart, place: context.networkChecksum,
        end: context.networkEnd)
    }
    guard options & 2 != 0 || isSegmented else { return header }
    guard context.transportChecksum >= context.transportStart,
      context.transportChecksum + 2 <= count
    else { return nil }
    header.needsChecksum = true
    header.checksumStart = UInt16(context.transportStart)
    header.checksumOffset = UInt16(context.transportChecksum - context.transportStart)
    guard isSegmented, count > context.headerLength + context.segmentSize else { return header }
    header.segmentation = context.isVersion4 ? .tcp4 : .tcp6
    header.segmentSize = UInt16(context.segmentSize)
    header.headerLength = UInt16(context.headerLength)
    return header
  }

  /// The driver leaves the packet's length out of a frame that is to be cut (3.5.6): of the IP header, and of the sum
  /// over the pseudo header.
  private func fixLengths(_ frame: UnsafeMutableRawBufferPointer) -> Bool {
    let start = context.networkStart
    guard context.transportChecksum + 2 <= count, context.transportStart < count,
      start + (context.isVersion4 ? 20 : 40) <= count
    else { return false }
    let addresses: Range<Int>
    if context.isVersion4 {
      put(UInt16(truncatingIfNeeded: count - start), frame, start + 2)
      put(0, frame, context.networkChecksum + 2 <= count ? context.networkChecksum : start + 10)
      addresses = start + 12..<start + 20
    } else {
      put(UInt16(truncatingIfNeeded: count - start - 40), frame, start + 4)
      addresses = start + 8..<start + 40
    }
    let length = UInt32(count - context.transportStart)
    let sum = InternetChecksum.sum(
      UnsafeRawBufferPointer(rebasing: frame[addresses]), 6 + length)
    put(sum, frame, context.transportChecksum)
    return true
  }

  /// The checksum over `start` to `end` (inclusive; 0: all) goes to `place`, as the hardware does it: anywhere.
  private func addChecksum(
    _ frame: UnsafeMutableRawBufferPointer, start: Int, place: Int, end: Int
  ) {
    let last = end == 0 || end >= count ? count : end + 1
    guard start < last, place + 2 <= count else { return }
    put(
      ~InternetChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[start..<last])), frame, place)
  }

  private func put(_ value: UInt16, _ frame: UnsafeMutableRawBufferPointer, _ offset: Int) {
    frame[offset] = UInt8(value >> 8)
    frame[offset + 1] = UInt8(truncatingIfNeeded: value)
  }

  /// Puts a tag behind the addresses (IEEE 802.1Q); `gather` has kept the room.
  private mutating func insert(
    _ tag: UInt16, _ type: UInt16, _ frame: UnsafeMutableRawBufferPointer,
    _ header: inout NetworkHeader
  ) {
    guard count >= 14, count + 4 <= frame.count, let base = frame.baseAddress else { return }
    memmove(base + 16, base + 12, count - 12)
    put(type, frame, 12)
    put(tag, frame, 14)
    count += 4
    if header.needsChecksum { header.checksumStart &+= 4 }
    if header.segmentation != .none { header.headerLength &+= 4 }
  }
}
