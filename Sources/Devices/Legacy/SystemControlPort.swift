/// System control port A, port 0x92 (IBM PS/2 Technical Reference; Intel 82371AB data sheet 4.1.8): the fast way to
/// address line 20 and to a reset.
package struct SystemControlPort: ByteWideChip, Snapshottable, Codable, Equatable {
  package static let port: UInt16 = 0x92
  package static let stateVersion = 1

  package enum Bit {
    /// FAST_INIT: a rising edge resets the processor.
    package static let reset: UInt8 = 1 << 0
    /// FAST_A20
    package static let addressLine20: UInt8 = 1 << 1
  }

  private var value: UInt8 = Bit.addressLine20
  private var requests: BoardRequests = []

  package init() {}

  /// Power-on state.
  package mutating func reset() { self = Self() }

  package var outputs: UInt32 { 0 }
  package var deadline: MachineTime? { nil }
  package mutating func advance(to now: MachineTime) {}

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    offset == 0 ? value : 0xFF
  }

  package mutating func writeByte(at offset: UInt64, value new: UInt8, now: MachineTime) {
    guard offset == 0 else { return }
    let rose = new & ~value
    if (new ^ value) & Bit.addressLine20 != 0 {
      requests.subtract([.enableAddressLine20, .disableAddressLine20])
      requests.insert(
        new & Bit.addressLine20 != 0 ? .enableAddressLine20 : .disableAddressLine20)
    }
    value = new
    if rose & Bit.reset != 0 { requests.insert(.reset) }
  }

  package mutating func takeRequests() -> BoardRequests {
    defer { requests = [] }
    return requests
  }

  package func saveState() -> SystemControlPort { self }
  package mutating func restoreState(_ state: SystemControlPort) {
    self = state
    requests = []
  }
}
