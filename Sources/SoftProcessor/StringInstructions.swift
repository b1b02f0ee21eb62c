// MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, alone and repeated. Repeats of MOVS and STOS go in bulk as far as a page
// reaches; all others one element at a time. Between elements (or pages) an event ends the run: the registers are right
// and the instruction is started again.
import CSoftProcessor

/// One run of a string instruction.
private struct StringRun {
  let cpu: CPU
  let operation: Operation
  let addressMask: UInt64
  /// Plus or minus the element's size.
  let step: UInt64

  @inline(__always)
  init(_ cpu: CPU, _ operation: Operation, size: UInt64) {
    self.cpu = cpu
    self.operation = operation
    addressMask = operation.addressMask
    step = cpu.pointee.flags_other & 1 << 10 == 0 ? size : 0 &- size
  }

  var isForward: Bool { Int64(bitPattern: step) > 0 }
  var isRepeated: Bool {
    operation.pointee.flags & UInt8(SOFT_OPERATION_REP | SOFT_OPERATION_REPNE) != 0
  }
  var source: UInt64 { cpu.registers[Int(SOFT_RSI)] & addressMask }
  var target: UInt64 { cpu.registers[Int(SOFT_RDI)] & addressMask }
  var count: UInt64 { cpu.registers[Int(SOFT_RCX)] & addressMask }

  @inline(__always)
  func sourceAddress(_ size: UInt64) -> UInt64? {
    checkedAddress(
      cpu, segment: operation.pointee.segment, offset: source, size: size, isWrite: false)
  }
  @inline(__always)
  func targetAddress(_ size: UInt64, isWrite: Bool) -> UInt64? {
    checkedAddress(cpu, segment: 0, offset: target, size: size, isWrite: isWrite)
  }
  @inline(__always)
  func advanceSource(_ distance: UInt64) {
    setAddressRegister(cpu, Int(SOFT_RSI), source &+ distance, mask: addressMask)
  }
  @inline(__always)
  func advanceTarget(_ distance: UInt64) {
    setAddressRegister(cpu, Int(SOFT_RDI), target &+ distance, mask: addressMask)
  }
  @inline(__always)
  func countDown(_ elements: UInt64) {
    setCounter(cpu, count &- elements, mask: addressMask)
  }
}

private enum StringStep {
  case done, finished, failed
}

/// Repeats `step` as the prefix says; false if it raised an exception. True and RIP on the instruction itself if an event
/// came first.
@inline(__always)
private func repeatString(
  _ cpu: CPU, _ operation: Operation, _ run: StringRun, _ step: () -> StringStep
) {
  guard run.isRepeated else {
    if step() == .failed { return fault(cpu, operation) }
    return next(cpu, operation)
  }
  while run.count != 0 {
    let result = step()
    if result == .failed { return fault(cpu, operation) }
    if result == .finished { break }
    if soft_events(cpu) != 0, run.count != 0 {
      return leave(cpu, at: address(cpu, operation))
    }
  }
  next(cpu, operation)
}

/// How many elements from two addresses on lie in their pages and in the counter.
@inline(__always)
private func bulk(_ run: StringRun, _ first: UInt64, _ second: UInt64, _ size: UInt64) -> UInt64 {
  let left = min(0x1000 &- (first & 0xFFF), 0x1000 &- (second & 0xFFF)) / size
  return min(left, run.count)
}

@inline(__always)
func moveString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  repeatString(cpu, operation, run) {
    guard let from = run.sourceAddress(Value.byteCount),
      let to = run.targetAddress(Value.byteCount, isWrite: true)
    else { return .failed }
    if run.isRepeated, run.isForward, moveBulk(cpu, operation, from, to, Value.byteCount) {
      return .done
    }
    guard let value: Value = loadValue(cpu, from), storeValue(cpu, to, value) else {
      return .failed
    }
    run.advanceSource(run.step)
    run.advanceTarget(run.step)
    if run.isRepeated { run.countDown(1) }
    return .done
  }
}

