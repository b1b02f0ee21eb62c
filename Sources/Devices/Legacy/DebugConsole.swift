import Platform
import Synchronization

/// Port 0x402: where SeaBIOS and OVMF print their log. A read answers 0xE9, which is how they find it.
///
/// No state: lines are cut at `lineLimit` bytes, so that firmware without line ends cannot grow the buffer.
package final class DebugConsole: BusDevice {
  package static let port: UInt16 = 0x402
  package static let signature: UInt64 = 0xE9
  /// Bytes that are collected before the backend gets them without a line end.
  package static let lineLimit = 256

  private struct Line {
    var bytes: [UInt8] = []
    var backend: any CharacterBackend
  }
  private let line: Mutex<Line>

  /// - Parameter backend: called with the console's lock held: copies and returns.
  package init(backend: any CharacterBackend) {
    var line = Line(backend: backend)
    line.bytes.reserveCapacity(Self.lineLimit)
    self.line = Mutex(line)
  }

  package func read(at offset: UInt64, width: AccessWidth) -> UInt64 { Self.signature }

  package func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    line.withLock { line in
      let byte = UInt8(truncatingIfNeeded: value)
      line.bytes.append(byte)
      if byte == 0x0A || line.bytes.count >= Self.lineLimit { Self.deliver(&line) }
    }
  }

  /// Hands over a line that has no end yet.
  package func flush() {
    line.withLock { Self.deliver(&$0) }
  }

  private static func deliver(_ line: inout Line) {
    guard !line.bytes.isEmpty else { return }
    line.bytes.withUnsafeBytes { line.backend.guestDidSend($0) }
    line.bytes.removeAll(keepingCapacity: true)
  }
}
