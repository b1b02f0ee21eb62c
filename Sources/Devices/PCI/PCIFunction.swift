// One function's configuration space with its base addresses, capabilities and interrupt pin (PCI Local Bus 3.0,
// chapter 6).

import GuestMemory
import Synchronization

/// The configuration side of a PCI device.
///
/// Built by the device (`addBaseAddress`, `addCapability`), then attached to a `PCIHost`, whose lock guards it from
/// then on; only `setInterrupt` may be called without it.
public final class PCIFunction: @unchecked Sendable {
  // @unchecked: guarded by the host's lock, except `pin`, which has its own.
  public static let romIndex = 6
  private static let firstCapability = 0x40

  private(set) var space = PCIConfigurationSpace()
  private var resetContents: [UInt8] = []
  private var baseAddresses: [Int: PCIBaseAddress] = [:]
  private var order: [Int] = []
  private var lastCapability: Int?
  private var nextCapability = firstCapability
  private weak var device: (any PCIDevice)?
  private var decoding: PCIDecoding?
  /// Set when ports were given up: another function may have a claim to them.
  private(set) var didReleasePorts = false
  let pin: PCIInterruptPin

  /// - Parameter interruptPin: 1 to 4 for INTA# to INTD#, 0 for none.
  public init(_ identity: PCIIdentity, interruptPin: UInt8 = 0) {
    pin = PCIInterruptPin(number: interruptPin)
    space.set(identity.vendor, at: PCIRegister.vendor)
    space.set(identity.device, at: PCIRegister.device)
    space.set(identity.revision, at: PCIRegister.revision)
    space.set(UInt8(truncatingIfNeeded: identity.classCode), at: PCIRegister.classCode)
    space.set(UInt16(truncatingIfNeeded: identity.classCode >> 8), at: PCIRegister.classCode + 1)
    space.set(identity.subsystemVendor, at: PCIRegister.subsystemVendor)
    space.set(identity.subsystem, at: PCIRegister.subsystem)
    space.set(interruptPin, at: PCIRegister.interruptPin)
    let command =
      PCICommand.ports | PCICommand.memory | PCICommand.busMaster | PCICommand.systemError
      | PCICommand.interruptDisable
    space.setWritable(command, at: PCIRegister.command)
    space.setClearable(PCIStatus.writeOneToClear, at: PCIRegister.status)
    space.setWritable(UInt8(0xFF), at: PCIRegister.cacheLineSize)
    space.setWritable(UInt8(0xFF), at: PCIRegister.latencyTimer)
    if interruptPin != 0 { space.setWritable(UInt8(0xFF), at: PCIRegister.interruptLine) }
  }

  // MARK: Building

  /// Puts `device` behind base address register `index`.
  ///
  /// - Parameters:
  ///   - size: bytes, a power of two (ports: 4 to 256; memory: at least 16).
  ///   - offset: the first offset that the device sees, so that one device can tell its registers apart.
  public func addBaseAddress(
    _ index: Int, kind: PCIBaseAddressKind, size: UInt64, device: any BusDevice, offset: UInt64 = 0
  ) {
    add(
      index, kind: kind, size: size, offset: offset,
      target: .device(WeakBusDevice(device: device)))
  }

  /// Shows `region` through register `index` as 32-bit memory.
  ///
  /// - Parameter isPrefetchable: says that reading it has no effect (bit 3 of the register).
  public func addRegion(_ index: Int, _ region: PCIRegion, isPrefetchable: Bool = false) {
    add(
      index, kind: .memory32, size: UInt64(region.size), offset: 0, target: .region(region))
    if isPrefetchable { space.set(UInt8(0x08), at: PCIRegister.baseAddress + 4 * index) }
  }

  /// Gives the function an expansion ROM.
  public func addROM(_ region: PCIRegion) {
    add(
      Self.romIndex, kind: .expansionROM, size: UInt64(region.size), offset: 0,
      target: .region(region))
  }

  private func add(
    _ index: Int, kind: PCIBaseAddressKind, size: UInt64, offset: UInt64,
    target: PCIBaseAddress.Target
  ) {
    precondition(index >= 0 && index <= Self.romIndex && size.nonzeroBitCount == 1)
    let register =
      kind == .expansionROM
      ? PCIRegister.expansionROM : PCIRegister.baseAddress + 4 * index
    let mask = UInt32(truncatingIfNeeded: ~(size - 1))
    switch kind {
    case .ports:
      space.set(UInt32(1), at: register)
      space.setWritable(mask & ~3, at: register)
    case .memory32: space.setWritable(mask & ~0xF, at: register)
    case .memory64:
      space.set(UInt32(0xC), at: register)
      space.setWritable(mask & ~0xF, at: register)
      space.setWritable(UInt32(truncatingIfNeeded: ~(size - 1) >> 32), at: register + 4)
    case .expansionROM: space.setWritable(mask & ~0x7FF | 1, at: register)
    }
    baseAddresses[index] = PCIBaseAddress(
      kind: kind, size: size, register: register, offset: offset, target: target)
    order = baseAddresses.keys.sorted()
  }

  /// Appends a capability and returns the offset of its identifier.
  ///
  /// - Parameters:
  ///   - body: what follows identifier and link.
  ///   - writable: masks for `body`; shorter means read-only beyond.
  public func addCapability(_ identifier: UInt8, body: [UInt8], writable: [UInt8] = []) -> Int {
    let offset = nextCapability
    let end = offset + 2 + body.count
    precondition(end <= PCIConfigurationSpace.size, "no room for another PCI capability")
    space.set(identifier, at: offset)
    for (index, byte) in body.enumerated() {
      space.set(byte, at: offset + 2 + index)
      if index < writable.count { space.setWritable(writable[index], at: offset + 2 + index) }
    }
    space.set(UInt8(offset), at: lastCapability.map { $0 + 1 } ?? PCIRegister.capabilities)
    space.set(space.load16(PCIRegister.status) | PCIStatus.capabilityList, at: PCIRegister.status)
    lastCapability = offset
    nextCapability = (end + 3) & ~3
    return offset
  }

