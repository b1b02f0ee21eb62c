// The registers of one port (Serial ATA AHCI 1.3.1, 3.3) as a value: what the driver writes, and what the port's engine
// reports. Memory and disks are the engine's.

/// One port.
struct AHCIPortRegisters: Codable, Sendable, Equatable {
  enum Register {
    static let commandList: UInt64 = 0x00
    static let commandListUpper: UInt64 = 0x04
    static let receiveArea: UInt64 = 0x08
    static let receiveAreaUpper: UInt64 = 0x0C
    static let interruptStatus: UInt64 = 0x10
    static let interruptEnable: UInt64 = 0x14
    static let command: UInt64 = 0x18
    static let taskFile: UInt64 = 0x20
    static let signature: UInt64 = 0x24
    static let status: UInt64 = 0x28
    static let control: UInt64 = 0x2C
    static let error: UInt64 = 0x30
    static let active: UInt64 = 0x34
    static let issue: UInt64 = 0x38
    static let size: UInt64 = 0x80
  }

  /// PxIS and PxIE (3.3.5).
  enum Interrupt {
    static let deviceToHost: UInt32 = 1 << 0
    static let programmedSetup: UInt32 = 1 << 1
    static let deviceBits: UInt32 = 1 << 3
    static let descriptorDone: UInt32 = 1 << 5
    static let connectChange: UInt32 = 1 << 6
    static let readyChange: UInt32 = 1 << 22
    static let overflow: UInt32 = 1 << 24
    static let interfaceFatal: UInt32 = 1 << 27
    static let hostDataFatal: UInt32 = 1 << 28
    static let hostFatal: UInt32 = 1 << 29
    static let taskFileError: UInt32 = 1 << 30
    /// What can be enabled.
    static let all: UInt32 = 0x7DC0_007F
  }

  /// PxCMD (3.3.7).
  enum Command {
    static let start: UInt32 = 1 << 0
    /// Spin-up and power: always on, as neither staggered spin-up nor cold presence detection is there.
    static let alwaysOn: UInt32 = 1 << 1 | 1 << 2
    static let overrideList: UInt32 = 1 << 3
    static let receive: UInt32 = 1 << 4
    static let receiving: UInt32 = 1 << 14
    static let running: UInt32 = 1 << 15
    static let isPacket: UInt32 = 1 << 24
    static let drivesLight: UInt32 = 1 << 25
    static let writable = start | receive | isPacket | drivesLight
  }

  private static let noTaskFile: UInt32 = 0x7F
  private static let connectionChanged: UInt32 = 1 << 26
  private static let phyReadyChanged: UInt32 = 1 << 16
  /// Device present and link up, third generation, active.
  private static let linkUp: UInt32 = 0x133

  private(set) var commandList: UInt64 = 0
  private(set) var receiveArea: UInt64 = 0
  var interruptStatus: UInt32 = 0
  private(set) var interruptEnable: UInt32 = 0
  private var command: UInt32 = 0
  /// Status, and the error above it.
  var taskFile = noTaskFile
  var signature = UInt32.max
  private var control: UInt32 = 0
  private var error = connectionChanged
  var active: UInt32 = 0
  var issue: UInt32 = 0
  /// The slot that was begun last.
  var currentSlot: UInt32 = 31
  /// PxCMD.CR: the engine still looks at the list, or has something of it in flight.
  var isRunning = false
  /// After a fatal error, until PxCMD.ST is cleared.
  var isHalted = false
  /// Changes whenever all that is in flight is void.
  private(set) var lifetime: UInt32 = 0
  /// The engine must reset the device.
  var owesReset = false
  /// The device has been reset and its first frame has not been received.
  var owesSignature = true
  /// The control register's SRST is set.
  var isInSoftReset = false

  var isStarted: Bool { command & Command.start != 0 }
  var receives: Bool { command & Command.receive != 0 }

  private var mirroredStatus: UInt32 {
    interruptStatus | (error & Self.connectionChanged != 0 ? Interrupt.connectChange : 0)
      | (error & Self.phyReadyChanged != 0 ? Interrupt.readyChange : 0)
  }

  var isInterrupting: Bool { mirroredStatus & interruptEnable != 0 }

