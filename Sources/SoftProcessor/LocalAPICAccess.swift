import CSoftProcessor

// How software reaches the local APIC's registers: the memory page (xAPIC), model specific registers (x2APIC), CR8.
// The functions at the end are what the processor's instructions call.
extension LocalAPIC {
  /// A register as software reads it.
  private func value(of offset: UInt32) -> UInt32 {
    switch offset {
    case Register.currentCount: currentCount
    case Register.processorPriority: processorPriority & 0xFF
    case Register.arbitrationPriority, Register.remoteRead: 0
    case Register.endOfInterrupt, Register.selfInterrupt: 0
    default: self[offset]
    }
  }

  private static func isReadable(_ offset: UInt32) -> Bool {
    switch offset {
    case Register.identity, Register.version, Register.taskPriority, Register.arbitrationPriority,
      Register.processorPriority, Register.endOfInterrupt, Register.remoteRead,
      Register.logicalDestination, Register.destinationFormat, Register.spurious,
      Register.inService..<Register.errorStatus, Register.errorStatus, Register.commandLow,
      Register.commandHigh, Register.localVectors, Register.initialCount, Register.currentCount,
      Register.divide:
      true
    default: false
    }
  }

  private func set(_ offset: UInt32, _ value: UInt32) {
    switch offset {
    case Register.taskPriority: setTaskPriority(value)
    case Register.endOfInterrupt: endInterrupt()
    case Register.logicalDestination: self[offset] = value & 0xFF00_0000
    case Register.destinationFormat: self[offset] = value | 0x0FFF_FFFF
    case Register.spurious: setSpurious(value)
    case Register.errorStatus:
      self[offset] = newErrors
      newErrors = 0
    case Register.commandHigh: self[offset] = value
    case Register.timer:
      setTimerEntry(value & 0x7_00FF | (isSoftwareEnabled ? 0 : LocalVector.masked))
    case Register.thermal, Register.performance: setLocalVector(offset, value & 0x1_07FF)
    case Register.localInput0, Register.localInput1: setLocalVector(offset, value & 0x1_A7FF)
    case Register.error: setLocalVector(offset, value & 0x1_00FF)
    case Register.initialCount:
      guard timerMode != TimerMode.deadline else { return }
      self[offset] = value
      startCount()
    case Register.divide: setDivide(value)
    default: break
    }
  }

  /// Entries are masked while the APIC is switched off by software; LINT0 is left as it is, since an 8259A in virtual
  /// wire mode is heard then too.
  private func setLocalVector(_ offset: UInt32, _ value: UInt32) {
    let isForced = !isSoftwareEnabled && offset != Register.localInput0
    self[offset] = value | (isForced ? LocalVector.masked : 0)
    if offset == Register.localInput0 { soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT)) }
  }

  private func setSpurious(_ value: UInt32) {
    self[Register.spurious] = value & 0x3FF
    if value & Self.softwareEnabled == 0 {
      for entry in stride(from: Register.timer, through: Register.error, by: 16)
      where entry != Register.localInput0 {
        self[entry] |= LocalVector.masked
      }
    } else {
      soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT))
    }
  }

  // MARK: xAPIC

  /// A read of `size` bytes at an offset of the page. Registers are 32 bits at multiples of 16.
  package func readPage(_ offset: UInt32, size: UInt32) -> UInt64 {
    let register = offset & 0xFF0
    guard Self.isReadable(register), offset & 15 < 4 else {
      report(error: ErrorBits.illegalRegister)
      return 0
    }
    let shifted = UInt64(value(of: register)) >> UInt64((offset & 3) * 8)
    return size >= 4 ? shifted : shifted & (1 << UInt64(size * 8) &- 1)
  }

  package func writePage(_ offset: UInt32, value: UInt64) {
    // Only whole registers count.
    guard offset & 15 == 0, offset < Self.pageSize else {
      return
    }
    let value = UInt32(truncatingIfNeeded: value)
    if offset == Register.commandLow {
      self[Register.commandLow] = value & 0xC_CFFF & ~LocalVector.pending
      sendCommand(low: value, destination: self[Register.commandHigh] >> 24)
    } else {
      set(offset, value)
    }
  }

  // MARK: x2APIC

  /// RDMSR of 0x800 to 0x8FF. nil: #GP.
  package func readModelSpecific(_ index: UInt32) -> UInt64? {
    guard isEnabled, isExtended else { return nil }
    let offset = (index & 0xFF) << 4
    switch offset {
    case Register.commandLow:
      return UInt64(self[Register.commandLow]) | UInt64(self[Register.commandHigh]) << 32
    case Register.destinationFormat, Register.commandHigh, Register.endOfInterrupt,
      Register.arbitrationPriority, Register.remoteRead:
      return nil
    default: return Self.isReadable(offset) ? UInt64(value(of: offset)) : nil
    }
  }

  /// WRMSR of 0x800 to 0x8FF. False: #GP.
  package func writeModelSpecific(_ index: UInt32, _ value: UInt64) -> Bool {
    guard isEnabled, isExtended else { return false }
    let offset = (index & 0xFF) << 4
    if offset == Register.commandLow {
      let low = UInt32(truncatingIfNeeded: value)
      guard low & 0xFFF3_3000 == 0 else { return false }
      self[Register.commandLow] = low
      self[Register.commandHigh] = UInt32(truncatingIfNeeded: value >> 32)
      sendCommand(low: low, destination: UInt32(truncatingIfNeeded: value >> 32))
      return true
    }
    guard value >> 32 == 0 else { return false }
    let low = UInt32(truncatingIfNeeded: value)
    switch offset {
    case Register.selfInterrupt:
      guard low <= 0xFF else { return false }
      sendCommand(low: low | 1 << 18, destination: 0)
    case Register.endOfInterrupt, Register.errorStatus:
      guard low == 0 else { return false }
      set(offset, 0)
    case Register.taskPriority:
      guard low <= 0xFF else { return false }
      set(offset, low)
    case Register.spurious, Register.localVectors, Register.initialCount, Register.divide:
      set(offset, low)
    default: return false
    }
    return true
  }
}

