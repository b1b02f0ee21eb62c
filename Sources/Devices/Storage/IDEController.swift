// The IDE function of the PIIX3 (82371SB data sheet, 2.4 and 2.6): two channels with two drives each at the ports and
// interrupts that PCs have had since the AT, and a bus master.

import GuestMemory
import Platform
import Synchronization

/// 00:01.1.
public final class IDEController: BusDevice, PCIDevice {
  /// A drive of the controller's.
  public typealias Drive = AHCIController.Drive

  /// Most drives: first and second of the first channel, then of the second.
  public static let driveLimit = 4
  /// Interrupts of the channels.
  public static let interrupts: [UInt32] = [14, 15]
  /// Command blocks of eight ports, control blocks of one.
  static let commandPorts: [UInt16] = [0x1F0, 0x170]
  static let controlPorts: [UInt16] = [0x3F6, 0x376]
  static let masterAddress = 4
  /// IDETIM: bit 15 decodes the channel's ports.
  static let timing = 0x40
  private static let decodes: UInt16 = 0x8000

  /// How this device tells its ports apart: a channel's from `channelOffset` times its number, the bus master's last.
  private static let channelOffset: UInt64 = 0x20
  private static let masterOffset: UInt64 = 0x100
  private static let masterSize: UInt64 = 16

  public let function: PCIFunction
  private let channels: [IDEChannel]
  /// The bus keeps the host that keeps this.
  private weak let ports: PortBus?
  private let decoded = Mutex<[Bool]>([false, false])

  /// - Parameter drives: at most `driveLimit`.
  /// - Throws: `PlatformError` when the process has no descriptors or threads left.
  public init(
    drives: [Drive], memory: GuestMemory, ports: PortBus, sink: any InterruptSink
  ) throws(PlatformError) {
    let devices: [any ATADevice] = drives.prefix(Self.driveLimit).map { drive in
      switch drive {
      case .disk(let disk): disk
      case .optical(let optical): ATAPacketDrive(optical)
      }
    }
    var channels: [IDEChannel] = []
    for (index, interrupt) in Self.interrupts.enumerated() {
      channels.append(
        try IDEChannel(
          index, drives: Array(devices.dropFirst(2 * index).prefix(2)), memory: memory,
          line: InterruptLine(interrupt, of: sink)))
    }
    self.channels = channels
    self.ports = ports
    // Compatibility mode of both channels, with a bus master; the interrupts are ISA's.
    function = PCIFunction(PCIIdentity(vendor: 0x8086, device: 0x7010, classCode: 0x010180))
    function.set(UInt16(0x0280), at: PCIRegister.status)
    for index in 0..<2 {
      // Decoded from the start, for guests that come without firmware.
      function.define(
        at: Self.timing + 2 * index, value: Self.decodes, writable: UInt16(0xF3FF))
    }
    function.define(at: 0x44, value: UInt8(0), writable: UInt8(0xFF))
    function.addBaseAddress(
      Self.masterAddress, kind: .ports, size: Self.masterSize, device: self,
      offset: Self.masterOffset)
    for channel in channels { try channel.start() }
  }

  deinit {
    for channel in channels { channel.stop() }
  }

  // MARK: Ports

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    guard offset >= Self.masterOffset else {
      return channels[Int(offset / Self.channelOffset) & 1].read(
        at: offset % Self.channelOffset, width: width)
    }
    var value: UInt64 = 0
    for index in 0..<UInt64(width.count) {
      let register = offset &- Self.masterOffset &+ index
      let byte = channels[Int(register >> 3) & 1].readMaster(register & 7)
      value |= UInt64(byte) << (8 &* index)
    }
    return value
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard offset >= Self.masterOffset else {
      return channels[Int(offset / Self.channelOffset) & 1].write(
        at: offset % Self.channelOffset, width: width, value: value)
    }
    for index in 0..<UInt64(width.count) {
      let register = offset &- Self.masterOffset &+ index
      channels[Int(register >> 3) & 1].writeMaster(
        register & 7, UInt8(truncatingIfNeeded: value >> (8 &* index)))
    }
  }

  // MARK: PCIDevice

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    let command = function.command
    for channel in channels { channel.setMaster(command & PCICommand.busMaster != 0) }
    decoded.withLock { decoded in
      for index in 0..<2 {
        let timing = function.space.load16(Self.timing + 2 * index)
        let wanted = timing & Self.decodes != 0 && (command & PCICommand.ports != 0)
        guard wanted != decoded[index] else { continue }
        decoded[index] = wanted
        decode(index, wanted)
      }
    }
  }

  private func decode(_ index: Int, _ wanted: Bool) {
    let (command, control) = (Self.commandPorts[index], Self.controlPorts[index])
    guard wanted else {
      ports?.unregister(self, at: command, count: 8)
      ports?.unregister(self, at: control, count: 1)
      return
    }
    let offset = Self.channelOffset * UInt64(index)
    ports?.register(self, at: command, count: 8, offset: offset)
    ports?.register(
      self, at: control, count: 1, offset: offset + IDEChannelRegisters.Register.control)
  }

  public func reset() { for channel in channels { channel.reset() } }

  // MARK: Life

  /// Finishes what has begun and begins no more until `resume`. When it returns, nothing touches guest memory.
  public func pause() { for channel in channels { channel.pause() } }

  public func resume() { for channel in channels { channel.resume() } }
}

extension IDEController: Snapshottable {
  public struct ChannelState: Codable, Sendable {
    var registers: IDEChannelRegisters
    var devices: [ATADeviceState?]
  }

  public struct State: Codable, Sendable {
    var channels: [ChannelState]
  }

  public static let stateVersion = 1

  /// Only while paused. Configuration space is in the state of the `PCIHost`; optical drives are saved by themselves.
  public func saveState() -> State { State(channels: channels.map { $0.saveState() }) }

  public func check(_ saved: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      saved.channels.count == channels.count,
      "it has \(saved.channels.count) channels and not \(channels.count)")
    for (channel, state) in zip(channels, saved.channels) { try channel.check(state) }
  }

  /// Only while paused, after the `PCIHost`'s state.
  public func restoreState(_ saved: State) {
    for (channel, state) in zip(channels, saved.channels) { channel.restoreState(state) }
  }
}
