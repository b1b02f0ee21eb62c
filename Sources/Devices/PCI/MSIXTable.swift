// MSI-X (PCI Local Bus 3.0, 6.8.2): a table of messages in memory, with a mask a vector, and the pending bits of those
// that fired while masked.

import Synchronization

/// Lets the machine bind vectors to something faster than `InterruptSink.deliver`, such as an irqfd.
public protocol MessageVectorBinding: AnyObject, Sendable {
  /// What the vector sends now; nil while it is masked or MSI-X is off. Called with the table's lock held: must not
  /// call back into it.
  func vectorDidChange(_ vector: Int, of table: MSIXTable, message: MessageInterrupt?)
  /// Sends an unmasked vector in the machine's own way; false: the table delivers through its `InterruptSink`.
  func deliver(_ vector: Int, of table: MSIXTable) -> Bool
}

/// The vectors of one function. Answers the table and the pending bit array in a memory BAR.
public final class MSIXTable: BusDevice {
  /// Identifier of the capability.
  static let capability: UInt8 = 0x11
  static let entrySize = 16
  /// No vector.
  public static let none: UInt16 = 0xFFFF

  struct Entry: Codable, Sendable {
    var address: UInt64 = 0
    var data: UInt32 = 0
    /// Bit 0: masked.
    var control: UInt32 = 1
  }

  private struct Guarded {
    var entries: [Entry]
    var pending: [UInt64]
    var enabled = false
    var masked = false
  }

  public let count: Int
  /// Where the pending bit array begins in the BAR; the table is at 0.
  public let pendingOffset: UInt64
  /// Bytes of BAR that hold both; a power of two.
  public let size: UInt64
  private let sink: any InterruptSink
  private let binding: (any MessageVectorBinding)?
  private let guarded: Mutex<Guarded>

  /// - Parameter count: vectors, 1 to 2048.
  public init(
    count: Int, sink: any InterruptSink, binding: (any MessageVectorBinding)? = nil
  ) {
    let count = min(max(count, 1), 2048)
    self.count = count
    self.sink = sink
    self.binding = binding
    var half: UInt64 = 2048
    while half < UInt64(count * Self.entrySize) { half *= 2 }
    pendingOffset = half
    size = half * 2
    guarded = Mutex(
      Guarded(
        entries: Array(repeating: Entry(), count: count),
        pending: Array(repeating: 0, count: (count + 63) / 64)))
  }

  /// Adds BAR and capability to a function. Returns the capability's offset; its control word is at +2.
  func install(in function: PCIFunction, baseAddress index: Int) -> Int {
    function.addBaseAddress(index, kind: .memory32, size: size, device: self)
    let table = UInt32(index)
    let pending = UInt32(truncatingIfNeeded: pendingOffset) | UInt32(index)
    var body: [UInt8] = [UInt8(truncatingIfNeeded: count - 1), UInt8((count - 1) >> 8)]
    for word in [table, pending] {
      for shift in stride(from: 0, to: 32, by: 8) {
        body.append(UInt8(truncatingIfNeeded: word >> UInt32(shift)))
      }
    }
    // Message control: bit 15 enable, bit 14 function mask.
    return function.addCapability(Self.capability, body: body, writable: [0, 0xC0])
  }

  /// Follows the message control word of the capability.
  func setControl(_ control: UInt16) {
    guarded.withLock { state in
      let enabled = control & 0x8000 != 0
      let masked = control & 0x4000 != 0
      guard enabled != state.enabled || masked != state.masked else { return }
      state.enabled = enabled
      state.masked = masked
      for vector in 0..<count { announce(vector, &state) }
    }
  }

  public var isEnabled: Bool { guarded.withLock { $0.enabled } }

  /// Fires a vector: sends its message, or makes it pending while masked. A vector that does not exist does nothing.
  public func raise(_ vector: Int) {
    guarded.withLock { state in
      guard vector >= 0, vector < count, state.enabled else { return }
      if Self.isMasked(vector, state) {
        state.pending[vector / 64] |= 1 << UInt64(vector % 64)
      } else {
        send(vector, state)
      }
    }
  }

  func reset() {
    guarded.withLock { state in
      for vector in 0..<count { state.entries[vector] = Entry() }
      for index in state.pending.indices { state.pending[index] = 0 }
      state.enabled = false
      state.masked = false
      for vector in 0..<count { announce(vector, &state) }
    }
  }

