// A SATA host adapter (Serial ATA AHCI 1.3.1) as an ICH9 has it: one function, a port for each drive, 32 commands a
// port in flight, one message or INTA#. What its ports do with commands is in AHCIPort.swift.

import GuestMemory
import Platform
import Synchronization

/// The adapter.
public final class AHCIController: BusDevice, PCIDevice {
  /// A drive of the adapter's.
  public enum Drive: Sendable {
    case disk(ATADisk)
    case optical(OpticalDrive)
  }

  /// Most drives on one adapter.
  public static let portLimit = 32
  /// The base address register that the specification prescribes, and the bytes behind it.
  static let baseAddress = 5
  public static let size: UInt64 = 0x2000
  static let portsOffset: UInt64 = 0x100

  /// Registers of the whole adapter (3.1).
  enum Register {
    static let capabilities: UInt64 = 0x00
    static let control: UInt64 = 0x04
    static let interruptStatus: UInt64 = 0x08
    static let portsImplemented: UInt64 = 0x0C
    static let version: UInt64 = 0x10
  }

  private enum Control {
    static let reset: UInt32 = 1 << 0
    static let interruptEnable: UInt32 = 1 << 1
    /// There is no other mode: always set.
    static let enable: UInt32 = 1 << 31
  }

  /// 64-bit addresses, queued commands, command list override, third generation, AHCI only, 32 slots.
  private static let capabilities: UInt32 =
    1 << 31 | 1 << 30 | 1 << 24 | 3 << 20 | 1 << 18 | 31 << 8

  struct Guarded {
    var interruptEnable = false
    var interruptStatus: UInt32 = 0
    var ports: [AHCIPortRegisters]
    /// Ports whose engine has not heard of a reset of the adapter yet.
    var resetting: UInt32 = 0
    /// The PCI command register lets the adapter use memory.
    var isMaster = false
    /// Messages are enabled: the pin stays down.
    var usesMessages = false
  }

  public let function: PCIFunction
  let memory: GuestMemory
  private let guarded: Mutex<Guarded>
  private let messages: MSICapability
  private let ports: [AHCIPort]

  /// - Parameter drives: port numbers are positions; at most `portLimit`.
  /// - Throws: `PlatformError` when the process has no descriptors or threads left.
  public init(
    drives: [Drive], memory: GuestMemory, sink: any InterruptSink
  ) throws(PlatformError) {
    self.memory = memory
    var ports: [AHCIPort] = []
    for (index, drive) in drives.prefix(Self.portLimit).enumerated() {
      let device: any ATADevice =
        switch drive {
        case .disk(let disk): disk
        case .optical(let optical): ATAPacketDrive(optical)
        }
      ports.append(try AHCIPort(index, device))
    }
    self.ports = ports
    guarded = Mutex(Guarded(ports: ports.map { _ in AHCIPortRegisters() }))
    function = PCIFunction(
      PCIIdentity(vendor: 0x8086, device: 0x2922, revision: 2, classCode: 0x010601),
      interruptPin: 1)
    messages = MSICapability(vectors: 1, in: function, sink: sink)
    // Power management, version 3: D0 and D3, of which nothing is lost (AHCI 2.3).
    _ = function.addCapability(0x01, body: [3, 0, 8, 0, 0, 0], writable: [0, 0, 3, 0])
    function.addBaseAddress(Self.baseAddress, kind: .memory32, size: Self.size, device: self)
    for port in ports { try port.start(self) }
  }

  deinit {
    for port in ports { port.stop() }
  }

  // MARK: Registers

