// The watchdog timer of the 6300ESB I/O controller hub (Intel 300641, chapter 17): counts down in two stages while the
// guest does not reload it, and then asks for a reset.

/// The timer's registers and time.
public struct WatchdogTimer: Chip, Snapshottable {
  /// Offsets of the memory-mapped registers.
  enum Register {
    static let firstPreload: UInt64 = 0x0
    static let secondPreload: UInt64 = 0x4
    static let interruptStatus: UInt64 = 0x8
    static let reload: UInt64 = 0xC
  }

  enum Reload {
    static let reloads: UInt64 = 1 << 8
    static let timedOut: UInt64 = 1 << 9
  }

  public static let size: UInt64 = 16
  private static let preloadMask: UInt32 = 0xF_FFFF
  /// Nanoseconds of 2 to the 15th and of 2 to the 5th periods of the PCI bus's clock, 33 MHz.
  private static let coarseUnit: UInt64 = 983_040
  private static let fineUnit: UInt64 = 960

  public struct State: Codable, Sendable, Equatable {
    var firstPreload = WatchdogTimer.preloadMask
    var secondPreload = WatchdogTimer.preloadMask
    /// Steps of the sequence 0x80, 0x86 that were made.
    var unlockSteps: UInt8 = 0
    var hasTimedOut = false
    var hasInterrupt = false
    var isSecondStage = false
    /// When the stage ends; nil while the timer stands.
    var end: MachineTime?
    var isEnabled = false
    var isFreeRunning = false
    var isFine = false
    /// The output that resets is disabled.
    var isQuiet = false
    /// The second stage has ended and nobody has been told.
    var owesExpiry = false
  }

  public static let stateVersion = 1
  private var state = State()

  /// - Parameter hasTimedOut: it did so before the reset that the machine comes from.
  public init(hasTimedOut: Bool = false) { state.hasTimedOut = hasTimedOut }

  public func saveState() -> State { state }
  public func check(_ saved: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      saved.unlockSteps <= 2 && saved.firstPreload <= Self.preloadMask
        && saved.secondPreload <= Self.preloadMask, "its registers cannot be")
  }

  public mutating func restoreState(_ saved: State) { state = saved }

  // MARK: Chip

  public var outputs: UInt32 { 0 }
  public var deadline: MachineTime? { state.end }

  public mutating func takeRequests() -> BoardRequests {
    defer { state.owesExpiry = false }
    return state.owesExpiry ? .watchdogExpired : []
  }

  public mutating func advance(to now: MachineTime) {
    guard let end = state.end, now >= end else { return }
    if state.isFreeRunning {
      state.hasInterrupt = true
      // Late as it may be, it begins again now: nobody counts its rounds.
      return beginStage(isSecond: false, now)
    }
    guard state.isSecondStage else {
      state.hasInterrupt = true
      return beginStage(isSecond: true, end)
    }
    state.end = nil
    state.hasTimedOut = true
    state.owesExpiry = !state.isQuiet
  }

  private mutating func beginStage(isSecond: Bool, _ now: MachineTime) {
    state.isSecondStage = isSecond
    let count = UInt64(max(isSecond ? state.secondPreload : state.firstPreload, 1))
    state.end = now.advanced(
      nanoseconds: count * (state.isFine ? Self.fineUnit : Self.coarseUnit))
  }

  public mutating func read(at offset: UInt64, width: AccessWidth, now: MachineTime) -> UInt64 {
    let register: UInt64 =
      switch offset & ~3 {
      case Register.firstPreload: UInt64(state.firstPreload)
      case Register.secondPreload: UInt64(state.secondPreload)
      case Register.interruptStatus: state.hasInterrupt ? 1 : 0
      case Register.reload: state.hasTimedOut ? Reload.timedOut : 0
      default: 0
      }
    return register >> (8 * (offset & 3)) & width.mask
  }

  /// Each write to a preload or to the reload register needs the sequence before it.
  public mutating func write(
    at offset: UInt64, width: AccessWidth, value: UInt64, now: MachineTime
  ) {
    if offset == Register.interruptStatus {
      if value & 1 != 0 { state.hasInterrupt = false }
      return
    }
    if offset == Register.reload, state.unlockSteps < 2 {
      let step: UInt64 = state.unlockSteps == 0 ? 0x80 : 0x86
      state.unlockSteps = value & 0xFFFF == step ? state.unlockSteps + 1 : 0
      return
    }
    guard state.unlockSteps == 2 else { return }
    state.unlockSteps = 0
    switch offset {
    case Register.firstPreload:
      state.firstPreload = UInt32(truncatingIfNeeded: value) & Self.preloadMask
    case Register.secondPreload:
      state.secondPreload = UInt32(truncatingIfNeeded: value) & Self.preloadMask
    case Register.reload:
      if value & Reload.timedOut != 0 { state.hasTimedOut = false }
      if value & Reload.reloads != 0, state.isEnabled { beginStage(isSecond: false, now) }
    default: break
    }
  }

  // MARK: Configuration space

  /// - Parameters:
  ///   - configuration: the register at 0x60: bit 2 counts fine, bit 5 disables the output.
  ///   - lock: the register at 0x68: bit 1 enables, bit 2 is for free running.
  mutating func configure(configuration: UInt16, lock: UInt8, now: MachineTime) {
    state.isFine = configuration & 1 << 2 != 0
    state.isQuiet = configuration & 1 << 5 != 0
    state.isFreeRunning = lock & 1 << 2 != 0
    let isEnabled = lock & 1 << 1 != 0
    guard isEnabled != state.isEnabled else { return }
    state.isEnabled = isEnabled
    if isEnabled { beginStage(isSecond: false, now) } else { state.end = nil }
  }
}
