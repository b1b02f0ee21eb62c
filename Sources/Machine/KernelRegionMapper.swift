import Devices
import GuestMemory
import KVM
import Synchronization

/// Shows option ROMs and display memory to the guest as memory slots, so that using them takes no exits.
package final class KernelRegionMapper: PCIRegionMapper {
  private struct Mapping {
    let slot: UInt32
    let region: PCIRegion
    let base: GuestAddress
  }

  /// Called when a region was shown or hidden.
  struct Notes: Sendable {
    var isShown: @Sendable (PCIRegion, GuestAddress) -> Void
    var isHidden: @Sendable (PCIRegion, GuestAddress) -> Void
  }

  private let machine: VirtualMachine
  private let notes: Notes?
  private let slots: Range<UInt32>
  private let mappings = Mutex<[Mapping]>([])

  /// - Parameter slots: memory slots that nobody else uses.
  package convenience init(_ machine: VirtualMachine, slots: Range<UInt32>) {
    self.init(machine, slots: slots, notes: nil)
  }

  init(_ machine: VirtualMachine, slots: Range<UInt32>, notes: Notes?) {
    self.machine = machine
    self.slots = slots
    self.notes = notes
  }

  /// What overlaps another slot is refused by the kernel, and then served by exits where the bus sees it.
  package func mapRegion(_ region: PCIRegion, at base: GuestAddress) -> Bool {
    mappings.withLock { mappings in
      guard let slot = slots.first(where: { slot in !mappings.contains { $0.slot == slot } })
      else { return false }
      do {
        try machine.setMemory(
          slot: slot, guestAddress: base, size: UInt64(region.size), host: region.host,
          readOnly: !region.isWritable, owner: region)
      } catch {
        return false
      }
      mappings.append(Mapping(slot: slot, region: region, base: base))
      notes?.isShown(region, base)
      return true
    }
  }

  package func unmapRegion(_ region: PCIRegion, at base: GuestAddress) {
    mappings.withLock { mappings in
      guard let index = mappings.firstIndex(where: { $0.region === region && $0.base == base })
      else { return }
      try? machine.removeMemory(slot: mappings.remove(at: index).slot)
      notes?.isHidden(region, base)
    }
  }
}