  private static func isMasked(_ vector: Int, _ state: Guarded) -> Bool {
    state.masked || state.entries[vector].control & 1 != 0
  }

  private func send(_ vector: Int, _ state: Guarded) {
    if let binding, binding.deliver(vector, of: self) { return }
    let entry = state.entries[vector]
    sink.deliver(MessageInterrupt(address: entry.address, data: entry.data))
  }

  /// Tells the binding what the vector is now and sends it if it waited for the mask to go.
  private func announce(_ vector: Int, _ state: inout Guarded) {
    let open = state.enabled && !Self.isMasked(vector, state)
    if let binding {
      let entry = state.entries[vector]
      binding.vectorDidChange(
        vector, of: self,
        message: open ? MessageInterrupt(address: entry.address, data: entry.data) : nil)
    }
    let bit: UInt64 = 1 << UInt64(vector % 64)
    if open && state.pending[vector / 64] & bit != 0 {
      state.pending[vector / 64] &= ~bit
      send(vector, state)
    }
  }

  // MARK: Accesses

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    guarded.withLock { state in
      // Pieces of aligned double words, whatever the width.
      let low = UInt64(word(at: offset & ~3, state))
      guard width == .quadword || offset & 3 + UInt64(width.rawValue) > 4 else {
        return low >> (8 * (offset & 3)) & width.mask
      }
      let both = low | UInt64(word(at: (offset & ~3) &+ 4, state)) << 32
      return both >> (8 * (offset & 3)) & width.mask
    }
  }

  /// Double and quad words at their own alignment, as the specification demands; others are ignored.
  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard width.rawValue >= 4, offset & 3 == 0 else { return }
    guarded.withLock { state in
      store(UInt32(truncatingIfNeeded: value), at: offset, &state)
      if width == .quadword {
        store(UInt32(truncatingIfNeeded: value >> 32), at: offset &+ 4, &state)
      }
    }
  }

  private func word(at offset: UInt64, _ state: Guarded) -> UInt32 {
    if offset < UInt64(count * Self.entrySize) {
      let entry = state.entries[Int(offset) / Self.entrySize]
      switch offset & 0xC {
      case 0: return UInt32(truncatingIfNeeded: entry.address)
      case 4: return UInt32(truncatingIfNeeded: entry.address >> 32)
      case 8: return entry.data
      default: return entry.control
      }
    }
    guard offset >= pendingOffset, offset < size else { return 0 }
    let index = Int(offset - pendingOffset) / 8
    guard index < state.pending.count else { return 0 }
    return UInt32(truncatingIfNeeded: state.pending[index] >> (offset & 4 != 0 ? 32 : 0))
  }

  private func store(_ value: UInt32, at offset: UInt64, _ state: inout Guarded) {
    guard offset < UInt64(count * Self.entrySize) else { return }
    let vector = Int(offset) / Self.entrySize
    switch offset & 0xC {
    case 0:
      state.entries[vector].address =
        state.entries[vector].address & ~0xFFFF_FFFF | UInt64(value & ~3)
    case 4:
      state.entries[vector].address =
        state.entries[vector].address & 0xFFFF_FFFF | UInt64(value) << 32
    case 8: state.entries[vector].data = value
    default: state.entries[vector].control = value & 1
    }
    announce(vector, &state)
  }
}

extension MSIXTable: Snapshottable {
  public struct State: Codable, Sendable {
    var entries: [Entry]
    var pending: [UInt64]
  }

  public static let stateVersion = 1

  /// Whether MSI-X is on stands in the function's configuration space.
  public func saveState() -> State {
    guarded.withLock { State(entries: $0.entries, pending: $0.pending) }
  }

  public func check(_ saved: State) throws(DeviceStateError) {
    let words = guarded.withLock { $0.pending.count }
    try DeviceStateError.require(
      saved.entries.count == count && saved.pending.count == words,
      "it has \(saved.entries.count) message vectors and not \(count)")
  }

  public func restoreState(_ saved: State) {
    guarded.withLock { state in
      guard saved.entries.count == count, saved.pending.count == state.pending.count else {
        return
      }
      state.entries = saved.entries
      state.pending = saved.pending
      for vector in 0..<count { announce(vector, &state) }
    }
  }
}
