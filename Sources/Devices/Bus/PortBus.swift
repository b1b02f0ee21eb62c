import Processor
import Synchronization

/// The 64 Ki ports: one table look-up an access, without a lock.
///
/// The table is filled before the guest runs. A PCI I/O BAR that moves rewrites single 16-bit entries, which the
/// processors read with plain loads: a guest that accesses ports on one processor while it moves them on another gets
/// the old or the new device, as on hardware.
public final class PortBus: @unchecked Sendable {
  // @unchecked: see above; registration is serialized by the caller (the board, then the PCI host's lock).
  private struct Slot {
    unowned(unsafe) let device: any BusDevice
    var base: UInt16
    var offset: UInt64
  }

  private static let portCount = 0x1_0000
  private static let slotLimit = 1024
  /// Slots without ports that a device keeps before it uses one of them again.
  private static let freeSlotLimit = 8
  private let slotOfPort: UnsafeMutablePointer<UInt16>
  private let slots: UnsafeMutablePointer<Slot>
  private var slotCount = 1  // slot 0 means nobody
  private var portsOfSlot = [Int](repeating: 0, count: slotLimit)
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
      portsOfSlot[Int(slot)] += 1
    }
  }

  /// Takes ports from `device`; ports of other devices in the range stay.
  public func unregister(_ device: any BusDevice, at base: UInt16, count: Int) {
    for port in Int(base)..<min(Int(base) + count, Self.portCount) {
      let slot = Int(slotOfPort[port])
      if slot != 0 && slots[slot].device === device {
        slotOfPort[port] = 0
        portsOfSlot[slot] -= 1
      }
    }
  }

  /// A slot with the same meaning is used again, so that a guest that moves a BAR for ever does not fill the table.
  ///
  /// A slot never changes its device: a processor that looks it up at the same time on another thread must not see one
  /// device's object with another's methods. A device that has been to many places changes base and offset of a slot
  /// of its own that no port uses any more; whoever reads it meanwhile gets some offset of that device.
  private func makeSlot(_ device: any BusDevice, base: UInt16, offset: UInt64) -> UInt16? {
    var free: Int?
    var freeCount = 0
    for index in 1..<slotCount where slots[index].device === device {
      if slots[index].base == base && slots[index].offset == offset { return UInt16(index) }
      if portsOfSlot[index] == 0 {
        free = index
        freeCount += 1
      }
    }
    let isFull = slotCount == Self.slotLimit
    if let free, freeCount >= Self.freeSlotLimit || isFull {
      slots[free].base = base
      slots[free].offset = offset
      atomicMemoryFence(ordering: .releasing)
      return UInt16(free)
    }
    guard !isFull else { return nil }
    let index = slotCount
    if !owners.contains(where: { $0 === device }) { owners.append(device) }
    (slots + index).initialize(to: Slot(device: device, base: base, offset: offset))
    // The slot before the ports that lead to it.
    atomicMemoryFence(ordering: .releasing)
    slotCount += 1
    return UInt16(index)
  }

  /// Who answers at a port, for lists.
  package func device(at port: UInt16) -> (any BusDevice)? {
    let slot = Int(slotOfPort[Int(port)])
    return slot == 0 ? nil : slots[slot].device
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