  /// Registers are double words; a wider access is two, and a narrower one a part.
  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    let register = offset & ~3
    return guarded.withLock { state in
      var value = UInt64(read(register, state))
      if width == .quadword { value |= UInt64(read(register &+ 4, state)) << 32 }
      return value >> ((offset & 3) * 8) & width.mask
    }
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    let register = offset & ~3
    let shift = (offset & 3) * 8
    var ring: UInt32 = 0
    guarded.withLock { state in
      if width == .quadword {
        ring |= write(register, UInt32(truncatingIfNeeded: value), &state)
        ring |= write(register &+ 4, UInt32(truncatingIfNeeded: value >> 32), &state)
      } else {
        let mask = UInt32(truncatingIfNeeded: (width.mask & 0xFFFF_FFFF) << shift)
        // The rest of a register keeps its value: zero where writing one acts.
        let rest = Self.actsOnOnes(register) ? 0 : read(register, state) & ~mask
        ring |= write(register, UInt32(truncatingIfNeeded: value << shift) & mask | rest, &state)
      }
    }
    while ring != 0 {
      ports[ring.trailingZeroBitCount].ring()
      ring &= ring &- 1
    }
  }

  private static func actsOnOnes(_ register: UInt64) -> Bool {
    guard register >= portsOffset else { return register == Register.interruptStatus }
    typealias Port = AHCIPortRegisters.Register
    return [Port.interruptStatus, Port.error, Port.active, Port.issue]
      .contains((register &- portsOffset) % Port.size)
  }

  /// The port that a register belongs to, and its offset there.
  private func port(of register: UInt64) -> (index: Int, offset: UInt64)? {
    guard register >= Self.portsOffset else { return nil }
    let (index, offset) = (register &- Self.portsOffset)
      .quotientAndRemainder(dividingBy: AHCIPortRegisters.Register.size)
    return index < UInt64(ports.count) ? (Int(index), offset) : nil
  }

  private func read(_ register: UInt64, _ state: borrowing Guarded) -> UInt32 {
    switch register {
    case Register.capabilities: return Self.capabilities | UInt32(max(ports.count, 1) - 1)
    case Register.control:
      return Control.enable | (state.interruptEnable ? Control.interruptEnable : 0)
        | (state.resetting != 0 ? Control.reset : 0)
    case Register.interruptStatus: return state.interruptStatus
    case Register.portsImplemented: return allPorts
    case Register.version: return 0x0001_0301
    default:
      guard let place = port(of: register) else { return 0 }
      return state.ports[place.index].read(at: place.offset)
    }
  }

  /// - Returns: the ports whose engines have something to look at.
  private func write(_ register: UInt64, _ value: UInt32, _ state: inout Guarded) -> UInt32 {
    switch register {
    case Register.control:
      if value & Control.reset != 0 { return reset(&state) }
      let wasEnabled = state.interruptEnable
      state.interruptEnable = value & Control.interruptEnable != 0
      update(&state, signals: state.interruptEnable && !wasEnabled)
    case Register.interruptStatus:
      state.interruptStatus &= ~value
      update(&state, signals: true)
    default:
      guard let place = port(of: register) else { return 0 }
      let hasWork = state.ports[place.index].write(at: place.offset, value: value)
      update(&state)
      return hasWork ? 1 << UInt32(place.index) : 0
    }
    return 0
  }

  private var allPorts: UInt32 {
    UInt32(truncatingIfNeeded: (UInt64(1) << UInt64(ports.count)) &- 1)
  }

  /// GHC.HR (10.4.3): over when every port has let go of memory.
  private func reset(_ state: inout Guarded) -> UInt32 {
    for index in state.ports.indices { state.ports[index].reset() }
    state.interruptEnable = false
    state.interruptStatus = 0
    state.resetting = allPorts
    update(&state)
    return allPorts
  }

  // MARK: Interrupts

  /// Brings what the ports report to the processors. A bit of IS stays until it is written, and is set again at once
  /// while its port still has something (10.6.2).
  ///
  /// - Parameter signals: sends a message for bits that were set before, too.
  private func update(_ state: inout Guarded, signals: Bool = false) {
    var pending: UInt32 = 0
    for index in state.ports.indices where state.ports[index].isInterrupting {
      pending |= 1 << UInt32(index)
    }
    let isNews = pending & ~state.interruptStatus != 0
    state.interruptStatus |= pending
    let level = state.interruptEnable && state.interruptStatus != 0
    guard state.usesMessages else { return function.setInterrupt(level) }
    if level && (isNews || signals) { messages.raise(0) }
  }

  // MARK: For ports

  /// The registers of a port; interrupts follow from what `body` does with them.
  func withPort<Result>(
    _ index: Int, _ body: (inout AHCIPortRegisters, _ isMaster: Bool) -> Result
  ) -> Result {
    guarded.withLock { state in
      let result = body(&state.ports[index], state.isMaster)
      update(&state)
      return result
    }
  }

  /// A port has nothing in flight that began before the adapter's reset.
  func didReset(_ index: Int, lifetime: UInt32) {
    guarded.withLock { state in
      if state.ports[index].lifetime == lifetime { state.resetting &= ~(1 << UInt32(index)) }
    }
  }

  // MARK: PCIDevice

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    messages.configurationDidChange(range, in: function)
    let isMaster = function.command & PCICommand.busMaster != 0
    let usesMessages = messages.isEnabled
    let hasWork = guarded.withLock { state in
      let hasWork = isMaster && !state.isMaster
      state.isMaster = isMaster
      if usesMessages != state.usesMessages {
        state.usesMessages = usesMessages
        if usesMessages { function.setInterrupt(false) }
        update(&state, signals: true)
      }
      return hasWork
    }
    if hasWork { for port in ports { port.ring() } }
  }

  public func configurationWillRead(_ range: Range<Int>) {
    messages.configurationWillRead(range, in: function)
  }

  public func reset() {
    for port in ports { port.hold() }
    guarded.withLock { state in
      _ = reset(&state)
      state.usesMessages = false
      state.isMaster = false
    }
    for port in ports { port.release() }
  }

  // MARK: Life

  /// Finishes commands that have begun and begins no more until `resume`. When it returns, nothing touches guest memory.
  public func pause() { for port in ports { port.pause() } }

  public func resume() { for port in ports { port.resume() } }
}

