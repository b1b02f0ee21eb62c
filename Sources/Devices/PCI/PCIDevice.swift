import GuestMemory

/// A device on the PCI bus: owns one `PCIFunction` and gives meaning to what the guest writes there.
///
/// Everything here is called with the PCI host's lock held.
public protocol PCIDevice: AnyObject, Sendable {
  var function: PCIFunction { get }
  /// The guest is about to read `range` of configuration space: registers that are computed are stored now.
  func configurationWillRead(_ range: Range<Int>)
  /// Bytes in `range` were written by the guest, or may have changed by attaching, reset or restoring a snapshot.
  func configurationDidChange(_ range: Range<Int>, byGuest: Bool)
  /// Base address register `index` (6 for the ROM) is decoded at `base` now, or nowhere.
  func baseAddressDidMove(_ index: Int, to base: UInt64?)
  /// Back to power-on state. The function's registers are reset already.
  func reset()
}

extension PCIDevice {
  public func configurationWillRead(_ range: Range<Int>) {}
  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {}
  public func baseAddressDidMove(_ index: Int, to base: UInt64?) {}
  public func reset() {}
}

/// The buses and the mapper that base address registers act on.
///
/// The board keeps the buses: they keep the PCI host, which keeps the functions, which must not keep them in turn.
public struct PCIDecoding: Sendable {
  public weak let ports: PortBus?
  public weak let memory: MemoryBus?
  public let mapper: (any PCIRegionMapper)?

  public init(ports: PortBus, memory: MemoryBus, mapper: (any PCIRegionMapper)? = nil) {
    self.ports = ports
    self.memory = memory
    self.mapper = mapper
  }
}
