import CLinux

/// Carries bytes between two ends until one of them ends, both blocking or not.
enum ByteRelay {
  /// - Parameters:
  ///   - near: where bytes come from on this side, and where they go.
  ///   - far: the other side, one descriptor for both.
  ///   - received: bytes of the other side's that are here already.
  static func run(
    near: (input: Int32, output: Int32), far: Int32, received: [UInt8] = []
  ) {
    guard put(received[...], to: near.output) else { return }
    var chunk = [UInt8](repeating: 0, count: 16384)
    while true {
      var entries = [
        pollfd(fd: near.input, events: Int16(POLLIN), revents: 0),
        pollfd(fd: far, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&entries, 2, -1) >= 0 || linux_error_number() == EINTR else { return }
      for (entry, target) in [(entries[0], far), (entries[1], near.output)]
      where entry.revents != 0 {
        let count = read(entry.fd, &chunk, chunk.count)
        if count < 0, linux_error_number() == EAGAIN || linux_error_number() == EINTR { continue }
        guard count > 0, put(chunk[..<count], to: target) else { return }
      }
    }
  }

  private static func put(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if linux_error_number() == EAGAIN {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // Who does not take anything for a minute is gone.
        guard poll(&entry, 1, 60_000) != 0 else { return false }
      } else if linux_error_number() != EINTR {
        return false
      }
    }
    return true
  }
}
