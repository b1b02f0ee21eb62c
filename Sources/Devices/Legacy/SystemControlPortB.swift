import Synchronization

/// System control port B, port 0x61 (82371AB data sheet 4.1.7, NMI status and control): gate and output of timer 2, the
/// speaker, the refresh toggle that old software uses as a clock, and the two sources of NMI.
///
/// Timer 2 may be ours (`init(timer:clock:)`) or the kernel's without its own port 0x61 (`init(clock:setGate:output:)`
/// with KVM_GET_PIT2 behind it). With KVM_PIT_SPEAKER_DUMMY the kernel answers the port and this is not needed.
package final class SystemControlPortB: BusDevice {
  package static let port: UInt16 = 0x61

  package enum Bit {
    package static let timer2Gate: UInt8 = 1 << 0
    package static let speakerData: UInt8 = 1 << 1
    /// Set: SERR# makes no NMI.
    package static let systemErrorDisable: UInt8 = 1 << 2
    /// Set: IOCHK# makes no NMI, and its status is clear.
    package static let channelCheckDisable: UInt8 = 1 << 3
    /// Toggles with every memory refresh request.
    package static let refreshToggle: UInt8 = 1 << 4
    package static let timer2Output: UInt8 = 1 << 5
    package static let channelCheckStatus: UInt8 = 1 << 6
    package static let systemErrorStatus: UInt8 = 1 << 7
    static let writable: UInt8 = 0x0F
  }

  /// Nanoseconds between two refresh requests: 18 ticks of 1.193182 MHz.
  package static let refreshPeriod: UInt64 = 15_086

  private struct Latches {
    var control: UInt8 = 0
    /// Bits 6 and 7.
    var status: UInt8 = 0
  }

  private let latches = Mutex(Latches())
  private let clock: any MachineClock
  private let setGate: @Sendable (Bool) -> Void
  private let output: @Sendable () -> Bool

  package init(
    clock: any MachineClock, setGate: @escaping @Sendable (Bool) -> Void,
    output: @escaping @Sendable () -> Bool
  ) {
    self.clock = clock
    self.setGate = setGate
    self.output = output
  }

  package func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    let latched = latches.withLock { $0.control | $0.status }
    var value = latched
    if clock.now.rawValue / Self.refreshPeriod & 1 != 0 { value |= Bit.refreshToggle }
    if output() { value |= Bit.timer2Output }
    return UInt64(value)
  }

  package func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    let control = UInt8(truncatingIfNeeded: value) & Bit.writable
    latches.withLock { latches in
      latches.control = control
      if control & Bit.systemErrorDisable != 0 { latches.status &= ~Bit.systemErrorStatus }
      if control & Bit.channelCheckDisable != 0 { latches.status &= ~Bit.channelCheckStatus }
    }
    setGate(control & Bit.timer2Gate != 0)
  }

  /// Latches a system error. True: the caller raises an NMI.
  package func reportSystemError() -> Bool {
    report(Bit.systemErrorStatus, unless: Bit.systemErrorDisable)
  }

  /// Latches a channel check. True: the caller raises an NMI.
  package func reportChannelCheck() -> Bool {
    report(Bit.channelCheckStatus, unless: Bit.channelCheckDisable)
  }

  private func report(_ status: UInt8, unless disable: UInt8) -> Bool {
    latches.withLock { latches in
      guard latches.control & disable == 0 else { return false }
      latches.status |= status
      return true
    }
  }
}

extension SystemControlPortB: Snapshottable {
  package struct State: Codable, Sendable, Equatable {
    package var control: UInt8
    package var status: UInt8
  }
  package static let stateVersion = 1

  package func saveState() -> State {
    latches.withLock { State(control: $0.control, status: $0.status) }
  }

  package func check(_ state: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      state.control & ~Bit.writable == 0
        && state.status & ~(Bit.channelCheckStatus | Bit.systemErrorStatus) == 0,
      "its bits cannot be")
  }

  /// The timer restores its own gate.
  package func restoreState(_ state: State) {
    latches.withLock {
      $0.control = state.control & Bit.writable
      $0.status = state.status & (Bit.channelCheckStatus | Bit.systemErrorStatus)
    }
  }
}
