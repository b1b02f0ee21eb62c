import CLinux
// Decimal arithmetic, sign extensions of the accumulator, flags, BOUND, XLAT, wide compare-and-exchange, counters,
// random numbers, HLT.
import CSoftProcessor

// MARK: Decimal

/// DAA and DAS.
func adjustDecimal(_ cpu: CPU, isSubtract: Bool) {
  let old = UInt8.register(cpu, 0)
  let oldCarry = cpu.carry
  var value = old
  var carry = false
  var adjust = false
  if old & 15 > 9 || cpu.adjust {
    carry = oldCarry || (isSubtract ? old < 6 : old > 0xF9)
    value = isSubtract ? value &- 6 : value &+ 6
    adjust = true
  }
  if old > 0x99 || oldCarry {
    value = isSubtract ? value &- 0x60 : value &+ 0x60
    carry = true
  }
  UInt8.setRegister(cpu, 0, value)
  cpu.setFlags(result: value, carry: carry, overflow: false, adjust: adjust)
}

/// AAA and AAS.
func adjustAscii(_ cpu: CPU, isSubtract: Bool) {
  var value = UInt16.register(cpu, 0)
  let needs = value & 15 > 9 || cpu.adjust
  if needs { value = isSubtract ? value &- 0x106 : value &+ 0x106 }
  UInt16.setRegister(cpu, 0, value & 0xFF0F)
  cpu.setFlags(
    result: UInt8(truncatingIfNeeded: value & 0x0F), carry: needs, overflow: false, adjust: needs)
}

/// AAM; false after #DE.
func adjustMultiply(_ cpu: CPU, base: UInt8) -> Bool {
  guard base != 0 else {
    raise(cpu, .divideError)
    return false
  }
  let value = UInt8.register(cpu, 0)
  UInt16.setRegister(cpu, 0, UInt16(value / base) << 8 | UInt16(value % base))
  cpu.setLogicFlags(value % base)
  return true
}

func adjustDivide(_ cpu: CPU, base: UInt8) {
  let value = UInt16.register(cpu, 0)
  let result = UInt8(truncatingIfNeeded: value) &+ UInt8(truncatingIfNeeded: value >> 8) &* base
  UInt16.setRegister(cpu, 0, UInt16(result))
  cpu.setLogicFlags(result)
}

// MARK: The accumulator's sign

/// CBW, CWDE, CDQE by operand size.
func extendAccumulator(_ cpu: CPU, size: UInt8) {
  switch size {
  case 1:
    UInt16.setRegister(cpu, 0, UInt16(truncatingIfNeeded: UInt8.register(cpu, 0).signExtended))
  case 2:
    UInt32.setRegister(cpu, 0, UInt32(truncatingIfNeeded: UInt16.register(cpu, 0).signExtended))
  default: cpu.registers[0] = UInt32.register(cpu, 0).signExtended
  }
}

/// CWD, CDQ, CQO.
func extendIntoData(_ cpu: CPU, size: UInt8) {
  switch size {
  case 1: UInt16.setRegister(cpu, 2, UInt16.register(cpu, 0).isNegative ? .max : 0)
  case 2: UInt32.setRegister(cpu, 2, UInt32.register(cpu, 0).isNegative ? .max : 0)
  default: cpu.registers[2] = cpu.registers[0].isNegative ? .max : 0
  }
}

// MARK: Flags

func loadFlagsFromAH(_ cpu: CPU) {
  let value = UInt32(truncatingIfNeeded: cpu.registers[0] >> 8 & 0xFF)
  writeFlags(cpu, value & ~ArithmeticFlag.overflow | (cpu.overflow ? ArithmeticFlag.overflow : 0))
}

func storeFlagsInAH(_ cpu: CPU) {
  cpu.registers[0] =
    cpu.registers[0] & ~0xFF00 | UInt64(readFlags(cpu) & 0xD5 | 2) << 8
}

// MARK: Memory

/// XLAT; false after an exception.
func translateByte(_ cpu: CPU, _ operation: Operation) -> Bool {
  let offset =
    (cpu.registers[Int(SOFT_RBX)] &+ cpu.registers[0] & 0xFF) & operation.addressMask
  guard
    let address = checkedAddress(
      cpu, segment: operation.pointee.segment, offset: offset, size: 1, isWrite: false),
    let value = load8(cpu, address)
  else { return false }
  UInt8.setRegister(cpu, 0, value)
  return true
}

