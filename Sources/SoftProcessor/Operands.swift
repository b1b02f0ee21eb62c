// Operands of integer instructions: ModRM.rm as register or memory, read, written, or both (also with LOCK).
import CSoftProcessor

extension OperandValue {
  /// Replaces `old` in host memory, atomically; false if it was no longer there.
  @inline(__always)
  static func exchange(_ host: UnsafeMutableRawPointer, _ old: Self, _ new: Self) -> Bool {
    switch bitWidth {
    case 8:
      soft_exchange8(host, UInt8(truncatingIfNeeded: old), UInt8(truncatingIfNeeded: new)) != 0
    case 16:
      soft_exchange16(host, UInt16(truncatingIfNeeded: old), UInt16(truncatingIfNeeded: new)) != 0
    case 32:
      soft_exchange32(host, UInt32(truncatingIfNeeded: old), UInt32(truncatingIfNeeded: new)) != 0
    default:
      soft_exchange64(host, UInt64(truncatingIfNeeded: old), UInt64(truncatingIfNeeded: new)) != 0
    }
  }
}

/// The value of ModRM.rm; nil after raising an exception.
@inline(__always)
func readOperand<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, as _: Value.Type = Value.self
) -> Value? {
  guard operation.isMemory else { return Value.register(cpu, operation.pointee.rm) }
  guard
    let address = operandAddress(cpu, operation, size: Value.byteCount, isWrite: false)
  else { return nil }
  return loadValue(cpu, address)
}

/// Writes ModRM.rm; false after raising an exception.
@inline(__always)
func writeOperand<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _ value: Value) -> Bool {
  guard operation.isMemory else {
    Value.setRegister(cpu, operation.pointee.rm, value)
    return true
  }
  guard let address = operandAddress(cpu, operation, size: Value.byteCount, isWrite: true) else {
    return false
  }
  return storeValue(cpu, address, value)
}

/// Replaces ModRM.rm by what `body` makes of it; false after raising an exception, and then `body` was not called. With
/// LOCK it may be called more than once: it must not depend on what it has changed.
@inline(__always)
func modifyOperand<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _ body: (Value) -> Value
) -> Bool {
  guard operation.isMemory else {
    let number = operation.pointee.rm
    Value.setRegister(cpu, number, body(Value.register(cpu, number)))
    return true
  }
  guard let address = operandAddress(cpu, operation, size: Value.byteCount, isWrite: true) else {
    return false
  }
  return modify(cpu, address, isLocked: operation.isLocked, body)
}

@inline(__always)
func modify<Value: OperandValue>(
  _ cpu: CPU, _ address: UInt64, isLocked: Bool, _ body: (Value) -> Value
) -> Bool {
  let isShared = isLocked && cpu.pointee.board.pointee.processor_count > 1
  if let host = writePointer(cpu, address, count: Value.byteCount) {
    if !isShared {
      host.storeBytes(of: body(host.loadUnaligned(as: Value.self)), as: Value.self)
      return true
    }
    // The host's own LOCK is atomic at any alignment: towards plain stores of others too.
    while true {
      let old = host.loadUnaligned(as: Value.self)
      if Value.exchange(host, old, body(old)) { return true }
    }
  }
  guard beginModify(cpu, address, count: Value.byteCount, isShared: isShared) else { return false }
  if isShared, let host = cpu.pointee.slow_host {
    while true {
      let old = host.loadUnaligned(as: Value.self)
      if Value.exchange(host, old, body(old)) { break }
    }
    endLocked(cpu, count: Value.byteCount)
    return true
  }
  let value = body(Value(truncatingIfNeeded: cpu.pointee.slow_value))
  endModify(cpu, address, UInt64(truncatingIfNeeded: value), Value.byteCount, isShared)
  return true
}

/// For an operand that missed in the translation buffer. Other processors that have it in theirs use the host's LOCK,
/// so this one must too: with `isShared`, `slow_host` is where. Otherwise the operand is loaded (`slow_value`), and the
/// store that follows cannot fail.
@inline(never)
func beginModify(_ cpu: CPU, _ address: UInt64, count: UInt64, isShared: Bool) -> Bool {
  if isShared {
    guard findLocked(cpu, address, count: count) else { return false }
    if cpu.pointee.slow_host != nil { return true }
  }
  guard checkCanonical(cpu, address, count: count),
    probeStore(cpu, address, count: count, classNumber: cpu.pointee.tlb_class)
  else { return false }
  if isShared { soft_lock_bus() }
  if slowLoad(cpu, address, count: count) { return true }
  if isShared { soft_unlock_bus() }
  return false
}

