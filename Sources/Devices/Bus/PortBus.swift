import Processor

/// The 64 Ki ports: one table look-up an access, without a lock.
///
/// The table is filled before the guest runs. A PCI I/O BAR that moves rewrites single 16-bit entries, which the
/// processors read with plain loads: a guest that accesses ports on one processor while it moves them on another gets
/// the old or the new device, as on hardware.
public final class PortBus: @unchecked Sendable {
  // @unchecked: see above; registration is serialized by the caller (the board, then the PCI host's lock).
  private struct Slot {
    unowned(unsafe) let device: any BusDevice
    let base: UInt16
    let offset: UInt64
  }

  private static let portCount = 0x1_0000
  private static let slotLimit = 1024
  private let slotOfPort: UnsafeMutablePointer<UInt16>
  private let slots: UnsafeMutablePointer<Slot>
  private var slotCount = 1  // slot 0 means nobody
  private var owners: [any BusDevice] = []

  public init() {
    slotOfPort = .allocate(capacity: Self.portCount)
    slotOfPort.initialize(repeating: 0, count: Self.portCount)
    slots = .allocate(capacity: Self.slotLimit)
  }

  deinit {
    slotOfPort.deallocate()
    slots.deallocate()
  }

  /// Gives ports `base` to `base + count - 1` to `device`, whose own offsets begin at `offset`.
  ///
  /// Ports that another device has already stay with that one. Ports beyond 0xFFFF are left out.
  public func register(_ device: any BusDevice, at base: UInt16, count: Int, offset: UInt64 = 0) {
    guard let slot = makeSlot(device, base: base, offset: offset) else { return }
    for port in Int(base)..<min(Int(base) + count, Self.portCount) where slotOfPort[port] == 0 {
      slotOfPort[port] = slot
    }
  }

  /// Takes ports from `device`; ports of other devices in the range stay.
  public func unregister(_ device: any BusDevice, at base: UInt16, count: Int) {
    for port in Int(base)..<min(Int(base) + count, Self.portCount) {
      let slot = Int(slotOfPort[port])
      if slot != 0 && slots[slot].device === device { slotOfPort[port] = 0 }
    }
  }

  /// A slot with the same meaning is used again, so that a guest that moves a BAR for ever does not fill the table.
  private func makeSlot(_ device: any BusDevice, base: UInt16, offset: UInt64) -> UInt16? {
    for index in 1..<slotCount
    where slots[index].device === device && slots[index].base == base
      && slots[index].offset == offset
    {
      return UInt16(index)
    }
    var free: Int?
    if slotCount == Self.slotLimit {
      // Rare: a guest has moved BARs to a thousand places. Look which slots no port uses any more.
      let inUse = Set((0..<Self.portCount).lazy.map { self.slotOfPort[$0] })
      free = (1..<slotCount).first { !inUse.contains(UInt16($0)) }
      if free == nil { return nil }
    }
    let index = free ?? slotCount
    if free == nil { slotCount += 1 }
    if !owners.contains(where: { $0 === device }) { owners.append(device) }
    (slots + index).initialize(to: Slot(device: device, base: base, offset: offset))
    return UInt16(index)
  }

  /// One access. Nobody there: all ones.
  @inline(__always)
  public func read(port: UInt16, width: AccessWidth) -> UInt64 {
    let slot = Int(slotOfPort[Int(port)])
    guard slot != 0 else { return width.mask }
    let offset = UInt64(port &- slots[slot].base) &+ slots[slot].offset
    return slots[slot].device.read(at: offset, width: width) & width.mask
  }

  /// One access. Nobody there: swallowed.
  @inline(__always)
  public func write(port: UInt16, width: AccessWidth, value: UInt64) {
    let slot = Int(slotOfPort[Int(port)])
    guard slot != 0 else { return }
    let offset = UInt64(port &- slots[slot].base) &+ slots[slot].offset
    slots[slot].device.write(at: offset, width: width, value: value & width.mask)
  }
}
