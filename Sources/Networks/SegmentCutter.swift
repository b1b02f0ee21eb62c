// What a network card with TCP segmentation does in hardware, for guests whose driver does not take large segments.

import Devices

/// Makes frames that any driver takes of frames that need their receiver's help.
enum SegmentCutter {
  private enum Flag {
    static let finish: UInt8 = 0x01
    static let push: UInt8 = 0x08
  }

  /// Hands `frame` to `deliver` as it is, with its checksum finished, or in segments, depending on what is accepted.
  ///
  /// - Parameter scratch: room for the largest frame.
  static func deliver(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkHeader, accepting: NetworkOffloads,
    scratch: UnsafeMutableRawBufferPointer,
    _ deliver: (UnsafeRawBufferPointer, NetworkHeader) -> Void
  ) {
    let isCut: Bool =
      switch header.segmentation {
      case .none: false
      case .tcp4: !accepting.contains(.segmentation4)
      case .tcp6: !accepting.contains(.segmentation6)
      case .udp: true
      }
    guard isCut || header.needsChecksum && !accepting.contains(.checksum) else {
      return deliver(frame, header)
    }
    guard frame.count <= scratch.count else { return }
    guard isCut else {
      let copy = UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(frame.count))
      copy.copyMemory(from: frame)
      InternetChecksum.complete(copy, start: header.checksumStart, offset: header.checksumOffset)
      return deliver(UnsafeRawBufferPointer(copy), NetworkHeader())
    }
    cut(frame, header, scratch, deliver)
  }

  private static func cut(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkHeader,
    _ scratch: UnsafeMutableRawBufferPointer,
    _ deliver: (UnsafeRawBufferPointer, NetworkHeader) -> Void
  ) {
    guard let layout = Layout(frame, header) else { return }
    var position = layout.payload
    var sequence = layout.sequence
    var identifier = layout.identifier
    while position < layout.end {
      let count = min(Int(header.segmentSize), layout.end - position)
      let isLast = position + count == layout.end
      let piece = UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(layout.payload + count))
      UnsafeMutableRawBufferPointer(rebasing: piece[..<layout.payload]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: frame[..<layout.payload]))
      UnsafeMutableRawBufferPointer(rebasing: piece[layout.payload...]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: frame[position..<position + count]))
      let transport = layout.transport
      store(UInt16(truncatingIfNeeded: sequence >> 16), piece, transport + 4)
      store(UInt16(truncatingIfNeeded: sequence), piece, transport + 6)
      if !isLast { piece[transport + 13] &= ~(Flag.finish | Flag.push) }
      layout.finish(piece, identifier: identifier)
      deliver(UnsafeRawBufferPointer(piece), NetworkHeader())
      sequence = sequence &+ UInt32(count)
      identifier = identifier &+ 1
      position += count
    }
  }

  fileprivate static func load(_ frame: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
    UInt16(frame[offset]) << 8 | UInt16(frame[offset + 1])
  }

  fileprivate static func store(
    _ value: UInt16, _ frame: UnsafeMutableRawBufferPointer, _ offset: Int
  ) {
    frame[offset] = UInt8(value >> 8)
    frame[offset + 1] = UInt8(truncatingIfNeeded: value)
  }

  /// Where the headers of a TCP frame stand.
  private struct Layout {
    let network: Int
    let transport: Int
    let payload: Int
    let end: Int
    let isVersion6: Bool
    let sequence: UInt32
    let identifier: UInt16

    /// nil for a frame that is not what its header says.
    init?(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) {
      guard header.segmentSize > 0, frame.count >= 54 else { return nil }
      // One VLAN tag may stand before the packet.
      network = SegmentCutter.load(frame, 12) == 0x8100 ? 18 : 14
      transport = Int(header.checksumStart)
      isVersion6 = header.segmentation == .tcp6
      guard transport >= network + (isVersion6 ? 40 : 20), transport + 20 <= frame.count else {
        return nil
      }
      let headerLength = Int(frame[transport + 12] >> 4) * 4
      payload = transport + headerLength
      end = frame.count
      guard headerLength >= 20, payload < end else { return nil }
      sequence =
        UInt32(SegmentCutter.load(frame, transport + 4)) << 16
        | UInt32(SegmentCutter.load(frame, transport + 6))
      identifier = isVersion6 ? 0 : SegmentCutter.load(frame, network + 4)
    }

    /// Lengths and checksums of one segment.
    func finish(_ piece: UnsafeMutableRawBufferPointer, identifier: UInt16) {
      let length = piece.count - transport
      let addresses: Range<Int>
      if isVersion6 {
        SegmentCutter.store(UInt16(piece.count - network - 40), piece, network + 4)
        addresses = network + 8..<network + 40
      } else {
        SegmentCutter.store(UInt16(piece.count - network), piece, network + 2)
        SegmentCutter.store(identifier, piece, network + 4)
        SegmentCutter.store(0, piece, network + 10)
        let sum = InternetChecksum.sum(
          UnsafeRawBufferPointer(rebasing: piece[network..<transport]))
        SegmentCutter.store(~sum, piece, network + 10)
        addresses = network + 12..<network + 20
      }
      let pseudo = InternetChecksum.sum(
        UnsafeRawBufferPointer(rebasing: piece[addresses]), 6 + UInt32(length))
      SegmentCutter.store(pseudo, piece, transport + 16)
      InternetChecksum.complete(piece, start: UInt16(transport), offset: 16)
    }
  }
}
