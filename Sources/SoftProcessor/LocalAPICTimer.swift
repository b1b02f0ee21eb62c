import CSoftProcessor

// The timer of a local APIC: one-shot and periodic count-down, or a deadline of the time stamp counter
// (Intel SDM 3A, 11.5.4).
extension LocalAPIC {
  enum TimerMode {
    static let oneShot: UInt32 = 0
    static let periodic: UInt32 = 1
    static let deadline: UInt32 = 2
  }

  /// Nanoseconds of a tick before the divider: the bus runs at 1 GHz, as KVM's does.
  private static let busPeriod: UInt64 = 1

  var timerMode: UInt32 { self[Register.timer] >> 17 & 3 }

  /// Nanoseconds of one count.
  private var countPeriod: UInt64 {
    let code = self[Register.divide]
    let exponent = (code & 3 | code >> 1 & 4) &+ 1
    return Self.busPeriod << UInt64(exponent & 7)
  }

  /// From the timers' thread, with the timers' lock held.
  func timerFired() {
    if timerMode == TimerMode.deadline { soft_set_tsc_deadline(cpu, 0) }
    deliverLocal(Register.timer)
  }

  /// Starts the count-down with the initial count; 0 stops it.
  func startCount() {
    guard timerMode != TimerMode.deadline else { return }
    restartCount(from: UInt64(self[Register.initialCount]))
  }

  private func restartCount(from count: UInt64) {
    guard count > 0 else { return network.timers.cancel(self) }
    let period =
      timerMode == TimerMode.periodic ? UInt64(self[Register.initialCount]) &* countPeriod : 0
    network.timers.set(self, deadline: network.timers.now &+ count &* countPeriod, period: period)
  }

  /// CCR.
  var currentCount: UInt32 {
    guard timerMode != TimerMode.deadline, let deadline = network.timers.deadline(of: self) else {
      return 0
    }
    let now = network.timers.now
    guard deadline > now else { return 0 }
    return UInt32(clamping: (deadline &- now) / countPeriod)
  }

  /// LVT timer: a change to or from deadline mode disarms.
  func setTimerEntry(_ value: UInt32) {
    let old = timerMode
    self[Register.timer] = value
    guard timerMode != old else { return }
    if timerMode == TimerMode.deadline || old == TimerMode.deadline {
      network.timers.cancel(self)
      soft_set_tsc_deadline(cpu, 0)
    } else {
      // One-shot to periodic and back goes on from where it is.
      restartCount(from: UInt64(currentCount))
    }
  }

  func setDivide(_ value: UInt32) {
    let count = currentCount
    self[Register.divide] = value & 0xB
    if count > 0 { restartCount(from: UInt64(count)) }
  }

  /// WRMSR of IA32_TSC_DEADLINE: ignored in other modes.
  package func setDeadline(_ value: UInt64) {
    guard isEnabled, timerMode == TimerMode.deadline else { return }
    soft_set_tsc_deadline(cpu, value)
    guard value != 0 else { return network.timers.cancel(self) }
    let now = soft_board_ticks(cpu.pointee.board) &+ cpu.pointee.tsc_offset
    guard value > now else {
      network.timers.cancel(self)
      return timerFired()
    }
    let wait = network.timers.clock.nanoseconds(ticks: value &- now)
    let (deadline, overflow) = network.timers.now.addingReportingOverflow(wait)
    network.timers.set(self, deadline: overflow ? .max - 1 : deadline)
  }

  /// After a restore: goes on from the count in the page, or from the deadline.
  func resumeTimer(deadline: UInt64) {
    if timerMode == TimerMode.deadline {
      setDeadline(deadline)
    } else {
      restartCount(from: UInt64(self[Register.currentCount]))
    }
  }
}
