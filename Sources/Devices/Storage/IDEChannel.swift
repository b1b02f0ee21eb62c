// One of the two channels of an IDE controller: its ports, its drives, and the thread that serves them.

import GuestMemory
import Platform
import Synchronization

/// Owned by its controller.
final class IDEChannel: Sendable {
  typealias Registers = IDEChannelRegisters

  let drives: [(any ATADevice)?]
  let memory: GuestMemory
  private struct Guarded {
    var registers = Registers()
    /// The PCI command register lets the controller use memory.
    var isMaster = false
  }
  private let guarded: Mutex<Guarded>
  private let line: InterruptLine
  private let engine: IDEEngine
  private let worker: DeviceWorker

  /// - Parameter drives: the first and the second; at most two.
  init(
    _ index: Int, drives: [any ATADevice], memory: GuestMemory, line: InterruptLine
  ) throws(PlatformError) {
    self.drives = (0..<2).map { $0 < drives.count ? drives[$0] : nil }
    self.memory = memory
    self.line = line
    let engine = IDEEngine()
    self.engine = engine
    guarded = Mutex(Guarded())
    worker = try DeviceWorker(name: "ide-\(index)", step: { engine.step() })
    guarded.withLock { sign(&$0.registers) }
  }

  func start() throws(PlatformError) {
    worker.hold()
    engine.attach(self)
    worker.release()
    try worker.start()
  }

  /// Changes the registers; the interrupt line follows.
  func withRegisters<Result>(_ body: (inout Registers, _ isMaster: Bool) -> Result) -> Result {
    guarded.withLock { state in
      let before = state.registers.level
      let result = body(&state.registers, state.isMaster)
      if state.registers.level != before { line.set(state.registers.level) }
      return result
    }
  }