/// Copies to the end of a page at once; false where only single elements will do.
@inline(never)
private func moveBulk(
  _ cpu: CPU, _ operation: Operation, _ from: UInt64, _ to: UInt64, _ size: UInt64
) -> Bool {
  let run = StringRun(cpu, operation, size: size)
  // Segments were checked for one element only.
  guard cpu.hasMode(SOFT_MODE_FLAT) else { return false }
  let elements = bulk(run, from, to, size)
  let bytes = elements &* size
  // An overlap where the target is behind the source repeats what was copied: element by element.
  guard elements > 1, to &- from >= bytes,
    run.source &+ bytes <= run.addressMask, run.target &+ bytes <= run.addressMask,
    let source = readPointer(cpu, from, count: bytes),
    let target = writePointer(cpu, to, count: bytes)
  else { return false }
  let distance = UInt(bitPattern: target) &- UInt(bitPattern: source)
  guard distance >= UInt(bytes) else { return false }
  target.copyMemory(from: source, byteCount: Int(truncatingIfNeeded: bytes))
  run.advanceSource(bytes)
  run.advanceTarget(bytes)
  run.countDown(elements)
  return true
}

@inline(__always)
func storeString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  repeatString(cpu, operation, run) {
    guard let to = run.targetAddress(Value.byteCount, isWrite: true) else { return .failed }
    if run.isRepeated, run.isForward, storeBulk(cpu, operation, to, Value.self) { return .done }
    guard storeValue(cpu, to, Value.register(cpu, 0)) else { return .failed }
    run.advanceTarget(run.step)
    if run.isRepeated { run.countDown(1) }
    return .done
  }
}

@inline(__always)
private func storeBulk<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _ to: UInt64, _: Value.Type
) -> Bool {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  guard cpu.hasMode(SOFT_MODE_FLAT) else { return false }
  let elements = bulk(run, to, to, Value.byteCount)
  let bytes = elements &* Value.byteCount
  guard elements > 1, run.target &+ bytes <= run.addressMask,
    let target = writePointer(cpu, to, count: bytes)
  else { return false }
  fill(target, Value.register(cpu, 0), Int(truncatingIfNeeded: elements))
  run.advanceTarget(bytes)
  run.countDown(elements)
  return true
}

@inline(__always)
private func fill<Value: OperandValue>(
  _ target: UnsafeMutableRawPointer, _ value: Value, _ count: Int
) {
  for index in 0..<count {
    (target + index &* (Value.bitWidth &>> 3)).storeBytes(of: value, as: Value.self)
  }
}

@inline(__always)
func loadString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  repeatString(cpu, operation, run) {
    guard let from = run.sourceAddress(Value.byteCount), let value: Value = loadValue(cpu, from)
    else { return .failed }
    Value.setRegister(cpu, 0, value)
    run.advanceSource(run.step)
    if run.isRepeated { run.countDown(1) }
    return .done
  }
}

/// REPE goes on while ZF is set, REPNE while it is clear.
@inline(__always)
private func goesOn(_ cpu: CPU, _ operation: Operation, _ isEqual: Bool) -> StringStep {
  let wantsEqual = operation.pointee.flags & UInt8(SOFT_OPERATION_REP) != 0
  return isEqual == wantsEqual ? .done : .finished
}

@inline(__always)
func compareString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  repeatString(cpu, operation, run) {
    guard let from = run.sourceAddress(Value.byteCount),
      let to = run.targetAddress(Value.byteCount, isWrite: false),
      let left: Value = loadValue(cpu, from), let right: Value = loadValue(cpu, to)
    else { return .failed }
    cpu.setSubtractFlags(left, right, left &- right)
    run.advanceSource(run.step)
    run.advanceTarget(run.step)
    if run.isRepeated { run.countDown(1) }
    return goesOn(cpu, operation, left == right)
  }
}

@inline(__always)
func scanString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  let left = Value.register(cpu, 0)
  repeatString(cpu, operation, run) {
    guard let to = run.targetAddress(Value.byteCount, isWrite: false),
      let right: Value = loadValue(cpu, to)
    else { return .failed }
    cpu.setSubtractFlags(left, right, left &- right)
    run.advanceTarget(run.step)
    if run.isRepeated { run.countDown(1) }
    return goesOn(cpu, operation, left == right)
  }
}

