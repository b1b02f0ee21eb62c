// A packet capture as a stream of bytes in the pcap format with nanoseconds (draft-ietf-opsawg-pcap), which tcpdump,
// tshark and Wireshark read.

import CLinux
import Devices
import Platform
import Synchronization

/// Writes every frame of an adapter to a descriptor. What its reader does not take in time is lost and counted: the
/// guest never waits.
public final class PacketCapture: NetworkTap {
  /// Bytes that wait for the reader.
  private static let bufferLimit = 8 << 20
  /// What a frame can have at most.
  private static let snapshotLength: UInt32 = 262_144
  private static let ethernet: UInt32 = 1

  private struct Guarded {
    var waiting: [UInt8] = []
    var isEnding = false
  }

  private let descriptor: Int32
  private let guarded: Monitor<Guarded>
  private let lost = Atomic<UInt64>(0)
  private let onEnd: @Sendable (PacketCapture) -> Void

  /// - Parameters:
  ///   - descriptor: taken over; blocking or not.
  ///   - onEnd: the reader went away; called once, on a thread of the capture's.
  public init(
    _ descriptor: Int32, onEnd: @escaping @Sendable (PacketCapture) -> Void
  ) throws(PlatformError) {
    self.descriptor = descriptor
    self.onEnd = onEnd
    var head: [UInt8] = []
    Self.append(0xA1B2_3C4D, to: &head)
    Self.append(0x0004_0002, to: &head)
    Self.append(0, to: &head)
    Self.append(0, to: &head)
    Self.append(Self.snapshotLength, to: &head)
    Self.append(Self.ethernet, to: &head)
    guarded = Monitor(Guarded(waiting: head))
    _ = try PosixThread(name: "capture") { [self] in write() }
  }

  /// Frames that were lost because the reader was slow.
  public var framesLost: UInt64 { lost.load(ordering: .relaxed) }

  /// Hands out what waits and closes.
  public func end() { guarded.update { $0.isEnding = true } }

  private static func append(_ value: UInt32, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  public func didSee(_ frame: UnsafeRawBufferPointer, fromGuest: Bool) {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let wasTaken = guarded.update { state in
      guard !state.isEnding, state.waiting.count + frame.count + 16 <= Self.bufferLimit else {
        return false
      }
      Self.append(UInt32(truncatingIfNeeded: now.tv_sec), to: &state.waiting)
      Self.append(UInt32(truncatingIfNeeded: now.tv_nsec), to: &state.waiting)
      Self.append(UInt32(frame.count), to: &state.waiting)
      Self.append(UInt32(frame.count), to: &state.waiting)
      state.waiting.append(contentsOf: frame)
      return true
    }
    if !wasTaken { lost.add(1, ordering: .relaxed) }
  }

  private func write() {
    while true {
      let (bytes, isLast) = guarded.wait { state -> ([UInt8], Bool)? in
        guard !state.waiting.isEmpty || state.isEnding else { return nil }
        defer { state.waiting = [] }
        return (state.waiting, state.isEnding)
      }
      if !put(bytes) || isLast { break }
    }
    guarded.update { $0.isEnding = true }
    close(descriptor)
    onEnd(self)
  }

  /// False: the reader is gone.
  private func put(_ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { buffer in
        linux_send(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done)
      }
      if count > 0 {
        done += count
      } else if linux_error_number() == EAGAIN {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // Looks now and then whether it is to end: a reader may sleep for ever.
        _ = poll(&entry, 1, 500)
        if guarded.read({ $0.isEnding }) { return false }
      } else if linux_error_number() != EINTR {
        return false
      }
    }
    return true
  }
}