  // MARK: The driver's side

  func read(at offset: UInt64) -> UInt32 {
    switch offset {
    case Register.commandList: UInt32(truncatingIfNeeded: commandList)
    case Register.commandListUpper: UInt32(truncatingIfNeeded: commandList >> 32)
    case Register.receiveArea: UInt32(truncatingIfNeeded: receiveArea)
    case Register.receiveAreaUpper: UInt32(truncatingIfNeeded: receiveArea >> 32)
    case Register.interruptStatus: mirroredStatus
    case Register.interruptEnable: interruptEnable
    case Register.command: commandValue
    case Register.taskFile: taskFile
    case Register.signature: signature
    case Register.status: linkStatus
    case Register.control: control
    case Register.error: error
    case Register.active: active
    case Register.issue: issue
    default: 0
    }
  }

  private var commandValue: UInt32 {
    var value = command | Command.alwaysOn
    if receives { value |= Command.receiving }
    if isRunning { value |= Command.running }
    if isStarted { value |= (currentSlot & 31) << 8 }
    return value
  }

  private var linkStatus: UInt32 {
    switch control & 0xF {
    case 0: Self.linkUp
    case 4: 4
    default: 0
    }
  }

  /// - Returns: whether there may be something to do for the engine.
  mutating func write(at offset: UInt64, value: UInt32) -> Bool {
    switch offset {
    case Register.commandList:
      commandList = commandList & ~0xFFFF_FFFF | UInt64(value & ~0x3FF)
    case Register.commandListUpper:
      commandList = commandList & 0xFFFF_FFFF | UInt64(value) << 32
    case Register.receiveArea:
      receiveArea = receiveArea & ~0xFFFF_FFFF | UInt64(value & ~0xFF)
    case Register.receiveAreaUpper:
      receiveArea = receiveArea & 0xFFFF_FFFF | UInt64(value) << 32
    case Register.interruptStatus: interruptStatus &= ~value
    case Register.interruptEnable: interruptEnable = value & Interrupt.all
    case Register.command: return writeCommand(value)
    case Register.control: return writeControl(value)
    case Register.error: error &= ~value
    case Register.active: if isStarted { active |= value }
    case Register.issue:
      guard isStarted else { return false }
      issue |= value
      return true
    default: break
    }
    return false
  }

  private mutating func writeCommand(_ value: UInt32) -> Bool {
    let wasStarted = isStarted
    command = value & Command.writable
    if value & Command.overrideList != 0 && !isStarted {
      taskFile &= ~UInt32(ATAAnswer.Status.busy | ATAAnswer.Status.dataRequest)
    }
    if isStarted && !wasStarted {
      isRunning = true
    } else if wasStarted && !isStarted {
      void()
      isHalted = false
    }
    return true
  }

  /// Nothing of what is in flight will be reported.
  private mutating func void() {
    lifetime &+= 1
    issue = 0
    active = 0
    currentSlot = 31
  }

  /// PxSCTL (3.3.11): a reset of the link begins with detection 1 and ends with 0.
  private mutating func writeControl(_ value: UInt32) -> Bool {
    let before = control & 0xF
    control = value & 0xFFF
    let now = control & 0xF
    guard now != before else { return false }
    if now != 0 {
      void()
      taskFile = Self.noTaskFile
      return true
    }
    error |= Self.connectionChanged | Self.phyReadyChanged
    taskFile = UInt32(ATAAnswer.Status.busy)
    owesReset = true
    isHalted = false
    return true
  }

  // MARK: The engine's side

  /// As after power-on, with what is in flight void.
  mutating func reset() {
    let next = lifetime &+ 1
    self = AHCIPortRegisters()
    lifetime = next
    owesReset = true
  }

  mutating func setTaskFile(_ answer: ATAAnswer) {
    taskFile = UInt32(answer.error) << 8 | UInt32(answer.status)
  }

  mutating func fail(_ cause: UInt32) {
    interruptStatus |= cause
    isHalted = true
  }

  /// What a file says may be anything.
  mutating func normalize() {
    commandList &= ~0x3FF
    receiveArea &= ~0xFF
    command &= Command.writable
    currentSlot &= 31
  }
}
