// Frames in a stream of bytes, as QEMU's `-netdev stream` and passt have them: before each its length, 32 bits, the most
// significant byte first.

import CLinux
import Devices
import Platform

enum StreamFraming {
  /// Bytes of a length.
  static let prefix = 4
  /// The largest IP packet behind an Ethernet header with a VLAN tag.
  static let longest = 65_535 + 18

  /// Why a connection ends.
  enum End: Equatable {
    /// The other end closed it, or the kernel did.
    case closed
    /// A length that no frame has.
    case length(UInt32)
  }
}

/// Takes the frames out of what a peer sends. Used by one thread at a time.
final class StreamFrameReader {
  private static let capacity = 4 * (StreamFraming.prefix + StreamFraming.longest)
  /// Reads of one round: another peer, the guest, waits as well.
  private static let burst = 4

  private let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: capacity, alignment: 16)
  /// What is read and not yet taken: the beginning of a frame.
  private var count = 0

  deinit { buffer.deallocate() }

  /// Of a connection that is gone.
  func forget() { count = 0 }

  /// Reads what is there now and hands out whole frames.
  ///
  /// - Returns: why the connection has to end; nil while it goes on.
  func read(
    _ descriptor: Int32, _ deliver: (UnsafeRawBufferPointer) -> Void
  ) -> StreamFraming.End? {
    for _ in 0..<Self.burst {
      let room = UnsafeMutableRawBufferPointer(rebasing: buffer[count...])
      let size = CLinux.read(descriptor, room.baseAddress, room.count)
      if size == 0 { return .closed }
      if size < 0 {
        let code = linux_error_number()
        return code == EAGAIN || code == EINTR ? nil : .closed
      }
      count += size
      if let end = take(deliver) { return end }
      if size < room.count { return nil }
    }
    return nil
  }

  private func take(_ deliver: (UnsafeRawBufferPointer) -> Void) -> StreamFraming.End? {
    var position = 0
    while count - position >= StreamFraming.prefix {
      let length = UInt32(
        bigEndian: buffer.loadUnaligned(fromByteOffset: position, as: UInt32.self))
      guard length > 0, length <= UInt32(StreamFraming.longest) else { return .length(length) }
      let start = position + StreamFraming.prefix
      let end = start + Int(length)
      guard end <= count else { break }
      deliver(UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
      position = end
    }
    if position > 0 {
      // One frame at most is left, so that the next always fits.
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[position..<count]))
      count -= position
    }
    return nil
  }
}

/// Puts frames into a stream and keeps what the peer does not take yet. Used by one thread at a time.
final class StreamFrameWriter {
  /// Bytes that wait for a slow peer: some round trips of a fast link.
  static let limit = 1 << 20

  private var waiting: UnsafeMutableRawBufferPointer?
  private var first = 0
  private var end = 0

  deinit { waiting?.deallocate() }

  /// Whether the peer has to take something before more can be sent.
  var isWaiting: Bool { end > first }

  func forget() {
    first = 0
    end = 0
  }

  enum Outcome: Equatable {
    case taken
    /// The peer is too slow: the frame is lost, as on a wire.
    case lost
    case closed
  }

  /// Sends a frame. One that has begun is always brought to its end later, so that lengths stay where they belong.
  func send(_ frame: UnsafeMutableRawBufferPointer, to descriptor: Int32) -> Outcome {
    var length = UInt32(truncatingIfNeeded: frame.count).bigEndian
    let whole = StreamFraming.prefix + frame.count
    if isWaiting {
      guard end - first + whole <= Self.limit else { return .lost }
      withUnsafeBytes(of: &length) { keep($0) }
      keep(UnsafeRawBufferPointer(frame))
      return .taken
    }
    let sent = withUnsafeMutableBytes(of: &length) {
      linux_send_two(
        descriptor, $0.baseAddress, $0.count, frame.baseAddress, frame.count)
    }
    if sent < 0 {
      switch linux_error_number() {
      case EAGAIN, EINTR: break
      case ENOBUFS, ENOMEM: return .lost
      default: return .closed
      }
    }
    let done = max(0, sent)
    guard done < whole else { return .taken }
    if done < StreamFraming.prefix {
      withUnsafeBytes(of: &length) { keep(UnsafeRawBufferPointer(rebasing: $0[done...])) }
      keep(UnsafeRawBufferPointer(frame))
    } else {
      keep(UnsafeRawBufferPointer(rebasing: frame[(done - StreamFraming.prefix)...]))
    }
    return .taken
  }

  private func keep(_ bytes: UnsafeRawBufferPointer) {
    // Room for the limit and a frame that had begun.
    let room =
      waiting
      ?? .allocate(byteCount: 2 * (Self.limit + StreamFraming.longest), alignment: 16)
    waiting = room
    if end + bytes.count > room.count {
      room.copyMemory(from: UnsafeRawBufferPointer(rebasing: room[first..<end]))
      end -= first
      first = 0
    }
    UnsafeMutableRawBufferPointer(rebasing: room[end...]).copyMemory(from: bytes)
    end += bytes.count
  }

  /// Sends what waits. Returns false when the connection is gone.
  func sendWaiting(to descriptor: Int32) -> Bool {
    while let waiting, first < end {
      let count = linux_send(descriptor, waiting.baseAddress.map { $0 + first }, end - first)
      if count < 0 {
        switch linux_error_number() {
        case EINTR: continue
        case EAGAIN, ENOBUFS, ENOMEM: return true
        default: return false
        }
      }
      first += count
    }
    forget()
    return true
  }
}