// MARK: What instructions call

extension UnsafeMutablePointer where Pointee == soft_cpu {
  /// The processor's local APIC.
  @inline(__always)
  func withAPIC<Result>(_ body: (LocalAPIC) -> Result) -> Result? {
    guard let apic = pointee.apic else { return nil }
    return Unmanaged<LocalAPIC>.fromOpaque(apic)._withUnsafeGuaranteedRef { body($0) }
  }
}

/// Whether a guest-physical address is in the page of this processor's local APIC.
@inline(__always)
func isLocalAPIC(_ cpu: CPU, _ physical: UInt64) -> Bool {
  let base = cpu.pointee.apic_base
  return (physical ^ base) & 0x000F_FFFF_FFFF_F000 == 0
    && base & (LocalAPIC.Base.enabled | LocalAPIC.Base.extended) == LocalAPIC.Base.enabled
}

/// A read in that page.
@inline(never)
func readLocalAPIC(_ cpu: CPU, _ physical: UInt64, _ size: UInt32) -> UInt64 {
  cpu.withAPIC { $0.readPage(UInt32(physical & 0xFFF), size: size) } ?? .max
}

/// A write in that page.
@inline(never)
func writeLocalAPIC(_ cpu: CPU, _ physical: UInt64, _ value: UInt64) {
  cpu.withAPIC { $0.writePage(UInt32(physical & 0xFFF), value: value) }
}

/// RDMSR of 0x800 to 0x8FF; nil for #GP.
@inline(never)
func readLocalAPICRegister(_ cpu: CPU, _ index: UInt32) -> UInt64? {
  cpu.withAPIC { $0.readModelSpecific(index) } ?? nil
}

/// WRMSR of 0x800 to 0x8FF; false for #GP.
@inline(never)
func writeLocalAPICRegister(_ cpu: CPU, _ index: UInt32, _ value: UInt64) -> Bool {
  cpu.withAPIC { $0.writeModelSpecific(index, value) } ?? false
}

/// WRMSR of IA32_APIC_BASE; false for #GP.
@inline(never)
func writeLocalAPICBase(_ cpu: CPU, _ value: UInt64) -> Bool {
  cpu.withAPIC { $0.setBase(value) } ?? false
}

/// RDMSR and WRMSR of IA32_TSC_DEADLINE.
@inline(never)
func readTimerDeadline(_ cpu: CPU) -> UInt64 { soft_get_tsc_deadline(cpu) }
@inline(never)
func writeTimerDeadline(_ cpu: CPU, _ value: UInt64) {
  cpu.withAPIC { $0.setDeadline(value) }
}

/// MOV from and to CR8: the upper four bits of TPR. The caller has checked that the value is at most 15.
@inline(never)
func readTaskPriority(_ cpu: CPU) -> UInt64 {
  cpu.withAPIC { UInt64($0[LocalAPIC.Register.taskPriority] >> 4 & 15) } ?? cpu.pointee.cr8
}
@inline(never)
func writeTaskPriority(_ cpu: CPU, _ value: UInt64) {
  cpu.pointee.cr8 = value
  cpu.withAPIC { $0.setTaskPriority(UInt32(truncatingIfNeeded: value & 15) << 4) }
}

/// Whether an external interrupt waits that the priorities let through. After `SOFT_EVENT_INTERRUPT` was taken, and
/// whenever interrupts become possible again.
@inline(never)
func hasInterrupt(_ cpu: CPU) -> Bool { cpu.withAPIC { $0.hasInterrupt() } ?? false }

/// Takes the interrupt of the highest priority: its vector, or -1 when there is none after all.
@inline(never)
func acknowledgeInterrupt(_ cpu: CPU) -> Int32 { cpu.withAPIC { $0.acknowledge() } ?? -1 }

/// INIT: the controller as after power-on, but for its mode and identity.
@inline(never)
func resetLocalAPIC(_ cpu: CPU) { cpu.withAPIC { $0.reset() } }
