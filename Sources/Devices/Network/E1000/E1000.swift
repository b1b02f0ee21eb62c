// The Intel 82540EM gigabit adapter, for guests without a virtio driver (Intel 317453, "PCI/PCI-X Family of Gigabit
// Ethernet Controllers Software Developer's Manual"). Interrupts by INTA#.

import GuestMemory
import Platform
import Synchronization

/// A network adapter.
public final class E1000: BusDevice, PCIDevice, NetworkAdapter {
  public struct Options: Sendable {
    public var address: HardwareAddress
    /// Frames with another source than `address` are refused.
    public var isLocked: Bool
    /// The cable is in.
    public var isUp: Bool

    public init(address: HardwareAddress, isLocked: Bool = false, isUp: Bool = true) {
      self.address = address
      self.isLocked = isLocked
      self.isUp = isUp
    }
  }

  static let deviceNumber: UInt16 = 0x100E
  public static let memorySize: UInt64 = 0x2_0000
  /// Registers through a window of two ports: an address and its data (13.2.2).
  static let portSize: UInt64 = 64
  private static let portTag: UInt64 = 1 << 32
  public static let memoryBaseAddress = 0
  static let portBaseAddress = 1

  public let function: PCIFunction
  private let engine: E1000Engine
  private let worker: DeviceWorker
  private let window = Monitor<UInt32>(0)

  /// - Parameters:
  ///   - rom: an expansion ROM, such as iPXE's.
  ///   - statistics: what counts; one that an earlier board's adapter had goes on.
  ///   - neighbors: what notes the guest's addresses; likewise.
  /// - Throws: `PlatformError` when the process has no descriptors or threads left.
  public init(
    backend: any NetworkBackend, options: Options, memory: GuestMemory, rom: PCIRegion? = nil,
    statistics: NetworkStatistics = NetworkStatistics(),
    neighbors: GuestNeighbors = GuestNeighbors()
  ) throws(PlatformError) {
    let function = PCIFunction(
      PCIIdentity(
        vendor: 0x8086, device: Self.deviceNumber, revision: 3, classCode: 0x020000,
        subsystemVendor: 0x8086, subsystem: 0x001E), interruptPin: 1)
    self.function = function
    let engine = E1000Engine(
      backend: backend, address: options.address, isUp: options.isUp, isLocked: options.isLocked,
      memory: memory, statistics: statistics, neighbors: neighbors
    ) { function.setInterrupt($0) }
    self.engine = engine
    worker = try DeviceWorker(name: "e1000", source: engine) { engine.step() }
    engine.notifier = worker.notifier
    function.addBaseAddress(
      Self.memoryBaseAddress, kind: .memory32, size: Self.memorySize, device: self)
    function.addBaseAddress(
      Self.portBaseAddress, kind: .ports, size: Self.portSize, device: self, offset: Self.portTag)
    if let rom { function.addROM(rom) }
    engine.connect()
    try worker.start()
  }

  deinit { worker.stop() }

  // MARK: NetworkAdapter

  public var isUp: Bool { engine.guarded.withLock { $0.registers.isUp } }

  public func setUp(_ up: Bool) { engine.change { $0.registers.setUp(up) } }

  /// A driver looks at its link again, and tells its neighbours then.
  public func announce() { engine.change { $0.registers.raise(.link) } }

  public func add(_ tap: any NetworkTap) { engine.taps.add(tap) }
  public func remove(_ tap: any NetworkTap) { engine.taps.remove(tap) }

  // MARK: Accesses

  /// Registers are double words; a narrower access is a part of one.
  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    if offset >= Self.portTag { return readPort(offset &- Self.portTag) & width.mask }
    let register = Int(truncatingIfNeeded: offset & (Self.memorySize - 1) & ~3)
    return engine.change { state in
      var value = UInt64(state.registers.read(register))
      if width == .quadword { value |= UInt64(state.registers.read(register + 4)) << 32 }
      return value >> ((offset & 3) * 8) & width.mask
    }
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    if offset >= Self.portTag { return writePort(offset &- Self.portTag, value) }
    // Writes narrower than a register are not supported (13.1).
    guard offset & 3 == 0, width == .doubleword || width == .quadword else { return }
    let register = Int(truncatingIfNeeded: offset & (Self.memorySize - 1))
    write(register, UInt32(truncatingIfNeeded: value))
    if width == .quadword { write(register + 4, UInt32(truncatingIfNeeded: value >> 32)) }
  }

  private func write(_ register: Int, _ value: UInt32) {
    let effects = engine.change { state in
      let effects = state.registers.write(register, value)
      if effects.contains(.reset) {
        state.transmitter = E1000Transmitter()
        state.pending.removeAll()
      }
      return effects
    }
    if effects.contains(.work), !worker.serveAtOnce() { worker.notifier.signal() }
  }

  private func readPort(_ offset: UInt64) -> UInt64 {
    let address = window.read { $0 }
    guard offset >= 4, offset < 8 else { return offset < 4 ? UInt64(address) : 0 }
    return read(at: UInt64(address), width: .doubleword)
  }

  private func writePort(_ offset: UInt64, _ value: UInt64) {
    if offset == 0 {
      window.update { $0 = UInt32(truncatingIfNeeded: value) & UInt32(Self.memorySize - 4) }
    } else if offset == 4 {
      write(Int(window.read { $0 }), UInt32(truncatingIfNeeded: value))
    }
  }

  // MARK: PCIDevice

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    let isMaster = function.command & PCICommand.busMaster != 0
    let isNew = engine.change { state in
      defer { state.isMaster = isMaster }
      return state.isMaster != isMaster
    }
    if isNew { worker.notifier.signal() }
  }

  public func reset() {
    worker.hold()
    engine.change { state in
      state.registers.reset()
      state.transmitter = E1000Transmitter()
      state.pending.removeAll()
      state.isMaster = false
    }
    window.update { $0 = 0 }
    worker.release()
  }

  // MARK: Life

  /// Finishes the frame under way and begins no other until `resume`. When it returns, nothing touches guest memory.
  public func pause() { worker.pause() }
  public func resume() { worker.resume() }
}

extension E1000: Snapshottable {
  public struct State: Codable, Sendable {
    var registers: E1000Registers
    var context: E1000Transmitter.Context
    var window: UInt32
  }

  public static let stateVersion = 1

  /// Only while paused. Configuration space is in the state of the `PCIHost`.
  public func saveState() -> State {
    let window = window.read { $0 }
    return engine.guarded.withLock { state in
      State(registers: state.registers, context: state.transmitter.context, window: window)
    }
  }

  public func check(_ state: State) throws(DeviceStateError) {
    try DeviceStateError.require(state.registers.isSound, "its registers cannot be")
    try DeviceStateError.require(state.context.isSound, "its context of sending cannot be")
  }

  /// Only while paused, after the `PCIHost`'s state. Frames that waited are lost, as on any wire.
  public func restoreState(_ state: State) {
    guard state.registers.isSound, state.context.isSound else { return }
    window.update { $0 = state.window & UInt32(Self.memorySize - 4) }
    engine.change { own in
      own.registers = state.registers
      own.transmitter = E1000Transmitter(state.context)
      own.pending.removeAll()
    }
  }
}
