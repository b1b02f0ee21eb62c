// XSAVE, XSAVEOPT, XSAVEC and XRSTOR of the processor's own x87, SSE and AVX state (Intel SDM 1, 13.4 to 13.12). Kernels
// use them at every switch of tasks: no arrays here. Outside 64-bit mode there are eight vector registers.
import CSoftProcessor

private enum Image {
  static let pointers = (start: 0, count: 24)
  static let status = 24
  static let stack = (start: 32, count: 128)
  static let vectors = 160
  static let header = 512
  static let headerSize = 64
  static let upper = 576
  static let isCompacted: UInt64 = 1 << 63
}

private enum Component {
  static let x87: UInt64 = 1
  static let vectors: UInt64 = 2
  static let upper: UInt64 = 4
  static let all: UInt64 = 7
}

/// What EDX:EAX ask for of what XCR0 has.
private func requested(_ cpu: CPU) -> UInt64 {
  (cpu.registers[Int(SOFT_RDX)] << 32 | cpu.registers[Int(SOFT_RAX)] & 0xFFFF_FFFF)
    & cpu.pointee.xcr0
}

/// The area's address; nil after raising.
private func areaAddress(_ cpu: CPU, _ operation: Operation, isWrite: Bool) -> UInt64? {
  guard let address = operandAddress(cpu, operation, size: 576, isWrite: isWrite) else {
    return nil
  }
  guard address & 63 == 0 else {
    raise(cpu, .generalProtection, error: 0)
    return nil
  }
  return address
}

private func isWide(_ operation: Operation) -> UInt32 {
  operation.pointee.flags & UInt8(SOFT_OPERATION_SIZE_MASK) == 3 ? 1 : 0
}

/// False after raising; parts may have been written, as the manual allows.
func saveOwnComponents(
  _ cpu: CPU, _ operation: Operation, isCompacted: Bool, skipsInitial: Bool
) -> Bool {
  guard let address = areaAddress(cpu, operation, isWrite: true) else { return false }
  soft_vector_leave(cpu)
  let is64 = cpu.hasMode(SOFT_MODE_CODE64)
  let count = is64 ? 16 : 8
  let wanted = requested(cpu)
  var inUse = soft_states_in_use(cpu)
  if isCompacted, cpu.pointee.mxcsr != 0x1F80 { inUse |= Component.vectors }
  let written = skipsInitial ? wanted & inUse : wanted
  let hasStatus =
    isCompacted
    ? written & Component.vectors != 0 : wanted & (Component.vectors | Component.upper) != 0
  let image = cpu.scratch
  soft_x87_store_legacy_area(
    cpu, image.assumingMemoryBound(to: UInt8.self), is64 ? 1 : 0, isWide(operation))
  func store(_ start: Int, _ size: Int) -> Bool {
    storeBytes(cpu, address &+ UInt64(start), from: image + start, count: UInt64(size))
  }
  if written & 3 == 3, hasStatus {
    guard store(0, Image.vectors + 16 * count) else { return false }
  } else {
    if written & Component.x87 != 0 {
      guard store(Image.pointers.start, Image.pointers.count),
        store(Image.stack.start, Image.stack.count)
      else { return false }
    }
    if hasStatus {
      guard store(Image.status, 8) else { return false }
    }
    if written & Component.vectors != 0 {
      guard store(Image.vectors, 16 * count) else { return false }
    }
  }
  if written & Component.upper != 0 {
    for number in 0..<count {
      image.advanced(by: 16 * number).copyMemory(
        from: cpu.vector(UInt8(number)) + 16, byteCount: 16)
    }
    guard
      storeBytes(
        cpu, address &+ UInt64(Image.upper), from: image, count: UInt64(16 * count))
    else { return false }
  }
  let header = address &+ UInt64(Image.header)
  if isCompacted {
    image.storeBytes(of: wanted & inUse, as: UInt64.self)
    image.storeBytes(of: wanted | Image.isCompacted, toByteOffset: 8, as: UInt64.self)
    return storeBytes(cpu, header, from: image, count: 16)
  }
  guard let old = load64(cpu, header) else { return false }
  return store64(cpu, header, old & ~wanted | wanted & inUse)
}

