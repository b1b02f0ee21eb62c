// x87 instructions that move control, status and environment, and no numbers. Those with N in their name do not wait for
// pending exceptions.
import CSoftProcessor

private func loadWord(_ cpu: CPU, _ operation: Operation) -> UInt16? {
  guard let address = operandAddress(cpu, operation, size: 2, isWrite: false) else { return nil }
  return load16(cpu, address)
}

private func storeWord(_ cpu: CPU, _ operation: Operation, _ value: UInt16) -> Bool {
  guard let address = operandAddress(cpu, operation, size: 2, isWrite: true) else { return false }
  return store16(cpu, address, value)
}

func x87LoadControl(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu), let value = loadWord(cpu, operation) else { return fault(cpu, operation) }
  soft_x87_set_control(cpu, UInt32(value))
  next(cpu, operation)
}

func x87StoreControl(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu), storeWord(cpu, operation, cpu.pointee.fcw) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

func x87StoreStatus(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu), storeWord(cpu, operation, cpu.pointee.fsw) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

func x87StoreStatusAX(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu) else { return fault(cpu, operation) }
  UInt16.setRegister(cpu, UInt8(SOFT_RAX), cpu.pointee.fsw)
  next(cpu, operation)
}

func x87ClearExceptions(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu) else { return fault(cpu, operation) }
  soft_x87_clear_exceptions(cpu)
  next(cpu, operation)
}

func x87Initialize(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu) else { return fault(cpu, operation) }
  soft_x87_initialize(cpu)
  next(cpu, operation)
}

/// FENI, FDISI, FSETPM: meant something to the 8087 and 80287.
func x87Nothing(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu) else { return fault(cpu, operation) }
  next(cpu, operation)
}

// MARK: Environment and whole state

/// 28 bytes of environment with a 32- or 64-bit operand size, else 14.
private func isWide(_ operation: Operation) -> Bool {
  operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK) != 1
}

private func hasSelectors(_ cpu: CPU) -> UInt32 {
  cpu.hasMode(SOFT_MODE_PROTECTED) || cpu.hasMode(SOFT_MODE_CODE64) ? 1 : 0
}

private func bytes(_ pointer: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt8> {
  pointer.assumingMemoryBound(to: UInt8.self)
}

@inline(never)
private func storeEnvironment(_ cpu: CPU, _ operation: Operation, withRegisters: Bool) -> Bool {
  let image = bytes(cpu.scratch)
  var count = soft_x87_store_environment(
    cpu, image, isWide(operation) ? 1 : 0, hasSelectors(cpu))
  if withRegisters {
    soft_x87_store_registers(cpu, image + Int(count))
    count += 80
  }
  guard
    let address = operandAddress(cpu, operation, size: UInt64(count), isWrite: true),
    storeBytes(cpu, address, from: image, count: UInt64(count))
  else { return false }
  if withRegisters {
    soft_x87_initialize(cpu)
  } else {
    // FNSTENV masks all exceptions.
    soft_x87_set_control(cpu, UInt32(cpu.pointee.fcw) | 0x3F)
  }
  return true
}

@inline(never)
private func loadEnvironment(_ cpu: CPU, _ operation: Operation, withRegisters: Bool) -> Bool {
  let image = bytes(cpu.scratch)
  let wide = isWide(operation)
  let environment: UInt64 = wide ? 28 : 14
  let count = environment &+ (withRegisters ? 80 : 0)
  guard
    let address = operandAddress(cpu, operation, size: count, isWrite: false),
    loadBytes(cpu, address, into: image, count: count)
  else { return false }
  soft_x87_load_environment(cpu, image, wide ? 1 : 0, hasSelectors(cpu))
  if withRegisters { soft_x87_load_registers(cpu, image + Int(environment)) }
  return true
}

func x87StoreEnvironment(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu), storeEnvironment(cpu, operation, withRegisters: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

func x87Save(_ cpu: CPU, _ operation: Operation) {
  guard deviceReady(cpu), storeEnvironment(cpu, operation, withRegisters: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

func x87LoadEnvironment(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu), loadEnvironment(cpu, operation, withRegisters: false) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}

func x87Restore(_ cpu: CPU, _ operation: Operation) {
  guard x87Ready(cpu), loadEnvironment(cpu, operation, withRegisters: true) else {
    return fault(cpu, operation)
  }
  next(cpu, operation)
}
