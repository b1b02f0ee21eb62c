// Large segments between the guest and libslirp.
//
// The guest may leave checksums and the cutting of TCP streams to us; libslirp takes segments of any size, so that they
// only need a checksum. In the other direction libslirp sends segments as large as the other side says it takes. A guest
// whose driver takes large segments says only what its wire takes, so its word is replaced on the way: a window then
// passes in a few frames. libslirp knows no window beyond 64 KiB; in one frame the window would stand still until that
// is acknowledged.

import Devices

extension UserNetwork {
  private enum Offset {
    static let type = 12
    static let packet = 14
  }

  /// Frames beyond this are cut or marked for the guest to see as several.
  private static let wireFrame = 14 + 1500
  /// A payload that fits every wire beneath, with time stamps.
  private static let wireSegment: UInt16 = 1440
  /// What libslirp is told that the guest takes: a quarter of a window.
  private static let largeSegment = 11 * wireSegment

  private func word(_ frame: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
    UInt16(frame[offset]) << 8 | UInt16(frame[offset + 1])
  }

  private func put(_ value: UInt16, _ frame: UnsafeMutableRawBufferPointer, _ offset: Int) {
    frame[offset] = UInt8(value >> 8)
    frame[offset + 1] = UInt8(truncatingIfNeeded: value)
  }

  /// Where the TCP header stands; nil for anything else, and for fragments.
  private func transport(
    _ frame: UnsafeRawBufferPointer
  ) -> (offset: Int, isVersion6: Bool)? {
    guard frame.count >= Offset.packet + 40 else { return nil }
    switch word(frame, Offset.type) {
    case 0x0800:
      let length = Int(frame[Offset.packet] & 15) * 4
      guard frame[Offset.packet + 9] == 6, length >= 20,
        word(frame, Offset.packet + 6) & 0x3FFF == 0,
        frame.count >= Offset.packet + length + 20
      else { return nil }
      return (Offset.packet + length, false)
    case 0x86DD:
      guard frame[Offset.packet + 6] == 6, frame.count >= Offset.packet + 60 else { return nil }
      return (Offset.packet + 40, true)
    default: return nil
    }
  }

  // MARK: From the guest

  /// Makes a frame of the guest whole.
  func prepare(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    for receiver: any NetworkReceiver
  ) {
    if let (offset, isVersion6) = transport(UnsafeRawBufferPointer(frame)),
      frame[offset + 13] & 2 != 0,
      receiver.accepts.contains(isVersion6 ? .segmentation6 : .segmentation4)
    {
      raiseSegmentSize(frame, offset, hasChecksum: !header.needsChecksum)
    }
    if header.needsChecksum {
      InternetChecksum.complete(
        frame, start: header.checksumStart, offset: header.checksumOffset)
    }
  }

  /// Replaces the maximum segment size in a SYN (RFC 9293, 3.2).
  private func raiseSegmentSize(
    _ frame: UnsafeMutableRawBufferPointer, _ offset: Int, hasChecksum: Bool
  ) {
    let end = min(offset + Int(frame[offset + 12] >> 4) * 4, frame.count)
    var option = offset + 20
    while option < end, frame[option] != 0 {
      if frame[option] == 1 {
        option += 1
        continue
      }
      guard option + 1 < end else { return }
      let length = Int(frame[option + 1])
      guard length >= 2, option + length <= end else { return }
      if frame[option] == 2 && length == 4 {
        let old = word(UnsafeRawBufferPointer(frame), option + 2)
        let new = Self.largeSegment
        // Only words that stand at even places of the sum can be replaced in it.
        guard old < new, (option - offset) % 2 == 0 else { return }
        put(new, frame, option + 2)
        if hasChecksum {
          let sum = word(UnsafeRawBufferPointer(frame), offset + 16)
          put(InternetChecksum.updated(sum, from: old, to: new), frame, offset + 16)
        }
        return
      }
      option += length
    }
  }

  // MARK: To the guest

  /// A frame of libslirp's.
  func receive(_ frame: UnsafeRawBufferPointer) {
    guard let receiver else { return }
    guard frame.count > Self.wireFrame, frame.count <= segment.count else {
      var header = NetworkHeader()
      // libslirp has just made the checksums.
      header.isValid = receiver.accepts.contains(.checksum)
      return receiver.deliver(frame, header)
    }
    if let (offset, isVersion6) = transport(frame) {
      deliverSegments(frame, offset, isVersion6, to: receiver)
    } else if word(frame, Offset.type) == 0x0800 {
      deliverFragments(frame, to: receiver)
    } else {
      receiver.deliver(frame, NetworkHeader())
    }
  }

  private func deliverSegments(
    _ frame: UnsafeRawBufferPointer, _ offset: Int, _ isVersion6: Bool,
    to receiver: any NetworkReceiver
  ) {
    let copy = UnsafeMutableRawBufferPointer(rebasing: segment.prefix(frame.count))
    copy.copyMemory(from: frame)
    var header = NetworkHeader()
    header.needsChecksum = true
    header.segmentation = isVersion6 ? .tcp6 : .tcp4
    header.segmentSize = Self.wireSegment
    header.headerLength = UInt16(offset + Int(frame[offset + 12] >> 4) * 4)
    header.checksumStart = UInt16(offset)
    header.checksumOffset = 16
    // The field holds the sum of the pseudo header.
    let addresses =
      isVersion6 ? Offset.packet + 8..<Offset.packet + 40 : Offset.packet + 12..<Offset.packet + 20
    let length = frame.count - offset
    let sum = InternetChecksum.sum(
      UnsafeRawBufferPointer(rebasing: frame[addresses]), 6 + UInt32(length & 0xFFFF))
    put(sum, copy, offset + 16)
    // libslirp forgets what the guest says of segments while it connects: a driver that takes none gets pieces.
    SegmentCutter.deliver(
      UnsafeRawBufferPointer(copy), header, accepting: receiver.accepts, scratch: pieces
    ) { receiver.deliver($0, $1) }
  }

  /// Cuts an IPv4 packet to the size of the guest's wire (RFC 791, 3.2).
  private func deliverFragments(_ frame: UnsafeRawBufferPointer, to receiver: any NetworkReceiver) {
    let headerLength = Int(frame[Offset.packet] & 15) * 4
    let start = Offset.packet + headerLength
    let end = min(Offset.packet + Int(word(frame, Offset.packet + 2)), frame.count)
    let flags = word(frame, Offset.packet + 6)
    // A packet with options is rare enough to be lost.
    guard headerLength == 20, start < end else { return }
    let room = (1500 - headerLength) & ~7
    var position = start
    while position < end {
      let count = min(room, end - position)
      let isLast = position + count == end
      let piece = UnsafeMutableRawBufferPointer(rebasing: fragments.prefix(start + count))
      UnsafeMutableRawBufferPointer(rebasing: piece[..<start]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: frame[..<start]))
      UnsafeMutableRawBufferPointer(rebasing: piece[start...]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: frame[position..<position + count]))
      put(UInt16(headerLength + count), piece, Offset.packet + 2)
      let offset = flags & 0x1FFF &+ UInt16((position - start) / 8)
      put(offset | (isLast ? flags & 0x2000 : 0x2000), piece, Offset.packet + 6)
      put(0, piece, Offset.packet + 10)
      let sum = InternetChecksum.sum(
        UnsafeRawBufferPointer(rebasing: piece[Offset.packet..<start]))
      put(~sum, piece, Offset.packet + 10)
      receiver.deliver(UnsafeRawBufferPointer(piece), NetworkHeader())
      position += count
    }
  }
}
