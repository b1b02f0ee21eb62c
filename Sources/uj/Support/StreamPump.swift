import CLinux
import Platform

/// Carries a machine's stream between its host process and whatever leads to the other host.
struct StreamPump {
  /// The host process: a socket that does not block.
  let host: Int32
  let output: Int32
  /// Where answers come from; nil: nowhere.
  var input: Int32?

  private static let chunk = 512 << 10
  /// Milliseconds between two looks at how far it is.
  private static let interval: UInt64 = 200

  /// Comes back when the host process has ended the stream, or its reader is gone.
  ///
  /// - Parameter begin: what came of the stream with the answer to the call that began it.
  mutating func run(_ begin: [UInt8], _ look: () -> Void) {
    guard Self.write(begin, begin.count, to: output) else { return }
    var buffer = [UInt8](repeating: 0, count: Self.chunk)
    var next = MonotonicClock.now &+ Self.interval &* 1_000_000
    while true {
      var entries = [pollfd(fd: host, events: Int16(POLLIN), revents: 0)]
      if let input { entries.append(pollfd(fd: input, events: Int16(POLLIN), revents: 0)) }
      let count = poll(&entries, nfds_t(entries.count), Int32(Self.interval))
      if MonotonicClock.now >= next {
        look()
        next = MonotonicClock.now &+ Self.interval &* 1_000_000
      }
      if count < 0, linux_error_number() != EINTR { return }
      guard count > 0 else { continue }
      if entries.count > 1, entries[1].revents != 0, let source = input {
        if !carry(from: source, to: host, &buffer) {
          // The end of the answers is told on.
          shutdown(host, Int32(SHUT_WR))
          input = nil
        }
      }
      if entries[0].revents != 0, !carry(from: host, to: output, &buffer) { return }
    }
  }

  /// - Returns: false at the end of either.
  private func carry(from source: Int32, to target: Int32, _ buffer: inout [UInt8]) -> Bool {
    let count = read(source, &buffer, buffer.count)
    if count < 0 { return linux_error_number() == EAGAIN || linux_error_number() == EINTR }
    return count > 0 && Self.write(buffer, count, to: target)
  }

  /// - Returns: false: the reader is gone.
  private static func write(_ buffer: [UInt8], _ count: Int, to target: Int32) -> Bool {
    var done = 0
    while done < count {
      let written = buffer.withUnsafeBytes {
        CLinux.write(target, $0.baseAddress.map { $0 + done }, count - done)
      }
      if written > 0 {
        done += written
        continue
      }
      switch linux_error_number() {
      case EINTR: continue
      case EAGAIN:
        var entry = pollfd(fd: target, events: Int16(POLLOUT), revents: 0)
        _ = poll(&entry, 1, -1)
      default: return false
      }
    }
    return true
  }
}
