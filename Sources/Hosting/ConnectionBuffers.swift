import CLinux
import Platform

/// Bytes that came in, cut into lines of bounded length.
struct LineBuffer {
  private var bytes: [UInt8] = []
  /// No newline before this index.
  private var searched = 0
  /// The sender exceeded the limit: the rest cannot be understood.
  private(set) var isOverflown = false
  let limit: Int

  init(limit: Int) {
    self.limit = limit
  }

  mutating func append(_ new: some Collection<UInt8>) {
    bytes += new
  }

  /// The next whole line without its newline.
  mutating func next() -> [UInt8]? {
    guard let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
      searched = bytes.count
      if bytes.count > limit { isOverflown = true }
      return nil
    }
    if end > limit {
      isOverflown = true
      return nil
    }
    let line = Array(bytes[..<end])
    bytes.removeSubrange(...end)
    searched = 0
    return line
  }

  var hasPending: Bool { !bytes.isEmpty }

  /// Everything that has not been read as lines.
  mutating func takeRest() -> [UInt8] {
    defer { bytes = [] }
    return bytes
  }
}

/// Bytes that wait for a socket to take them.
struct OutgoingBuffer {
  private var bytes: [UInt8] = []
  private var sent = 0

  var count: Int { bytes.count - sent }

  mutating func append(_ new: [UInt8]) {
    bytes += new
  }

  /// Sends what the socket takes now.
  ///
  /// - Returns: false when the peer is gone.
  mutating func flush(to descriptor: Int32) -> Bool {
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes {
        linux_send(descriptor, $0.baseAddress! + sent, $0.count - sent)
      }
      if count < 0 {
        let code = linux_error_number()
        if code == EINTR { continue }
        if code == EAGAIN { break }
        return false
      }
      sent += count
    }
    if sent == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= 65536)
      sent = 0
    } else if sent > 65536 {
      bytes.removeSubrange(..<sent)
      sent = 0
    }
    return true
  }
}
