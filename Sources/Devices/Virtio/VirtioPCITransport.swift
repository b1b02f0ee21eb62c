// A virtio device as a PCI function (Virtual I/O Device 1.2, 4.1).
//
// BAR 0: legacy registers in ports (transitional functions only); BAR 1: MSI-X; BAR 4 and 5: the modern structures in
// 64-bit memory. The capability of type 5 is a window from configuration space into all of them, which firmware uses
// where it cannot reach a memory BAR.

import GuestMemory
import Platform
import Synchronization

/// Puts a `VirtioDevice` on the PCI bus.
///
/// Locks, outermost first: PCI host, registers of the transport, device, `VirtioLink`, interrupt chips. A kick takes
/// none.
public final class VirtioPCITransport: PCIDevice, BusDevice {
  public enum Face: Sendable {
    /// Legacy and modern registers, identity of a legacy device.
    case transitional
    case modern
  }

  public var busName: String { "virtio \(device.type)" }

  static let legacyBaseAddress = 0
  static let vectorBaseAddress = 1
  static let modernBaseAddress = 4
  static let legacySize: UInt64 = 128
  /// What is added to offsets of the modern BAR, to tell them from those of the legacy one.
  static let modernTag: UInt64 = 1 << 32
  /// What every device offers for its rings.
  static let ringFeatures: VirtioFeatures = [.indirectDescriptors, .eventIndex]

  struct Guarded {
    var registers: VirtioPCIRegisters
    var bases: [Int: UInt64] = [:]
    var boundDoorbells: [(doorbell: Doorbell, notifier: EventNotifier)] = []
  }

  public let function: PCIFunction
  public let device: any VirtioDevice
  public let vectors: MSIXTable
  let link: VirtioLink
  let memory: GuestMemory
  let offered: VirtioFeatures
  let queueSizes: [UInt16]
  let guarded: Mutex<Guarded>
  private let notifiers: [EventNotifier]
  private let binding: (any DoorbellBinding)?
  private let vectorCapability: Int
  private let windowCapability: Int

  /// - Parameters:
  ///   - rom: an expansion ROM, such as iPXE's for network cards.
  ///   - doorbells: takes kicks without an exit, if the machine can.
  ///   - vectors: binds MSI-X vectors, if the machine can.
  public init(
    _ device: any VirtioDevice, face: Face = .transitional, memory: GuestMemory,
    sink: any InterruptSink, rom: PCIRegion? = nil, doorbells: (any DoorbellBinding)? = nil,
    vectors binding: (any MessageVectorBinding)? = nil
  ) {
    self.device = device
    self.memory = memory
    self.binding = doorbells
    let sizes = device.queueSizes
    queueSizes = sizes
    let type = device.type
    let isTransitional = face == .transitional
    function = PCIFunction(
      PCIIdentity(
        vendor: 0x1AF4, device: isTransitional ? type.transitionalDevice : type.modernDevice,
        revision: isTransitional ? 0 : 1, classCode: type.classCode, subsystemVendor: 0x1AF4,
        subsystem: isTransitional ? type.rawValue : 0x1100),
      interruptPin: 1)
    var offered = device.features.union(Self.ringFeatures).union(.version1)
    if isTransitional { offered.insert(.anyLayout) }
    self.offered = offered
    vectors = MSIXTable(count: sizes.count + 1, sink: sink, binding: binding)
    link = VirtioLink(queueCount: sizes.count, table: vectors, function: function)
    guarded = Mutex(Guarded(registers: VirtioPCIRegisters(queueSizes: sizes)))
    notifiers = sizes.indices.map { device.doorbell(forQueue: $0) }
    vectorCapability = vectors.install(in: function, baseAddress: Self.vectorBaseAddress)
    windowCapability = Self.addCapabilities(to: function)
    if isTransitional {
      function.addBaseAddress(
        Self.legacyBaseAddress, kind: .ports, size: Self.legacySize, device: self)
    }
    function.addBaseAddress(
      Self.modernBaseAddress, kind: .memory64, size: VirtioModernLayout.size, device: self,
      offset: Self.modernTag)
    if let rom { function.addROM(rom) }
    device.attach(link)
  }

