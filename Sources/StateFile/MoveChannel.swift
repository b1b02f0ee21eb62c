import CLinux
import Platform

/// One end of a machine's stream. Used by one thread at a time.
package final class MoveChannel: @unchecked Sendable {
  // @unchecked: see above.
  private let input: Int32
  private let output: Int32
  private let outgoing: UnsafeMutableRawBufferPointer
  private let incoming: UnsafeMutableRawBufferPointer
  private var isGreeted = false
  /// Of `MonotonicClock`: what does not go or come until then is given up; nil: as long as it takes.
  package var deadline: UInt64?
  /// Nanoseconds of silence after which one gives up.
  package var patience: UInt64 = 600_000_000_000
  /// Bytes that went out.
  package private(set) var sentBytes: UInt64 = 0
  /// Bytes that came.
  package private(set) var receivedBytes: UInt64 = 0

  /// - Parameters:
  ///   - input: what the other side says; -1: it has no way to.
  ///   - output: -1: the other side hears nothing.
  ///   Both stay the caller's.
  package init(input: Int32, output: Int32) {
    self.input = input
    self.output = output
    let size = MoveFrame.headerSize + MoveFrame.contentLimit
    outgoing = .allocate(byteCount: size, alignment: 4096)
    incoming = .allocate(byteCount: size, alignment: 4096)
  }

  deinit {
    outgoing.deallocate()
    incoming.deallocate()
  }

  /// The other side can answer.
  package var hasAnswers: Bool { input >= 0 }

  // MARK: Sending

  /// The first thing in a direction.
  package func greet() throws(MoveError) {
    guard output >= 0 else { return }
    let bytes = MoveFrame.greeting
    outgoing.copyBytes(from: bytes)
    try write(bytes.count)
  }

  /// - Parameter content: is read once, whoever writes there meanwhile. At most `MoveFrame.contentLimit` bytes.
  package func send(
    _ kind: MoveFrame.Kind, part: UInt8 = 0, place: UInt64 = 0, _ content: UnsafeRawBufferPointer
  ) throws(MoveError) {
    guard output >= 0 else { return }
    guard content.count <= MoveFrame.contentLimit else {
      throw .damaged("a frame would be larger than frames can be")
    }
    if let source = content.baseAddress, content.count > 0, let target = outgoing.baseAddress {
      (target + MoveFrame.headerSize).copyMemory(from: source, byteCount: content.count)
    }
    MoveFrame(kind: kind, part: part, place: place, count: content.count).encode(into: outgoing)
    try write(MoveFrame.headerSize + content.count)
  }

  package func send(
    _ kind: MoveFrame.Kind, part: UInt8 = 0, place: UInt64 = 0, _ content: [UInt8] = []
  ) throws(MoveError) {
    // The standard library's closure does not tell which errors it throws.
    let outcome = content.withUnsafeBytes { bytes in
      Result { () throws(MoveError) in try send(kind, part: part, place: place, bytes) }
    }
    try outcome.get()
  }

  /// A frame whose content is a number.
  package func send(
    _ kind: MoveFrame.Kind, part: UInt8 = 0, place: UInt64 = 0, number: UInt64
  ) throws(MoveError) {
    try send(
      kind, part: part, place: place,
      (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) })
  }

  /// A frame whose content is a line; a long one is cut.
  package func send(_ kind: MoveFrame.Kind, line: String) throws(MoveError) {
    try send(kind, Array(line.utf8.prefix(1000)))
  }

  private func write(_ count: Int) throws(MoveError) {
    var done = 0
    while done < count {
      try wait(output, POLLOUT)
      let written = CLinux.write(output, outgoing.baseAddress.map { $0 + done }, count - done)
      if written > 0 {
        done += written
        continue
      }
      let code = linux_error_number()
      if written < 0, code == EAGAIN || code == EINTR { continue }
      if code == EPIPE || code == ECONNRESET || written == 0 { throw .ended }
      throw .system(PlatformError(operation: "write", code: code, subject: "the stream"))
    }
    sentBytes += UInt64(count)
  }

  // MARK: Receiving

  /// The next frame, whole and with its checksum. Its content is in `content` until the next call.
  package func receive() throws(MoveError) -> MoveFrame {
    guard input >= 0 else { throw .ended }
    if !isGreeted {
      try fill(0, MoveFrame.greetingSize)
      try MoveFrame.check(
        greeting: UnsafeRawBufferPointer(rebasing: incoming[..<MoveFrame.greetingSize]))
      isGreeted = true
    }
    try fill(0, MoveFrame.headerSize)
    let frame = try MoveFrame(UnsafeRawBufferPointer(incoming))
    try fill(MoveFrame.headerSize, frame.count)
    try frame.checkSum(UnsafeRawBufferPointer(incoming))
    return frame
  }

  /// What came with a frame.
  package func content(of frame: MoveFrame) -> UnsafeRawBufferPointer {
    let start = MoveFrame.headerSize
    return UnsafeRawBufferPointer(rebasing: incoming[start..<start + frame.count])
  }

  /// The number that is a frame's content.
  package func number(of frame: MoveFrame) throws(MoveError) -> UInt64 {
    guard frame.count == 8 else { throw .damaged("a frame lacks its number") }
    return UInt64(
      littleEndian: content(of: frame).loadUnaligned(fromByteOffset: 0, as: UInt64.self))
  }

  /// The line that is a frame's content, fit for a terminal.
  package func line(of frame: MoveFrame) -> String {
    let text = String(decoding: content(of: frame).prefix(1000), as: UTF8.self)
    var shown = ""
    for scalar in text.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
      shown.unicodeScalars.append(isControl ? "?" : scalar)
    }
    return shown
  }

  /// Something can be received now, or the other side is gone.
  package var isReadable: Bool {
    guard input >= 0 else { return false }
    var entry = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, 0) > 0
  }

  private func fill(_ start: Int, _ count: Int) throws(MoveError) {
    var done = 0
    while done < count {
      try wait(input, POLLIN)
      let got = CLinux.read(
        input, incoming.baseAddress.map { $0 + start + done }, count - done)
      if got > 0 {
        done += got
        receivedBytes += UInt64(got)
        continue
      }
      if got == 0 { throw .ended }
      let code = linux_error_number()
      if code == EAGAIN || code == EINTR { continue }
      if code == ECONNRESET { throw .ended }
      throw .system(PlatformError(operation: "read", code: code, subject: "the stream"))
    }
  }

  private func wait(_ descriptor: Int32, _ events: Int32) throws(MoveError) {
    let begin = MonotonicClock.now
    let end = min(deadline ?? .max, begin &+ patience)
    while true {
      let now = MonotonicClock.now
      guard now < end else { throw .late(seconds: Int(clamping: (now &- begin) / 1_000_000_000)) }
      var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      let left = min((end - now) / 1_000_000 + 1, 1_000_000)
      let count = poll(&entry, 1, Int32(clamping: left))
      if count > 0 { return }
      if count < 0, linux_error_number() != EINTR {
        throw .system(
          PlatformError(operation: "poll", code: linux_error_number(), subject: "the stream"))
      }
    }
  }
}