extension AHCIController: Snapshottable {
  public struct State: Codable, Sendable {
    var interruptEnable: Bool
    var interruptStatus: UInt32
    var ports: [AHCIPortRegisters]
    var devices: [ATADeviceState]
    var messages: MSICapability.State
  }

  public static let stateVersion = 1

  /// Only while paused. Configuration space is in the state of the `PCIHost`; optical drives are saved by themselves.
  public func saveState() -> State {
    let devices = ports.map { $0.device.saveState() }
    let pending = messages.saveState()
    return guarded.withLock { state in
      State(
        interruptEnable: state.interruptEnable, interruptStatus: state.interruptStatus,
        ports: state.ports, devices: devices, messages: pending)
    }
  }

  public func check(_ saved: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      saved.ports.count == ports.count && saved.devices.count == ports.count,
      "it has \(saved.ports.count) ports and not \(ports.count)")
    for (port, state) in zip(ports, saved.devices) { try port.device.check(state) }
    var possible = saved.ports
    for index in possible.indices { possible[index].normalize() }
    try DeviceStateError.require(possible == saved.ports, "a port's registers cannot be")
  }

  /// Only while paused, after the `PCIHost`'s state.
  public func restoreState(_ saved: State) {
    messages.restoreState(saved.messages)
    guard saved.ports.count == ports.count, saved.devices.count == ports.count else { return }
    for (port, state) in zip(ports, saved.devices) { port.device.restoreState(state) }
    guarded.withLock { state in
      state.interruptEnable = saved.interruptEnable
      state.interruptStatus = saved.interruptStatus & allPorts
      state.ports = saved.ports
      for index in state.ports.indices { state.ports[index].normalize() }
      state.resetting = 0
      update(&state)
    }
  }
}
