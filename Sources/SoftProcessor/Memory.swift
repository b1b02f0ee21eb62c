// Loads and stores by linear address. The fast path is one look into the translation buffer, indexed by the last byte's
// page: an access that crosses a page finds another page's entry there and misses, so that it needs no test of its own.
import CSoftProcessor

/// Host memory of an access that the buffer lets through, or nil: then the slow path.
@inline(__always)
func readPointer(_ cpu: CPU, _ linear: UInt64, count: UInt64) -> UnsafeRawPointer? {
  let index = Int(truncatingIfNeeded: (linear &+ (count &- 1)) &>> 12 & UInt64(SOFT_TLB_COUNT - 1))
  let entry = cpu.pointee.tlb + index
  guard entry.pointee.read_tag == linear & ~0xFFF else { return nil }
  return UnsafeRawPointer(
    bitPattern: UInt(truncatingIfNeeded: linear &+ entry.pointee.addend))
}

/// As `readPointer`, for a store, or for a load and a store.
@inline(__always)
func writePointer(_ cpu: CPU, _ linear: UInt64, count: UInt64) -> UnsafeMutableRawPointer? {
  let index = Int(truncatingIfNeeded: (linear &+ (count &- 1)) &>> 12 & UInt64(SOFT_TLB_COUNT - 1))
  let entry = cpu.pointee.tlb + index
  guard entry.pointee.write_tag == linear & ~0xFFF else { return nil }
  return UnsafeMutableRawPointer(
    bitPattern: UInt(truncatingIfNeeded: linear &+ entry.pointee.addend))
}

/// A little-endian value, or nil after raising an exception.
@inline(__always)
func loadValue<Value: OperandValue>(_ cpu: CPU, _ linear: UInt64, as _: Value.Type = Value.self)
  -> Value?
{
  if let host = readPointer(cpu, linear, count: Value.byteCount) {
    return host.loadUnaligned(as: Value.self)
  }
  guard slowLoad(cpu, linear, count: Value.byteCount) else { return nil }
  return Value(truncatingIfNeeded: cpu.pointee.slow_value)
}

/// False after raising an exception; then nothing was stored.
@inline(__always)
func storeValue<Value: OperandValue>(_ cpu: CPU, _ linear: UInt64, _ value: Value) -> Bool {
  if let host = writePointer(cpu, linear, count: Value.byteCount) {
    host.storeBytes(of: value, as: Value.self)
    return true
  }
  return slowStore(cpu, linear, UInt64(truncatingIfNeeded: value), count: Value.byteCount)
}

@inline(__always) func load8(_ cpu: CPU, _ linear: UInt64) -> UInt8? { loadValue(cpu, linear) }
@inline(__always) func load16(_ cpu: CPU, _ linear: UInt64) -> UInt16? { loadValue(cpu, linear) }
@inline(__always) func load32(_ cpu: CPU, _ linear: UInt64) -> UInt32? { loadValue(cpu, linear) }
@inline(__always) func load64(_ cpu: CPU, _ linear: UInt64) -> UInt64? { loadValue(cpu, linear) }

@inline(__always)
func store8(_ cpu: CPU, _ linear: UInt64, _ value: UInt8) -> Bool {
  storeValue(cpu, linear, value)
}
@inline(__always)
func store16(_ cpu: CPU, _ linear: UInt64, _ value: UInt16) -> Bool {
  storeValue(cpu, linear, value)
}
@inline(__always)
func store32(_ cpu: CPU, _ linear: UInt64, _ value: UInt32) -> Bool {
  storeValue(cpu, linear, value)
}
@inline(__always)
func store64(_ cpu: CPU, _ linear: UInt64, _ value: UInt64) -> Bool {
  storeValue(cpu, linear, value)
}

/// Loads `count` bytes (up to 512) to host memory; false after raising an exception.
@inline(__always)
func loadBytes(_ cpu: CPU, _ linear: UInt64, into target: UnsafeMutableRawPointer, count: UInt64)
  -> Bool
{
  if let host = readPointer(cpu, linear, count: count) {
    target.copyMemory(from: host, byteCount: Int(truncatingIfNeeded: count))
    return true
  }
  return slowLoadBytes(cpu, linear, into: target, count: count)
}

/// Stores `count` bytes (up to 4096) from host memory; false after raising an exception, and then nothing was stored.
@inline(__always)
func storeBytes(_ cpu: CPU, _ linear: UInt64, from source: UnsafeRawPointer, count: UInt64) -> Bool
{
  if let host = writePointer(cpu, linear, count: count) {
    host.copyMemory(from: source, byteCount: Int(truncatingIfNeeded: count))
    return true
  }
  return slowStoreBytes(cpu, linear, from: source, count: count)
}

/// 16 bytes of an XMM operand; false after raising an exception. Alignment is the caller's to check.
@inline(__always)
func loadVector(_ cpu: CPU, _ linear: UInt64, into target: UnsafeMutableRawPointer) -> Bool {
  loadBytes(cpu, linear, into: target, count: 16)
}

@inline(__always)
func storeVector(_ cpu: CPU, _ linear: UInt64, from source: UnsafeRawPointer) -> Bool {
  storeBytes(cpu, linear, from: source, count: 16)
}