  // MARK: Command and control block

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    if offset == Registers.Register.data {
      var hasWork = false
      let value = withRegisters { registers, isMaster in
        let value = drives[registers.selected] == nil ? .max : registers.readData(width.count)
        hasWork = registers.hasWork(isMaster: isMaster)
        return value
      }
      if hasWork { worker.notifier.signal() }
      return value & width.mask
    }
    // Registers are bytes; a wider access meets the neighbors too.
    var value: UInt64 = 0
    for index in 0..<UInt64(width.count) { value |= readByte(offset &+ index) << (8 &* index) }
    return value
  }

  private func readByte(_ offset: UInt64) -> UInt64 {
    withRegisters { registers, _ in
      // An absent drive pulls nothing down; without any the bus reads as zero, too.
      guard drives[registers.selected] != nil else { return 0 }
      let file = registers.files[registers.selected]
      switch offset {
      case Registers.Register.features: return UInt64(file.error)
      case Registers.Register.count..<Registers.Register.device:
        let index = Int(offset) - 1
        let isOld = registers.control & Registers.Control.highOrder != 0
        return UInt64(isOld ? file.before[index] : file.now[index])
      case Registers.Register.device:
        return UInt64(
          file.device | Registers.Device.alwaysOn
            | (registers.selected == 1 ? Registers.Device.second : 0))
      case Registers.Register.command:
        registers.interrupts = false
        return status(registers)
      case Registers.Register.control: return status(registers)
      default: return 0xFF
      }
    }
  }

  private func status(_ registers: Registers) -> UInt64 {
    if registers.isBusy
      && (registers.control & Registers.Control.reset != 0
        || registers.job.drive == registers.selected)
    {
      return UInt64(ATAAnswer.Status.busy)
    }
    return UInt64(registers.files[registers.selected].status)
  }

  func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    if offset == Registers.Register.data {
      let hasWork = withRegisters { registers, isMaster in
        registers.writeData(width.count, value)
        return registers.hasWork(isMaster: isMaster)
      }
      if hasWork { worker.notifier.signal() }
      return
    }
    for index in 0..<UInt64(width.count) {
      writeByte(offset &+ index, UInt8(truncatingIfNeeded: value >> (8 &* index)))
    }
  }

  private func writeByte(_ offset: UInt64, _ value: UInt8) {
    switch offset {
    case Registers.Register.features..<Registers.Register.device:
      withRegisters { registers, _ in
        guard !registers.isBusy else { return }
        registers.control &= ~Registers.Control.highOrder
        // Both drives listen.
        for drive in 0..<2 { registers.files[drive].push(value, at: Int(offset) - 1) }
      }
    case Registers.Register.device:
      withRegisters { registers, _ in
        guard !registers.isBusy else { return }
        registers.control &= ~Registers.Control.highOrder
        registers.selected = value & Registers.Device.second != 0 ? 1 : 0
        for drive in 0..<2 { registers.files[drive].device = value & ~Registers.Device.second }
      }
    case Registers.Register.command: writeCommand(value)
    case Registers.Register.control: writeControl(value)
    default: break
    }
  }

  private func writeCommand(_ code: UInt8) {
    // DEVICE RESET is the one command that a busy packet device takes.
    if code == ATACommand.deviceReset, withRegisters({ registers, _ in takesReset(registers) }) {
      return abandon { registers in
        guard let drive = drives[registers.selected] else { return }
        drive.reset(isHard: false)
        registers.job.drive = registers.selected
        registers.finish(drive.signature, interrupts: false)
      }
    }
    let hasWork = withRegisters { registers, isMaster in
      registers.interrupts = false
      guard !registers.isBusy else { return false }
      registers.control &= ~Registers.Control.highOrder
      if code == ATACommand.diagnose {
        diagnose(&registers)
        return false
      }
      guard drives[registers.selected] != nil else { return false }
      let command = registers.files[registers.selected].command(code)
      registers.job = Registers.Job(drive: registers.selected, command: command)
      registers.buffer = []
      registers.position = 0
      registers.blockEnd = 0
      registers.phase = .begins
      return registers.hasWork(isMaster: isMaster)
    }
    if hasWork { worker.notifier.signal() }
  }

  private func takesReset(_ registers: Registers) -> Bool {
    registers.isBusy && registers.control & Registers.Control.reset == 0
      && drives[registers.selected] is ATAPacketDrive
  }

  /// Both drives do it, whichever is selected.
  private func diagnose(_ registers: inout Registers) {
    sign(&registers)
    registers.selected = 0
    registers.raise()
  }

  /// Shows what the drives are.
  private func sign(_ registers: inout Registers) {
    registers.clear()
    for (index, drive) in drives.enumerated() {
      if let drive { registers.show(drive.signature, on: index) }
    }
  }

  private func writeControl(_ value: UInt8) {
    let before = withRegisters { registers, _ in registers.control }
    let resets = value & Registers.Control.reset != 0
    guard resets != (before & Registers.Control.reset != 0) else {
      return withRegisters { registers, _ in registers.control = value }
    }
    guard resets else {
      return withRegisters { registers, _ in
        sign(&registers)
        registers.control = value
      }
    }
    abandon { registers in
      for drive in drives { drive?.reset(isHard: false) }
      registers.clear()
      registers.control = value
    }
  }

  /// Waits until nothing touches disks or memory, and changes the registers then.
  private func abandon(_ body: (inout Registers) -> Void) {
    worker.hold()
    withRegisters { registers, _ in body(&registers) }
    worker.release()
  }

  // MARK: Bus master (PIIX3 data sheet, 2.6)

  func readMaster(_ offset: UInt64) -> UInt8 {
    withRegisters { registers, _ in
      switch offset {
      case 0: registers.masterCommand
      case 2: registers.masterStatus
      case 4..<8: UInt8(truncatingIfNeeded: registers.descriptors >> UInt32(8 * (offset - 4)))
      default: 0
      }
    }
  }

  func writeMaster(_ offset: UInt64, _ value: UInt8) {
    switch offset {
    case 0: writeMasterCommand(value)
    case 2:
      withRegisters { registers, _ in
        typealias Master = Registers.Master
        registers.masterStatus &= ~(value & (Master.error | Master.interrupt))
        registers.masterStatus =
          registers.masterStatus & ~Master.capable | value & Master.capable
      }
    case 4..<8:
      withRegisters { registers, _ in
        let shift = UInt32(8 * (offset - 4))
        registers.descriptors =
          (registers.descriptors & ~(0xFF << shift) | UInt32(value) << shift) & ~3
      }
    default: break
    }
  }

  private func writeMasterCommand(_ value: UInt8) {
    typealias Master = Registers.Master
    let (stops, hasWork) = withRegisters { registers, isMaster -> (Bool, Bool) in
      let ran = registers.masterCommand & Master.start != 0
      registers.masterCommand = value & 0x09
      if value & Master.start == 0 {
        registers.masterStatus &= ~Master.active
        return (ran && registers.phase == .busy, false)
      }
      if !ran { registers.masterStatus |= Master.active }
      return (false, registers.hasWork(isMaster: isMaster))
    }
    // Who stops the bus master gets its memory back.
    if stops { abandon { _ in } }
    if hasWork { worker.notifier.signal() }
  }

  func setMaster(_ isMaster: Bool) {
    let hasWork = guarded.withLock { state in
      state.isMaster = isMaster
      return state.registers.hasWork(isMaster: isMaster)
    }
    if hasWork { worker.notifier.signal() }
  }

  // MARK: Life

  /// As after power-on.
  func reset() {
    abandon { registers in
      for drive in drives { drive?.reset(isHard: true) }
      registers = Registers()
      sign(&registers)
    }
    setMaster(false)
  }

  func pause() { worker.pause() }
  func resume() { worker.resume() }

  /// Ends the thread.
  func stop() {
    worker.hold()
    worker.stop()
  }

  func saveState() -> IDEController.ChannelState {
    .init(
      registers: withRegisters { registers, _ in registers },
      devices: drives.map { $0?.saveState() })
  }

  func check(_ saved: IDEController.ChannelState) throws(DeviceStateError) {
    try DeviceStateError.require(
      saved.devices.count == drives.count, "a channel has \(saved.devices.count) drives")
    for (drive, state) in zip(drives, saved.devices) {
      try DeviceStateError.require(
        (drive == nil) == (state == nil), "a drive is there that was not, or was and is not")
      if let drive, let state { try drive.check(state) }
    }
    try DeviceStateError.require(
      saved.registers.isSound
        && (drives[saved.registers.job.drive] != nil || saved.registers.phase == .idle),
      "a channel's registers cannot be")
  }

  func restoreState(_ saved: IDEController.ChannelState) {
    for (drive, state) in zip(drives, saved.devices) {
      if let state { drive?.restoreState(state) }
    }
    guard saved.registers.isSound,
      drives[saved.registers.job.drive] != nil || saved.registers.phase == .idle
    else { return }
    withRegisters { registers, _ in registers = saved.registers }
    worker.notifier.signal()
  }
}
