// Base address registers (PCI Local Bus 3.0, 6.2.5): how large they are, where they point, and what is behind them.

import GuestMemory

/// Memory of the host that a base address register may show to the guest directly, without an exit on every read.
///
/// The machine implements it with a KVM memory slot. `base` may be anything that the guest chose: an implementation
/// refuses (returns false) what overlaps RAM or another slot, and the region is then served by exits.
public protocol PCIRegionMapper: AnyObject, Sendable {
  /// Shows `region` at `base`.
  func mapRegion(_ region: PCIRegion, at base: GuestAddress) -> Bool
  /// Takes it away again. Only after a `mapRegion` that returned true.
  func unmapRegion(_ region: PCIRegion, at base: GuestAddress)
}

/// What kind of address a register holds.
public enum PCIBaseAddressKind: Sendable, Equatable {
  case ports
  case memory32
  /// Takes this register and the next; prefetchable.
  case memory64
  /// Register 0x30 with its enable bit.
  case expansionROM
}

/// One base address register of a function.
struct PCIBaseAddress {
  enum Target {
    /// Not kept alive: the device owns the function that owns this.
    case device(WeakBusDevice)
    case region(PCIRegion)
  }

  let kind: PCIBaseAddressKind
  /// Bytes; a power of two.
  let size: UInt64
  /// Where it stands in configuration space.
  let register: Int
  /// First offset that the device sees.
  let offset: UInt64
  let target: Target
  /// Where it is decoded now.
  var base: UInt64?
  /// Whether a `PCIRegionMapper` has taken it, instead of a bus.
  var isMapped = false

  /// Where the registers want it decoded; nil when they do not, or cannot.
  ///
  /// Zero means "not placed yet". An end beyond the address space is what sizing with all ones gives.
  func wantedBase(in space: PCIConfigurationSpace) -> UInt64? {
    let command = space.load16(PCIRegister.command)
    let low = UInt64(space.load32(register))
    let base: UInt64
    let limit: UInt64
    switch kind {
    case .ports:
      guard command & PCICommand.ports != 0 else { return nil }
      base = low & ~3
      limit = 0xFFFF
    case .memory32:
      guard command & PCICommand.memory != 0 else { return nil }
      base = low & ~0xF
      limit = 0xFFFF_FFFE
    case .memory64:
      guard command & PCICommand.memory != 0 else { return nil }
      base = low & ~0xF | UInt64(space.load32(register + 4)) << 32
      limit = 1 << 52
    case .expansionROM:
      guard command & PCICommand.memory != 0, low & 1 != 0 else { return nil }
      base = low & ~0x7FF
      limit = 0xFFFF_FFFE
    }
    let (last, overflow) = base.addingReportingOverflow(size - 1)
    guard base != 0, !overflow, last < limit else { return nil }
    // Where sizing left the upper half of a 64-bit register at all ones, the end is beyond `limit`.
    return base
  }
}

/// A bus device that its owner keeps.
struct WeakBusDevice {
  weak var device: (any BusDevice)?
}