/// Finds the host memory of a LOCK instruction's operand: `slow_host`, null where there is none that can be locked at
/// once. False after raising an exception.
@inline(never)
func findLocked(_ cpu: CPU, _ address: UInt64, count: UInt64) -> Bool {
  cpu.pointee.slow_host = nil
  guard checkCanonical(cpu, address, count: count),
    let translation = translate(cpu, address, .write)
  else { return false }
  guard let region = regionPage(cpu, translation.physical), region.isWritable else { return true }
  let rest = 0x1000 &- address & 0xFFF
  if count > rest {
    // Over the end of the page it works where the next one follows in the host's memory too.
    let next = cpu.hasMode(SOFT_MODE_LONG) ? address &+ rest : (address &+ rest) & 0xFFFF_FFFF
    guard let second = translate(cpu, next, .write) else { return false }
    guard let other = regionPage(cpu, second.physical), other.isWritable,
      other.host == region.host + Int(truncatingIfNeeded: rest), other.page == region.page + 1
    else { return true }
  }
  checkDataBreakpoints(cpu, address, count: count, isWrite: true)
  enterTranslation(cpu, address, translation, classNumber: cpu.pointee.tlb_class, isStore: true)
  cpu.pointee.slow_host = UnsafeMutableRawPointer(region.host)
  cpu.pointee.slow_page = region.page
  cpu.pointee.slow_offset = translation.physical & 0xFFF
  return true
}

/// After such an instruction: it may have changed code.
@inline(never)
func endLocked(_ cpu: CPU, count: UInt64) {
  if soft_tracks_stores(cpu.pointee.board) != 0, let host = cpu.pointee.slow_host {
    markStore(cpu, host, count: count)
  }
  guard let page = cpu.pointee.slow_page else { return }
  let offset = cpu.pointee.slow_offset
  if soft_code_lines(page) != 0 { noteCodeStore(cpu, page, offset: offset, count: count) }
  let end = offset &+ count
  if end > 0x1000, soft_code_lines(page + 1) != 0 {
    noteCodeStore(cpu, page + 1, offset: 0, count: end &- 0x1000)
  }
}

@inline(never)
func endModify(
  _ cpu: CPU, _ address: UInt64, _ value: UInt64, _ count: UInt64, _ isShared: Bool
) {
  _ = slowStore(cpu, address, value, count: count)
  if isShared { soft_unlock_bus() }
}

// MARK: The stack

/// Which bits of RSP count: 64 in 64-bit mode, else by SS.B.
@inline(__always)
func stackMask(_ cpu: CPU) -> UInt64 {
  cpu.hasMode(SOFT_MODE_CODE64) ? .max : cpu.hasMode(SOFT_MODE_STACK32) ? 0xFFFF_FFFF : 0xFFFF
}

/// RSP with the bits that count replaced.
@inline(__always)
func setStackPointer(_ cpu: CPU, _ value: UInt64, mask: UInt64) {
  let old = cpu.registers[Int(SOFT_RSP)]
  if mask == 0xFFFF {
    cpu.registers[Int(SOFT_RSP)] = old & ~0xFFFF | value & 0xFFFF
  } else {
    cpu.registers[Int(SOFT_RSP)] = value & mask
  }
}

/// Pushes; false after raising an exception.
@inline(__always)
func push<Value: OperandValue>(_ cpu: CPU, _ value: Value) -> Bool {
  let mask = stackMask(cpu)
  let pointer = (cpu.registers[Int(SOFT_RSP)] &- Value.byteCount) & mask
  guard
    let address = checkedAddress(
      cpu, segment: 2, offset: pointer, size: Value.byteCount, isWrite: true),
    storeValue(cpu, address, value)
  else { return false }
  setStackPointer(cpu, pointer, mask: mask)
  return true
}

/// The value on top of the stack, which stays; nil after raising an exception.
@inline(__always)
func peek<Value: OperandValue>(
  _ cpu: CPU, distance: UInt64 = 0, as _: Value.Type = Value.self
) -> Value? {
  let pointer = (cpu.registers[Int(SOFT_RSP)] &+ distance) & stackMask(cpu)
  guard
    let address = checkedAddress(
      cpu, segment: 2, offset: pointer, size: Value.byteCount, isWrite: false)
  else { return nil }
  return loadValue(cpu, address)
}

/// Takes bytes off the stack.
@inline(__always)
func dropStack(_ cpu: CPU, _ count: UInt64) {
  setStackPointer(cpu, cpu.registers[Int(SOFT_RSP)] &+ count, mask: stackMask(cpu))
}
