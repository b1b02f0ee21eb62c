// The meeting place of the virtual processors' threads, which print, and the loop, which reads: the ring, how far it is
// read, and how long the guest may be held up. Short critical sections only: a copy of at most 64 KiB.

import Platform
import Synchronization

/// The output of a port and who still needs it.
struct GuestOutput: Sendable {
  var ring: ByteRing
  /// Position up to which our terminal and log have it.
  var parsed: UInt64 = 0
  /// Position of the slowest client that does read; nil when there is none.
  private var slowestReader: UInt64?
  /// Positions of clients that the loop has not taken up yet.
  private var attaching: [UInt64] = []
  var unparsedBytes: UInt64 = 0
  var lastOutput: UInt64 = 0
  var waited: UInt64 = 0

  /// Nanoseconds that the guest may still be held up for our terminal, and for clients.
  private var terminalBudget: UInt64
  private var clientBudget: UInt64
  private let fullTerminalBudget: UInt64
  private let fullClientBudget: UInt64

  init(_ configuration: SerialMuxConfiguration) {
    ring = ByteRing(capacity: min(max(configuration.ringSize, 4096), 1 << 30))
    fullTerminalBudget = UInt64(max(configuration.guestWaitForTerminal, 0)) * 1_000_000
    fullClientBudget = UInt64(max(configuration.guestWaitForClients, 0)) * 1_000_000
    terminalBudget = fullTerminalBudget
    clientBudget = fullClientBudget
  }

  /// Whether clients can hold the guest up.
  var waitsForClients: Bool { fullClientBudget > 0 }

  /// Appends as much as there is room for and returns how much; 0 when the guest has to wait.
  mutating func accept(_ bytes: UnsafeRawBufferPointer) -> Int {
    var room = bytes.count
    if terminalBudget > 0 { room = min(room, free(behind: parsed)) }
    if clientBudget > 0, let slowest { room = min(room, free(behind: slowest)) }
    guard room > 0 else { return 0 }
    ring.append(UnsafeRawBufferPointer(rebasing: bytes.prefix(room)))
    return room
  }

  /// The position that the guest may not overwrite while it waits for clients.
  private var slowest: UInt64? {
    let first = attaching.first ?? .max
    let slowest = min(first, slowestReader ?? .max)
    return slowest == .max ? nil : slowest
  }

  /// A client comes: from now on its bytes are kept. Returns the position where its stream begins.
  mutating func beginAttaching() -> UInt64 {
    attaching.append(ring.end)
    return ring.end
  }

  /// The loop has taken up a client that began to attach at a position.
  mutating func endAttaching(_ position: UInt64) {
    if let index = attaching.firstIndex(of: position) { attaching.remove(at: index) }
  }

  private func free(behind position: UInt64) -> Int {
    let used = ring.end > position ? ring.end - position : 0
    return used >= UInt64(ring.capacity) ? 0 : ring.capacity - Int(used)
  }

  /// The guest was held up for so many nanoseconds.
  mutating func spend(_ nanoseconds: UInt64) {
    waited += nanoseconds
    if free(behind: parsed) == 0 { terminalBudget -= min(terminalBudget, nanoseconds) }
    if let slowest, free(behind: slowest) == 0 {
      clientBudget -= min(clientBudget, nanoseconds)
    }
  }

  /// Copies what our terminal has not seen. What was overwritten before is counted as lost.
  mutating func copyUnparsed(into buffer: UnsafeMutableRawBufferPointer) -> Int {
    if parsed < ring.start {
      unparsedBytes += ring.start - parsed
      parsed = ring.start
    }
    return ring.copy(from: parsed, into: buffer)
  }

  /// Our terminal has seen so many bytes more.
  mutating func didParse(_ count: Int) {
    parsed += UInt64(count)
    // It always goes on: being as slow as our terminal is flow control. The limit is for a loop that hangs.
    terminalBudget = fullTerminalBudget
  }

  /// Notes the slowest reading client; when all are near the end the guest's patience is whole again.
  mutating func noteReaders(_ slowest: UInt64?) {
    slowestReader = slowest
    if let slowest, ring.end - min(slowest, ring.end) > UInt64(ring.capacity / 4) { return }
    clientBudget = fullClientBudget
  }
}
