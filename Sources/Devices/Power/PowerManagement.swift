/// The ACPI registers of a PIIX4 (Intel 82371AB data sheet, 7.2; ACPI 6.4, 4.8): PM1 events, control with the sleep
/// types, the power management timer, general-purpose events; and the two ports outside the block that belong to them:
/// SMI_CMD (0xB2), which switches ACPI mode on, and the reset control register (0xCF9).
///
/// Output 0 is the system control interrupt, a level on IRQ 9. The PCI function that holds PMBASE maps offsets 0 to
/// 0x3F; the rest of the offset space are the windows named in `Window`.
package struct PowerManagement: ByteWideChip, Snapshottable, Codable, Equatable {
  package static let stateVersion = 1
  /// Where SeaBIOS, or the board without firmware, puts the block.
  package static let defaultBase: UInt16 = 0x600
  package static let systemControlInterrupt: UInt32 = 9

  /// Offsets in the block, for the FADT.
  package enum Register {
    package static let status: UInt64 = 0x00
    package static let enable: UInt64 = 0x02
    package static let control: UInt64 = 0x04
    package static let timer: UInt64 = 0x08
    package static let blockLength = 0x40
    package static let eventLength: UInt8 = 4
    package static let controlLength: UInt8 = 2
    package static let timerLength: UInt8 = 4
  }

  /// Ports outside the block: where the board maps them, and their offsets here.
  package enum Window {
    /// GPE0: two status bytes, then two enable bytes.
    package static let generalEvents: (port: UInt16, count: Int, offset: UInt64) = (
      0xAFE0, 4, 0x40
    )
    /// SMI_CMD and its status byte.
    package static let command: (port: UInt16, count: Int, offset: UInt64) = (0xB2, 2, 0x50)
    /// Register it before the PCI host, whose ports surround it.
    package static let resetControl: (port: UInt16, count: Int, offset: UInt64) = (0xCF9, 1, 0x58)
  }

  /// PM1 status; the enable register has the same bits.
  package struct Event: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    /// Bit 23 of the timer has changed.
    package static let timerCarry = Self(rawValue: 1 << 0)
    package static let busMaster = Self(rawValue: 1 << 4)
    package static let globalLock = Self(rawValue: 1 << 5)
    package static let powerButton = Self(rawValue: 1 << 8)
    package static let sleepButton = Self(rawValue: 1 << 9)
    package static let realTimeClock = Self(rawValue: 1 << 10)
    package static let wake = Self(rawValue: 1 << 15)
    static let all: Self = [
      .timerCarry, .busMaster, .globalLock, .powerButton, .sleepButton, .realTimeClock, .wake,
    ]
    /// Events that have an enable bit.
    package static let interrupting: Self = [
      .timerCarry, .globalLock, .powerButton, .sleepButton, .realTimeClock,
    ]
  }

  package enum Control {
    /// SCI_EN: ACPI mode.
    package static let systemControlInterrupt: UInt16 = 1 << 0
    /// SLP_TYP
    package static let sleepType: UInt16 = 7 << 10
    /// SLP_EN: reads as 0.
    package static let sleepEnable: UInt16 = 1 << 13
    static let kept: UInt16 = 0x1C07
  }

  /// SLP_TYP of the states, as the DSDT must name them (the values of QEMU's i440FX, which SeaBIOS knows).
  package enum SleepType {
    package static let softOff: UInt16 = 0
    package static let suspendToMemory: UInt16 = 1
    package static let suspendToDisk: UInt16 = 2
  }

  /// What to write to SMI_CMD.
  package enum SystemManagementCommand {
    package static let enableACPI: UInt8 = 0xF1
    package static let disableACPI: UInt8 = 0xF0
  }

  package enum ResetControl {
    /// Hard instead of soft.
    package static let hard: UInt8 = 1 << 1
    /// A rising edge resets.
    package static let reset: UInt8 = 1 << 2
    /// All power off in between.
    package static let full: UInt8 = 1 << 3
    /// The FADT's RESET_VALUE.
    package static let value = hard | reset
    static let kept: UInt8 = hard | reset | full
  }

  /// Of the timer, in hertz.
  package static let timerFrequency: UInt64 = 3_579_545
  package static let timerBits: UInt64 = 24
  private static let second: UInt64 = 1_000_000_000

  private var status: Event = []
  private var enabled: Event = []
  private var control: UInt16 = 0
  private var generalStatus: UInt16 = 0
  private var generalEnabled: UInt16 = 0
  private var command: UInt8 = 0
  private var commandStatus: UInt8 = 0
  private var resetControl: UInt8 = 0
  /// Registers of the block that drive pins which lead nowhere: they hold what is written.
  private var others: [UInt8] = Array(repeating: 0, count: Register.blockLength)
  /// Carries of the timer up to here are in `status`.
  private var checked = MachineTime(rawValue: 0)
  private var requests: BoardRequests = []

  package init() {}

  // MARK: The host's side

  /// Somebody presses the power button. False: the guest does not listen, it must be switched off by other means.
  @discardableResult
  package mutating func pressPowerButton() -> Bool {
    status.insert(.powerButton)
    return isACPIEnabled && enabled.contains(.powerButton)
  }

  /// Raises a general-purpose event (0 to 15).
  package mutating func raiseGeneralEvent(_ number: Int) {
    if (0..<16).contains(number) { generalStatus |= 1 << UInt16(number) }
  }

  /// SCI_EN, for boards that start a kernel without firmware.
  package var isACPIEnabled: Bool {
    get { control & Control.systemControlInterrupt != 0 }
    set {
      if newValue {
        control |= Control.systemControlInterrupt
      } else {
        control &= ~Control.systemControlInterrupt
      }
    }
  }

  /// A reset of the machine; the timer goes on.
  package mutating func reset() {
    let now = checked
    self = PowerManagement()
    checked = now
  }

  // MARK: Chip

  package var outputs: UInt32 {
    let fixed = status.intersection(enabled).intersection(.interrupting)
    return isACPIEnabled && (!fixed.isEmpty || generalStatus & generalEnabled != 0) ? 1 : 0
  }

  package var deadline: MachineTime? {
    guard isACPIEnabled, enabled.contains(.timerCarry), !status.contains(.timerCarry) else {
      return nil
    }
    let half = Self.timerBits - 1
    let next = ((Self.ticks(checked) >> half) + 1) << half
    return MachineTime(rawValue: scale(next, by: Self.second, over: Self.timerFrequency) &+ 1)
  }

  package mutating func advance(to now: MachineTime) {
    guard now > checked else { return }
    let half = Self.timerBits - 1
    if Self.ticks(checked) >> half != Self.ticks(now) >> half { status.insert(.timerCarry) }
    checked = now
  }

  package mutating func takeRequests() -> BoardRequests {
    defer { requests = [] }
    return requests
  }

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    switch offset {
    case 0x00, 0x01: return byte(status.rawValue, offset)
    case 0x02, 0x03: return byte(enabled.rawValue, offset)
    case 0x04, 0x05: return byte(control, offset)
    case 0x08...0x0B:
      let count = Self.ticks(now) & ((1 << Self.timerBits) - 1)
      return UInt8(truncatingIfNeeded: count >> ((offset - Register.timer) * 8))
    case 0x0C, 0x0D, 0x40, 0x41: return byte(generalStatus, offset)
    case 0x0E, 0x0F, 0x42, 0x43: return byte(generalEnabled, offset)
    case 0x06..<0x40: return others[Int(offset)]
    case 0x50: return command
    case 0x51: return commandStatus
    case 0x58: return resetControl
    default: return 0xFF
    }
  }

  package mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime) {
    let wide = offset & 1 == 0 ? UInt16(value) : UInt16(value) << 8
    let kept: UInt16 = offset & 1 == 0 ? 0xFF00 : 0x00FF
    switch offset {
    case 0x00, 0x01: status.subtract(Event(rawValue: wide))
    case 0x02, 0x03:
      let new = Event(rawValue: enabled.rawValue & kept | wide)
      enabled = new.intersection(.interrupting)
    case 0x04, 0x05: writeControl(control & kept | wide)
    case 0x08...0x0B: break
    case 0x0C, 0x0D, 0x40, 0x41: generalStatus &= ~wide
    case 0x0E, 0x0F, 0x42, 0x43: generalEnabled = generalEnabled & kept | wide
    case 0x06..<0x40: others[Int(offset)] = value
    case 0x50: writeCommand(value)
    case 0x51: commandStatus = value
    case 0x58:
      if value & ~resetControl & ResetControl.reset != 0 { requests.insert(.reset) }
      resetControl = value & ResetControl.kept
    default: break
    }
  }

  // MARK: Inside

  private static func ticks(_ now: MachineTime) -> UInt64 {
    scale(now.rawValue, by: timerFrequency, over: second)
  }

  private func byte(_ value: UInt16, _ offset: UInt64) -> UInt8 {
    UInt8(truncatingIfNeeded: offset & 1 == 0 ? value : value >> 8)
  }

  private mutating func writeControl(_ value: UInt16) {
    control = value & Control.kept
    guard value & Control.sleepEnable != 0 else { return }
    switch (value & Control.sleepType) >> 10 {
    case SleepType.softOff: requests.insert(.powerOff)
    case SleepType.suspendToMemory: requests.insert(.suspendToMemory)
    case SleepType.suspendToDisk: requests.insert(.suspendToDisk)
    default: break
    }
  }

  private mutating func writeCommand(_ value: UInt8) {
    command = value
    switch value {
    case SystemManagementCommand.enableACPI: isACPIEnabled = true
    case SystemManagementCommand.disableACPI: isACPIEnabled = false
    default: break
    }
  }

  // MARK: Snapshottable

  package func saveState() -> PowerManagement { self }

  package func check(_ state: Self) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.others.count == Register.blockLength, "its registers are \(state.others.count) bytes")
  }

  package mutating func restoreState(_ state: PowerManagement) {
    self = state
    let empty = Array(repeating: UInt8(0), count: Register.blockLength)
    others = Array((state.others + empty).prefix(Register.blockLength))
    requests = []
  }
}
