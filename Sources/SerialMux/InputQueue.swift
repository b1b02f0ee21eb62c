// What clients typed and the guest has not taken yet. A UART takes sixteen bytes at a time, a paste has thousands.

/// Bytes for the guest, first in, first out.
struct InputQueue: Sendable {
  private var bytes: [UInt8] = []
  private var taken = 0

  var count: Int { bytes.count - taken }
  var isEmpty: Bool { count == 0 }

  mutating func append(_ new: some Collection<UInt8>) {
    if taken > 4096 && taken * 2 > bytes.count {
      bytes.removeFirst(taken)
      taken = 0
    }
    bytes.append(contentsOf: new)
  }

  /// Offers the bytes and removes what was taken.
  mutating func offer(_ take: (UnsafeRawBufferPointer) -> Int) -> Int {
    guard !isEmpty else { return 0 }
    let offered = count
    let accepted = bytes.withUnsafeBytes { take(UnsafeRawBufferPointer(rebasing: $0[taken...])) }
    // The device is ours, but a wrong count must not take the process down.
    taken += min(max(accepted, 0), offered)
    if taken == bytes.count { removeAll() }
    return min(max(accepted, 0), offered)
  }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: bytes.capacity <= 1 << 16)
    taken = 0
  }
}