  // MARK: Accesses to BARs

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    if offset >= Self.modernTag {
      return readModern(at: offset &- Self.modernTag, width: width) & width.mask
    }
    return readLegacy(at: offset, width: width) & width.mask
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    if offset >= Self.modernTag {
      let modern = offset &- Self.modernTag
      if modern >= VirtioModernLayout.notify {
        kick((modern &- VirtioModernLayout.notify) / VirtioModernLayout.notifyMultiplier)
      } else {
        writeModern(at: modern, width: width, value: value)
      }
    } else if offset == VirtioLegacyRegister.queueNotify {
      kick(value & 0xFFFF)
    } else {
      writeLegacy(at: offset, width: width, value: value)
    }
  }

  private func kick(_ queue: UInt64) {
    guard queue < UInt64(notifiers.count) else { return }
    if !device.serveAtOnce(queue: Int(queue)) { notifiers[Int(queue)].signal() }
  }

  // MARK: Status

  /// Whether the driver broke a rule and has not reset the device since.
  package var needsReset: Bool { link.violation != nil }

  func status(_ registers: VirtioPCIRegisters) -> UInt8 {
    registers.status | (link.violation == nil ? 0 : VirtioStatus.needsReset)
  }

  /// One transition for both faces. Only a write of zero takes bits away.
  func setStatus(_ value: UInt8, isLegacy: Bool, _ state: inout Guarded) {
    if value == 0 { return resetDevice(&state) }
    let old = state.registers.status
    var new = old | value & ~VirtioStatus.needsReset
    if !isLegacy {
      if new & ~old & VirtioStatus.featuresReady != 0 {
        let features = state.registers.driverFeatures
        // A driver that uses the modern registers and does not know version 1 cannot lay rings out as we read them.
        if !features.isSubset(of: offered) || !features.contains(.version1) {
          new &= ~VirtioStatus.featuresReady
        }
      }
      if new & VirtioStatus.featuresReady == 0 { new &= ~VirtioStatus.driverReady }
    }
    state.registers.status = new
    if new & ~old & VirtioStatus.driverReady != 0 {
      link.setDriverReady(true)
      activate(&state, positions: [])
    }
  }

  /// Freezes the queues and sets the device to work.
  func activate(_ state: inout Guarded, positions: [VirtioQueuePosition?]) {
    let features = state.registers.driverFeatures
    var queues: [VirtioQueue?] = []
    do throws(VirtioViolation) {
      for (index, queue) in state.registers.queues.enumerated() {
        guard queue.isEnabled else {
          queues.append(nil)
          continue
        }
        let position = index < positions.count ? positions[index] : nil
        queues.append(
          try VirtioQueue(
            index: index, layout: queue.layout, maximumSize: queueSizes[index],
            features: features, memory: memory, position: position ?? VirtioQueuePosition()))
      }
    } catch {
      return link.fail(error)
    }
    state.registers.isActive = true
    device.activate(features: features, queues: queues)
    updateDoorbells(&state)
  }

  /// Returns when the device has let go of guest memory; only then the driver can read the status as zero.
  func resetDevice(_ state: inout Guarded) {
    if state.registers.isActive { device.deactivate() }
    state.registers = VirtioPCIRegisters(queueSizes: queueSizes)
    link.reset()
    updateDoorbells(&state)
  }

  // MARK: Doorbells

  private func updateDoorbells(_ state: inout Guarded) {
    guard let binding else { return }
    let wanted = wantedDoorbells(state)
    for bound in state.boundDoorbells
    where !wanted.contains(where: { $0.doorbell == bound.doorbell }) {
      binding.unbind(bound.doorbell, from: bound.notifier)
    }
    for new in wanted
    where !state.boundDoorbells.contains(where: { $0.doorbell == new.doorbell }) {
      binding.bind(new.doorbell, to: new.notifier)
    }
    state.boundDoorbells = wanted
  }

  private func wantedDoorbells(
    _ state: Guarded
  ) -> [(doorbell: Doorbell, notifier: EventNotifier)] {
    guard state.registers.isActive else { return [] }
    var wanted: [(doorbell: Doorbell, notifier: EventNotifier)] = []
    for (index, queue) in state.registers.queues.enumerated() where queue.isEnabled {
      if let base = state.bases[Self.legacyBaseAddress] {
        let doorbell = Doorbell(
          space: .ports, address: base + VirtioLegacyRegister.queueNotify, length: 2,
          match: UInt64(index))
        wanted.append((doorbell, notifiers[index]))
      }
      if let base = state.bases[Self.modernBaseAddress] {
        let offset =
          VirtioModernLayout.notify + UInt64(index) * VirtioModernLayout.notifyMultiplier
        let doorbell = Doorbell(space: .memory, address: base + offset, length: 2, match: nil)
        wanted.append((doorbell, notifiers[index]))
      }
    }
    return wanted
  }

  // MARK: PCIDevice

  public func baseAddressDidMove(_ index: Int, to base: UInt64?) {
    guarded.withLock { state in
      state.bases[index] = base
      updateDoorbells(&state)
    }
  }

  public func reset() {
    guarded.withLock { resetDevice(&$0) }
    vectors.reset()
  }

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    let control = vectorCapability + 2
    if range.overlaps(control..<control + 2) {
      vectors.setControl(function.space.load16(control))
    }
    if byGuest && range.overlaps(VirtioPCIWindow.data(at: windowCapability)) {
      let window = VirtioPCIWindow(in: function.space, at: windowCapability)
      guard let width = window.width else { return }
      if window.bar == Self.vectorBaseAddress {
        vectors.write(at: window.offset, width: width, value: window.value & width.mask)
      } else if let offset = taggedOffset(window) {
        write(at: offset, width: width, value: window.value & width.mask)
      }
    }
  }

  public func configurationWillRead(_ range: Range<Int>) {
    let data = VirtioPCIWindow.data(at: windowCapability)
    guard range.overlaps(data) else { return }
    let window = VirtioPCIWindow(in: function.space, at: windowCapability)
    guard let width = window.width else { return }
    let value: UInt64
    if window.bar == Self.vectorBaseAddress {
      value = vectors.read(at: window.offset, width: width)
    } else if let offset = taggedOffset(window) {
      value = read(at: offset, width: width)
    } else {
      return
    }
    function.set(UInt32(truncatingIfNeeded: value), at: data.lowerBound)
  }

  private func taggedOffset(_ window: VirtioPCIWindow) -> UInt64? {
    switch window.bar {
    case Self.legacyBaseAddress where window.offset < Self.legacySize: window.offset
    case Self.modernBaseAddress where window.offset < VirtioModernLayout.size:
      Self.modernTag + window.offset
    default: nil
    }
  }
}