/// BOUND; false after #BR or another exception.
func checkBounds<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) -> Bool {
  guard
    let address = operandAddress(
      cpu, operation, size: 2 &* Value.byteCount, isWrite: false),
    let low: Value = loadValue(cpu, address),
    let high: Value = loadValue(cpu, address &+ Value.byteCount)
  else { return false }
  let index = Value.register(cpu, operation.pointee.reg).signed
  guard index >= low.signed, index <= high.signed else {
    raise(cpu, .boundRange)
    return false
  }
  return true
}

/// CMPXCHG8B.
func compareExchange8(_ cpu: CPU, _ operation: Operation) -> Bool {
  let expected = cpu.registers[0] & 0xFFFF_FFFF | cpu.registers[2] << 32
  let value = cpu.registers[3] & 0xFFFF_FFFF | cpu.registers[1] << 32
  var old: UInt64 = 0
  guard let address = operandAddress(cpu, operation, size: 8, isWrite: true),
    modify(
      cpu, address, isLocked: operation.isLocked,
      { (current: UInt64) in
        old = current
        return current == expected ? value : current
      })
  else { return false }
  setEqual(cpu, old == expected)
  if old != expected {
    cpu.registers[0] = old & 0xFFFF_FFFF
    cpu.registers[2] = old >> 32
  }
  return true
}

/// CMPXCHG16B.
func compareExchange16(_ cpu: CPU, _ operation: Operation) -> Bool {
  let place = operandAddress(cpu, operation, size: 16, isWrite: true)
  guard checkAlignment(cpu, operation, place, size: 16), let address = place else { return false }
  let expected = (cpu.registers[0], cpu.registers[2])
  var isEqual: Bool
  var old: (UInt64, UInt64) = expected
  let cached = writePointer(cpu, address, count: 16)
  if cached == nil {
    guard findLocked(cpu, address, count: 16) else { return false }
  }
  if let host = cached ?? cpu.pointee.slow_host {
    let scratch = UnsafeMutableRawPointer(soft_scratch(cpu)).assumingMemoryBound(to: UInt64.self)
    (scratch[0], scratch[1]) = expected
    isEqual = soft_exchange128(host, scratch, cpu.registers[3], cpu.registers[1]) != 0
    old = (scratch[0], scratch[1])
    if cached == nil { endLocked(cpu, count: 16) }
  } else {
    guard probeStore(cpu, address, count: 16, classNumber: cpu.pointee.tlb_class) else {
      return false
    }
    soft_lock_bus()
    defer { soft_unlock_bus() }
    guard slowLoad(cpu, address, count: 8) else { return false }
    old.0 = cpu.pointee.slow_value
    guard slowLoad(cpu, address &+ 8, count: 8) else { return false }
    old.1 = cpu.pointee.slow_value
    isEqual = old == expected
    let value = isEqual ? (cpu.registers[3], cpu.registers[1]) : old
    _ = slowStore(cpu, address, value.0, count: 8)
    _ = slowStore(cpu, address &+ 8, value.1, count: 8)
  }
  setEqual(cpu, isEqual)
  if !isEqual { (cpu.registers[0], cpu.registers[2]) = old }
  return true
}

/// ZF alone changes.
private func setEqual(_ cpu: CPU, _ isEqual: Bool) {
  let flags = readFlags(cpu) & ~ArithmeticFlag.zero
  writeFlags(cpu, isEqual ? flags | ArithmeticFlag.zero : flags)
}

// MARK: Counters and random numbers

/// RDTSC; false after #GP (CR4.TSD).
func readTimeStamp(_ cpu: CPU) -> Bool {
  guard cpu.pointee.cr4 & Control4.timeStampDisable == 0 || cpu.pointee.cpl == 0 else {
    raise(cpu, .generalProtection, error: 0)
    return false
  }
  let value = soft_cycles() &+ cpu.pointee.tsc_offset
  cpu.registers[0] = value & 0xFFFF_FFFF
  cpu.registers[2] = value >> 32
  return true
}

/// RDRAND, RDSEED: from the host's kernel. CF says whether there was a number.
@inline(never)
func randomNumber<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let scratch = UnsafeMutableRawPointer(soft_scratch(cpu))
  let got = getrandom(scratch, 8, UInt32(GRND_NONBLOCK))
  let value = got == 8 ? Value(truncatingIfNeeded: scratch.load(as: UInt64.self)) : 0
  Value.setRegister(cpu, operation.pointee.rm, value)
  writeFlags(cpu, got == 8 ? ArithmeticFlag.carry : 0)
}

/// HLT; false after #GP.
func halt(_ cpu: CPU) -> Bool {
  guard cpu.pointee.cpl == 0 else {
    raise(cpu, .generalProtection, error: 0)
    return false
  }
  cpu.pointee.activity = 1
  soft_post(cpu, UInt32(SOFT_EVENT_SELF))
  return true
}
