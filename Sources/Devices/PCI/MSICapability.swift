// MSI (PCI Local Bus 3.0, 6.8.1): up to 32 messages that differ in the low bits of their data, described in
// configuration space, with a mask and a pending bit each.

import Synchronization

/// The MSI capability of one function: 64-bit address, masks a vector.
///
/// Its registers are in the function's configuration space, which saves and restores them; only the pending bits live
/// here.
public final class MSICapability: Sendable {
  static let identifier: UInt8 = 0x05
  /// Offsets from the capability.
  private enum Field {
    static let control = 2
    static let address = 4
    static let data = 12
    static let mask = 16
    static let pending = 20
    static let end = 24
  }

  private struct Guarded {
    var enabled = false
    /// log2 of the vectors that the guest allows.
    var allowed: UInt32 = 0
    var message = MessageInterrupt(address: 0, data: 0)
    var mask: UInt32 = 0
    var pending: UInt32 = 0
  }

  private let sink: any InterruptSink
  private let offset: Int
  private let capacity: UInt32
  private let guarded = Mutex(Guarded())

  /// Adds the capability to a function.
  ///
  /// - Parameter vectors: how many the device can use: 1, 2, 4, 8, 16 or 32.
  public init(vectors: Int, in function: PCIFunction, sink: any InterruptSink) {
    precondition(vectors > 0 && vectors <= 32 && vectors.nonzeroBitCount == 1)
    self.sink = sink
    capacity = UInt32(vectors.trailingZeroBitCount)
    // Control: bit 8 masks a vector, bit 7 64-bit address, bits 3:1 what the device can.
    let control = UInt16(0x0180) | UInt16(capacity) << 1
    var body: [UInt8] = []
    body.append(littleEndian: control)
    body += [UInt8](repeating: 0, count: Field.end - Field.address)
    var writable = [UInt8](repeating: 0, count: body.count)
    // Enable and bits 6:4, how many the guest allows.
    writable[0] = 0x71
    for index in Field.address..<Field.data + 2 { writable[index - 2] = 0xFF }
    writable[Field.address - 2] = 0xFC
    let masks = vectors == 32 ? UInt32.max : (UInt32(1) << UInt32(vectors)) - 1
    for index in 0..<4 {
      writable[Field.mask - 2 + index] = UInt8(truncatingIfNeeded: masks >> UInt32(8 * index))
    }
    offset = function.addCapability(Self.identifier, body: body, writable: writable)
  }

  /// The owner passes `PCIDevice.configurationDidChange` on.
  public func configurationDidChange(_ range: Range<Int>, in function: PCIFunction) {
    guard range.overlaps(offset..<offset + Field.end) else { return }
    let space = function.space
    let control = space.load16(offset + Field.control)
    let address =
      UInt64(space.load32(offset + Field.address))
      | UInt64(space.load32(offset + Field.address + 4)) << 32
    guarded.withLock { state in
      state.enabled = control & 1 != 0
      state.allowed = min(UInt32(control >> 4 & 7), capacity)
      state.message = MessageInterrupt(
        address: address, data: UInt32(space.load16(offset + Field.data)))
      state.mask = space.load32(offset + Field.mask)
      guard state.enabled else {
        state.pending = 0
        return
      }
      var ready = state.pending & ~state.mask
      state.pending &= state.mask
      while ready != 0 {
        send(UInt32(ready.trailingZeroBitCount), state)
        ready &= ready &- 1
      }
    }
  }

  /// The owner passes `PCIDevice.configurationWillRead` on: stores the pending bits where the guest looks.
  public func configurationWillRead(_ range: Range<Int>, in function: PCIFunction) {
    guard range.overlaps(offset + Field.pending..<offset + Field.end) else { return }
    function.set(guarded.withLock { $0.pending }, at: offset + Field.pending)
  }

  public var isEnabled: Bool { guarded.withLock { $0.enabled } }

  /// Fires a vector. One that the guest has not allowed comes as vector 0.
  public func raise(_ vector: Int) {
    guarded.withLock { state in
      guard state.enabled, vector >= 0, vector < 32 else { return }
      let number = UInt32(vector) < UInt32(1) << state.allowed ? UInt32(vector) : 0
      if state.mask & (1 << number) != 0 {
        state.pending |= 1 << number
      } else {
        send(number, state)
      }
    }
  }

  private func send(_ vector: UInt32, _ state: Guarded) {
    let low = (UInt32(1) << state.allowed) &- 1
    sink.deliver(
      MessageInterrupt(
        address: state.message.address, data: state.message.data & ~low | vector & low))
  }
}

extension MSICapability: Snapshottable {
  public struct State: Codable, Sendable {
    var pending: UInt32
  }

  public static let stateVersion = 1

  public func saveState() -> State { State(pending: guarded.withLock { $0.pending }) }

  /// After the function's registers: what is pending and no longer masked is sent at the next change of them.
  public func restoreState(_ state: State) { guarded.withLock { $0.pending = state.pending } }
}