// MARK: Ports

@inline(never)
func portLoad(_ cpu: CPU, _ port: UInt64, size: UInt64) -> UInt64 {
  let board = cpu.pointee.board
  return board.pointee.port_read(
    board.pointee.context, UInt32(truncatingIfNeeded: port & 0xFFFF),
    UInt32(truncatingIfNeeded: size))
}

@inline(never)
func portStore(_ cpu: CPU, _ port: UInt64, _ value: UInt64, size: UInt64) {
  let board = cpu.pointee.board
  board.pointee.port_write(
    board.pointee.context, UInt32(truncatingIfNeeded: port & 0xFFFF),
    UInt32(truncatingIfNeeded: size), value)
}

@inline(__always)
func inputString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  let port = cpu.registers[Int(SOFT_RDX)] & 0xFFFF
  guard
    checkPortAccess(
      cpu, UInt32(truncatingIfNeeded: port), UInt32(truncatingIfNeeded: Value.byteCount))
  else { return fault(cpu, operation) }
  repeatString(cpu, operation, run) {
    // Nothing is taken from the device before it is sure that it can be stored.
    guard let to = run.targetAddress(Value.byteCount, isWrite: true),
      probeStore(cpu, to, count: Value.byteCount, classNumber: cpu.pointee.tlb_class)
    else { return .failed }
    guard !leavesPort(cpu, port) else { return .failed }
    let value = Value(truncatingIfNeeded: portLoad(cpu, port, size: Value.byteCount))
    guard storeValue(cpu, to, value) else { return .failed }
    run.advanceTarget(run.step)
    if run.isRepeated { run.countDown(1) }
    return .done
  }
}

@inline(__always)
func outputString<Value: OperandValue>(_ cpu: CPU, _ operation: Operation, _: Value.Type) {
  let run = StringRun(cpu, operation, size: Value.byteCount)
  let port = cpu.registers[Int(SOFT_RDX)] & 0xFFFF
  guard
    checkPortAccess(
      cpu, UInt32(truncatingIfNeeded: port), UInt32(truncatingIfNeeded: Value.byteCount))
  else { return fault(cpu, operation) }
  repeatString(cpu, operation, run) {
    guard let from = run.sourceAddress(Value.byteCount), let value: Value = loadValue(cpu, from)
    else { return .failed }
    guard !leavesPort(cpu, port) else { return .failed }
    portStore(cpu, port, UInt64(value), size: Value.byteCount)
    run.advanceSource(run.step)
    if run.isRepeated { run.countDown(1) }
    return .done
  }
}

@inline(__always)
func inputPort<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, isImmediate: Bool
) {
  let port =
    isImmediate ? operation.pointee.immediate & 0xFF : cpu.registers[Int(SOFT_RDX)] & 0xFFFF
  guard
    checkPortAccess(
      cpu, UInt32(truncatingIfNeeded: port), UInt32(truncatingIfNeeded: Value.byteCount))
  else { return fault(cpu, operation) }
  guard !leavesPort(cpu, port) else { return fault(cpu, operation) }
  Value.setRegister(
    cpu, 0, Value(truncatingIfNeeded: portLoad(cpu, port, size: Value.byteCount)))
  next(cpu, operation)
}

@inline(__always)
func outputPort<Value: OperandValue>(
  _ cpu: CPU, _ operation: Operation, _: Value.Type, isImmediate: Bool
) {
  let port =
    isImmediate ? operation.pointee.immediate & 0xFF : cpu.registers[Int(SOFT_RDX)] & 0xFFFF
  guard
    checkPortAccess(
      cpu, UInt32(truncatingIfNeeded: port), UInt32(truncatingIfNeeded: Value.byteCount))
  else { return fault(cpu, operation) }
  guard !leavesPort(cpu, port) else { return fault(cpu, operation) }
  portStore(cpu, port, UInt64(Value.register(cpu, 0)), size: Value.byteCount)
  next(cpu, operation)
}
