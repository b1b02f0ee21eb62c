// Whether vector and x87 instructions may run at all: CR0.EM, CR0.TS, CR4.OSFXSR, pending x87 exceptions (Intel SDM 3A,
// 2.5 and 13.1; tables 2-21 and following of volume 2A for the exceptions of each kind).
import CSoftProcessor

/// SSE and later on XMM registers. False after raising #UD or #NM.
@inline(__always)
func vectorReady(_ cpu: CPU) -> Bool {
  let refusal =
    cpu.pointee.cr0 & (Control0.emulation | Control0.taskSwitched)
    | ~cpu.pointee.cr4 & Control4.fastSave
  if refusal == 0 { return true }
  refuseVector(cpu)
  return false
}

@inline(never)
private func refuseVector(_ cpu: CPU) {
  let isAbsent =
    cpu.pointee.cr0 & Control0.emulation != 0 || cpu.pointee.cr4 & Control4.fastSave == 0
  raise(cpu, isAbsent ? .invalidOpcode : .deviceNotAvailable)
}

/// MMX. False after raising #UD, #NM or #MF.
@inline(never)
func mmxReady(_ cpu: CPU) -> Bool {
  if cpu.pointee.cr0 & Control0.emulation != 0 {
    raise(cpu, .invalidOpcode)
  } else if cpu.pointee.cr0 & Control0.taskSwitched != 0 {
    raise(cpu, .deviceNotAvailable)
  } else if hasPendingException(cpu) {
    raise(cpu, .floatingPoint)
  } else {
    return true
  }
  return false
}

/// x87 instructions that do not wait for exceptions, FXSAVE and FXRSTOR. False after raising #NM.
@inline(__always)
func deviceReady(_ cpu: CPU) -> Bool {
  if cpu.pointee.cr0 & (Control0.emulation | Control0.taskSwitched) == 0 { return true }
  raise(cpu, .deviceNotAvailable)
  return false
}

/// x87 instructions that wait. False after raising #NM or #MF.
@inline(__always)
func x87Ready(_ cpu: CPU) -> Bool {
  guard deviceReady(cpu) else { return false }
  if cpu.pointee.fsw & UInt16(SOFT_X87_SUMMARY) == 0 || !hasPendingException(cpu) { return true }
  raise(cpu, .floatingPoint)
  return false
}

/// With CR0.NE clear an exception would be told to the interrupt controller by FERR#; here it is ignored, as with IGNNE#
/// asserted.
@inline(__always)
func hasPendingException(_ cpu: CPU) -> Bool {
  cpu.pointee.fsw & UInt16(SOFT_X87_SUMMARY) != 0
    && cpu.pointee.cr0 & Control0.numericError != 0
}

/// An exception of vector arithmetic that MXCSR does not mask.
@inline(never)
func raiseVectorException(_ cpu: CPU) {
  raise(
    cpu,
    cpu.pointee.cr4 & Control4.vectorExceptions != 0 ? .vectorFloatingPoint : .invalidOpcode)
}