  /// Defines device-specific registers: reset value and the bits that the guest may change.
  public func define<Value: FixedWidthInteger>(at offset: Int, value: Value, writable: Value) {
    space.set(value, at: offset)
    space.setWritable(writable, at: offset)
  }

  // MARK: The host's side

  func attach(_ device: any PCIDevice, decoding: PCIDecoding) {
    self.device = device
    self.decoding = decoding
    resetContents = space.bytes
  }

  func setMultifunction() {
    space.set(UInt8(0x80), at: PCIRegister.headerType)
    resetContents = space.bytes
  }

  /// A guest's read.
  public func readConfiguration(at offset: Int, width: AccessWidth) -> UInt64 {
    device?.configurationWillRead(offset..<offset + width.count)
    var status = space.load16(PCIRegister.status) & ~PCIStatus.interrupt
    if pin.isAsserted { status |= PCIStatus.interrupt }
    space.set(status, at: PCIRegister.status)
    return space.read(at: offset, width: width)
  }

  /// A guest's write.
  public func writeConfiguration(at offset: Int, width: AccessWidth, value: UInt64) {
    let changed = space.write(at: offset, width: width, value: value)
    if changed && offset < Self.firstCapability { updateDecoding() }
    // Told even of writes that change nothing: some registers act when written.
    device?.configurationDidChange(offset..<offset + width.count, byGuest: true)
  }

  /// Stores without regard to masks: for registers that the device computes.
  public func set<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    space.set(value, at: offset)
  }

  /// Where register `index` is decoded now.
  public func base(of index: Int) -> UInt64? { baseAddresses[index]?.base }

  /// The command register.
  public var command: UInt16 { space.load16(PCIRegister.command) }

  /// Raises or lowers the interrupt pin. From any thread.
  public func setInterrupt(_ asserted: Bool) { pin.set(asserted) }

  func reset() {
    for (index, byte) in resetContents.enumerated() { space.set(byte, at: index) }
    pin.set(false)
    updateDecoding()
    device?.reset()
    device?.configurationDidChange(0..<PCIConfigurationSpace.size, byGuest: false)
  }

  private func updateDecoding() {
    pin.setDisabled(command & PCICommand.interruptDisable != 0)
    guard decoding != nil else { return }
    for index in order {
      guard var address = baseAddresses[index] else { continue }
      let wanted = address.wantedBase(in: space)
      if wanted == address.base { continue }
      unmap(&address)
      if let wanted { map(&address, at: wanted) }
      baseAddresses[index] = address
      device?.baseAddressDidMove(index, to: wanted)
    }
  }

  private func map(_ address: inout PCIBaseAddress, at base: UInt64) {
    address.base = base
    guard let decoding else { return }
    if case .region(let region) = address.target,
      decoding.mapper?.mapRegion(region, at: GuestAddress(base)) == true
    {
      address.isMapped = true
      return
    }
    guard let target = address.busDevice else { return }
    if address.kind == .ports {
      decoding.ports?.register(
        target, at: UInt16(truncatingIfNeeded: base), count: Int(address.size),
        offset: address.offset)
    } else {
      decoding.memory?.register(
        target, at: GuestAddress(base), count: address.size, offset: address.offset)
    }
  }

  private func unmap(_ address: inout PCIBaseAddress) {
    guard let base = address.base, let decoding else { return }
    address.base = nil
    if address.isMapped, case .region(let region) = address.target {
      address.isMapped = false
      decoding.mapper?.unmapRegion(region, at: GuestAddress(base))
      return
    }
    guard let target = address.busDevice else { return }
    if address.kind == .ports {
      decoding.ports?.unregister(
        target, at: UInt16(truncatingIfNeeded: base), count: Int(address.size))
      didReleasePorts = true
    } else {
      decoding.memory?.unregister(target, at: GuestAddress(base))
    }
  }

  /// Takes the ports that are free now and that a register points to: where two overlapped and one has moved away.
  func claimPorts() {
    didReleasePorts = false
    guard let decoding else { return }
    for index in order {
      guard let address = baseAddresses[index], address.kind == .ports, let base = address.base,
        let target = address.busDevice
      else { continue }
      decoding.ports?.register(
        target, at: UInt16(truncatingIfNeeded: base), count: Int(address.size),
        offset: address.offset)
    }
  }
}

extension PCIFunction: Snapshottable {
  public struct State: Codable, Sendable {
    public var configuration: [UInt8]
    public var interruptAsserted: Bool
  }

  public static let stateVersion = 1

  public func saveState() -> State {
    State(configuration: space.bytes, interruptAsserted: pin.isAsserted)
  }

  public func check(_ state: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.configuration.count == PCIConfigurationSpace.size,
      "a configuration space has \(state.configuration.count) bytes")
  }

  public func restoreState(_ state: State) {
    space.restore(state.configuration)
    updateDecoding()
    pin.set(state.interruptAsserted)
    device?.configurationDidChange(0..<PCIConfigurationSpace.size, byGuest: false)
  }
}

extension PCIBaseAddress {
  fileprivate var busDevice: (any BusDevice)? {
    switch target {
    case .device(let holder): holder.device
    case .region(let region): region
    }
  }
}