/// False after raising, and then nothing has changed.
func restoreOwnComponents(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard let address = areaAddress(cpu, operation, isWrite: false) else { return false }
  soft_vector_leave(cpu)
  return withUnsafeTemporaryAllocation(byteCount: 1408, alignment: 16) { buffer in
    guard let base = buffer.baseAddress else { return false }
    // The area in standard form, as far as it is needed; behind it what the registers hold.
    return restore(cpu, operation, address, image: base, present: base + 832)
  }
}

private func restore(
  _ cpu: CPU, _ operation: Operation, _ address: UInt64, image: UnsafeMutableRawPointer,
  present: UnsafeMutableRawPointer
) -> Bool {
  let wanted = requested(cpu)
  let header = image + Image.header
  guard
    loadBytes(
      cpu, address &+ UInt64(Image.header), into: header, count: UInt64(Image.headerSize))
  else { return false }
  let components = header.load(as: UInt64.self)
  let compaction = header.load(fromByteOffset: 8, as: UInt64.self)
  let isCompacted = compaction & Image.isCompacted != 0
  var rest: UInt64 = isCompacted ? 0 : compaction
  for offset in stride(from: 16, to: isCompacted ? Image.headerSize : 24, by: 8) {
    rest |= header.load(fromByteOffset: offset, as: UInt64.self)
  }
  let format = compaction & ~Image.isCompacted
  guard rest == 0, components & ~cpu.pointee.xcr0 == 0,
    !isCompacted || format & ~cpu.pointee.xcr0 == 0 && components & ~format == 0
  else {
    raise(cpu, .generalProtection, error: 0)
    return false
  }
  let is64 = cpu.hasMode(SOFT_MODE_CODE64)
  let count = is64 ? 16 : 8
  let loaded = wanted & components
  let hasStatus =
    isCompacted
    ? loaded & Component.vectors != 0 : wanted & (Component.vectors | Component.upper) != 0
  if loaded & 3 != 0 || hasStatus {
    guard loadBytes(cpu, address, into: image, count: UInt64(Image.vectors + 16 * count)) else {
      return false
    }
  }
  if loaded & Component.upper != 0 {
    guard
      loadBytes(
        cpu, address &+ UInt64(Image.upper), into: image + Image.upper, count: UInt64(16 * count))
    else { return false }
  }
  soft_x87_store_legacy_area(
    cpu, present.assumingMemoryBound(to: UInt8.self), is64 ? 1 : 0, isWide(operation))
  take(wanted, loaded, count, from: image, to: present)
  if hasStatus {
    (present + Image.status).copyMemory(from: image + Image.status, byteCount: 4)
  } else if isCompacted, wanted & Component.vectors != 0 {
    present.storeBytes(of: 0x1F80, toByteOffset: Image.status, as: UInt32.self)
  }
  let isValid = soft_x87_load_legacy_area(
    cpu, present.assumingMemoryBound(to: UInt8.self), is64 ? 1 : 0, isWide(operation))
  guard isValid != 0 else {
    raise(cpu, .generalProtection, error: 0)
    return false
  }
  guard wanted & Component.upper != 0 else { return true }
  for number in 0..<count {
    let upper = cpu.vector(UInt8(number)) + 16
    if loaded & Component.upper != 0 {
      upper.copyMemory(from: image + Image.upper + 16 * number, byteCount: 16)
    } else {
      upper.initializeMemory(as: UInt8.self, repeating: 0, count: 16)
    }
  }
  return true
}

/// What is asked for of the legacy area, or its initial values.
private func take(
  _ wanted: UInt64, _ loaded: UInt64, _ count: Int, from image: UnsafeMutableRawPointer,
  to present: UnsafeMutableRawPointer
) {
  if loaded & Component.x87 != 0 {
    present.copyMemory(from: image, byteCount: Image.pointers.count)
    (present + Image.stack.start).copyMemory(
      from: image + Image.stack.start, byteCount: Image.stack.count)
  } else if wanted & Component.x87 != 0 {
    present.initializeMemory(as: UInt8.self, repeating: 0, count: Image.pointers.count)
    present.storeBytes(of: 0x37F, as: UInt16.self)
    (present + Image.stack.start).initializeMemory(
      as: UInt8.self, repeating: 0, count: Image.stack.count)
  }
  if loaded & Component.vectors != 0 {
    (present + Image.vectors).copyMemory(from: image + Image.vectors, byteCount: 16 * count)
  } else if wanted & Component.vectors != 0 {
    (present + Image.vectors).initializeMemory(as: UInt8.self, repeating: 0, count: 16 * count)
  }
}
