// Configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2) in front of one bus of functions.
//
// 0xCF8: CONFIG_ADDRESS, double words only; 0xCF9 as a byte is the chip set's reset register; 0xCFC to 0xCFF:
// CONFIG_DATA, any width.

import GuestMemory
import Synchronization

/// The PCI bus and its way into configuration space.
public final class PCIHost: BusDevice {
  /// The first of the eight ports that this device answers.
  public static let firstPort: UInt16 = 0xCF8
  public static let portCount = 8

  private struct Guarded {
    var address: UInt32 = 0
    var devices: [(any PCIDevice)?] = Array(repeating: nil, count: 256)
  }

  private static let addressBits: UInt32 = 0x80FF_FFFC
  private let state = Mutex(Guarded())
  private let decoding: PCIDecoding
  private let resetRegister: (any BusDevice)?
  /// Where interrupt pins go.
  public let router: PCIInterruptRouter

  /// - Parameters:
  ///   - sink: takes ISA lines of interrupt pins.
  ///   - resetRegister: answers byte accesses to port 0xCF9, at its offset 0.
  public init(
    decoding: PCIDecoding, sink: any InterruptSink, resetRegister: (any BusDevice)? = nil
  ) {
    self.decoding = decoding
    self.resetRegister = resetRegister
    router = PCIInterruptRouter(sink: sink)
  }

  /// Takes ports 0xCF8 to 0xCFF.
  public func registerPorts() {
    decoding.ports?.register(self, at: Self.firstPort, count: Self.portCount)
  }

  /// Puts a device on the bus; replaces what is there. The bus keeps it.
  public func attach(_ device: any PCIDevice, at address: PCIAddress) {
    state.withLock { state in
      device.function.attach(device, decoding: decoding)
      device.function.pin.connect(router, device: address.device)
      state.devices[Int(address.index)] = device
      let first = Int(address.device) << 3
      if let main = state.devices[first],
        state.devices[first + 1...first + 7].contains(where: { $0 != nil })
      {
        main.function.setMultifunction()
      }
      device.configurationDidChange(0..<PCIConfigurationSpace.size, byGuest: false)
    }
  }

  /// The first device number without a function, or nil when the bus is full.
  public var freeDevice: UInt8? {
    state.withLock { state in
      (1..<32).first { state.devices[$0 << 3] == nil }.map { UInt8($0) }
    }
  }

  /// Every function on the bus, by address.
  public var devices: [(PCIAddress, any PCIDevice)] {
    state.withLock { state in
      state.devices.enumerated().compactMap { index, device in
        device.map { (PCIAddress(index: UInt8(index)), $0) }
      }
    }
  }

  /// Power-on state for every function and its device.
  public func reset() {
    state.withLock { state in
      state.address = 0
      for case let device? in state.devices { device.function.reset() }
    }
  }

  // MARK: Ports

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    if offset == 1 && width == .byte {
      return resetRegister?.read(at: 0, width: .byte) ?? width.mask
    }
    if offset < 4 {
      guard offset == 0 && width == .doubleword else { return width.mask }
      return state.withLock { UInt64($0.address) }
    }
    return readData(at: Int(offset & 3), width: width)
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    if offset == 1 && width == .byte {
      resetRegister?.write(at: 0, width: .byte, value: value)
    } else if offset < 4 {
      guard offset == 0 && width == .doubleword else { return }
      state.withLock { $0.address = UInt32(truncatingIfNeeded: value) & Self.addressBits }
    } else {
      writeData(at: Int(offset & 3), width: width, value: value)
    }
  }

  private func readData(at byte: Int, width: AccessWidth) -> UInt64 {
    state.withLock { state in
      guard byte + width.count <= 4, let device = Self.selected(state) else { return width.mask }
      return device.function.readConfiguration(at: Int(state.address & 0xFC) + byte, width: width)
    }
  }

  private func writeData(at byte: Int, width: AccessWidth, value: UInt64) {
    state.withLock { state in
      guard byte + width.count <= 4, let device = Self.selected(state) else { return }
      device.function.writeConfiguration(
        at: Int(state.address & 0xFC) + byte, width: width, value: value)
      guard device.function.didReleasePorts else { return }
      device.function.claimPorts()
      for case let other? in state.devices { other.function.claimPorts() }
    }
  }

  private static func selected(_ state: Guarded) -> (any PCIDevice)? {
    let address = state.address
    // Enabled, bus 0.
    guard address & 0x80FF_0000 == 0x8000_0000 else { return nil }
    return state.devices[Int(address >> 8 & 0xFF)]
  }
}

extension PCIHost: Snapshottable {
  public struct State: Codable, Sendable {
    public var address: UInt32
    /// By device and function number.
    public var functions: [UInt8: PCIFunction.State]
  }

  public static let stateVersion = 1

  /// The configuration space of every function; what is behind it is saved by the devices themselves.
  public func saveState() -> State {
    state.withLock { state in
      var functions: [UInt8: PCIFunction.State] = [:]
      for (index, device) in state.devices.enumerated() {
        if let device { functions[UInt8(index)] = device.function.saveState() }
      }
      return State(address: state.address, functions: functions)
    }
  }

  public func check(_ saved: State) throws(DeviceStateError) {
    let own = state.withLock { state in state.devices.map { $0?.function } }
    for (index, function) in own.enumerated() where function != nil {
      try DeviceStateError.require(
        saved.functions[UInt8(index)] != nil, "function \(index) is missing")
    }
    for (index, state) in saved.functions {
      guard Int(index) < own.count, let function = own[Int(index)] else {
        throw DeviceStateError("it has a function \(index), and here is none")
      }
      try function.check(state)
    }
  }

  /// Before the devices' own state: base addresses are mapped here.
  public func restoreState(_ saved: State) {
    state.withLock { state in
      state.address = saved.address & Self.addressBits
      for (index, function) in saved.functions {
        state.devices[Int(index)]?.function.restoreState(function)
      }
      for case let device? in state.devices { device.function.claimPorts() }
    }
    router.announce()
  }
}
