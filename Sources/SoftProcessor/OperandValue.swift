// The widths that integer instructions come in, and how each reads and writes registers and memory.
import CSoftProcessor

/// UInt8, UInt16, UInt32 or UInt64 as an operand.
protocol OperandValue: FixedWidthInteger, UnsignedInteger {
  associatedtype Signed: FixedWidthInteger & SignedInteger
  /// Twice the width, for products and dividends.
  var signed: Signed { get }
  init(bits: Signed)
  /// The register that an operation names: a byte's offset for bytes, else the register's number.
  static func register(_ cpu: CPU, _ number: UInt8) -> Self
  /// 32-bit values clear the upper half.
  static func setRegister(_ cpu: CPU, _ number: UInt8, _ value: Self)
}

extension OperandValue {
  @inline(__always) var signExtended: UInt64 { UInt64(bitPattern: Int64(signed)) }
  /// The highest bit.
  @inline(__always) var isNegative: Bool { signed < 0 }
  @inline(__always) static var byteCount: UInt64 { UInt64(truncatingIfNeeded: bitWidth &>> 3) }
}

extension UInt8: OperandValue {
  @inline(__always) var signed: Int8 { Int8(bitPattern: self) }
  @inline(__always) init(bits: Int8) { self.init(bitPattern: bits) }
  @inline(__always)
  static func register(_ cpu: CPU, _ number: UInt8) -> UInt8 { cpu.byteRegister(number).pointee }
  @inline(__always)
  static func setRegister(_ cpu: CPU, _ number: UInt8, _ value: UInt8) {
    cpu.byteRegister(number).pointee = value
  }
}

extension UInt16: OperandValue {
  @inline(__always) var signed: Int16 { Int16(bitPattern: self) }
  @inline(__always) init(bits: Int16) { self.init(bitPattern: bits) }
  @inline(__always)
  static func register(_ cpu: CPU, _ number: UInt8) -> UInt16 {
    UInt16(truncatingIfNeeded: cpu.registers[Int(number)])
  }
  @inline(__always)
  static func setRegister(_ cpu: CPU, _ number: UInt8, _ value: UInt16) {
    UnsafeMutableRawPointer(cpu.registers + Int(number)).storeBytes(of: value, as: UInt16.self)
  }
}

extension UInt32: OperandValue {
  @inline(__always) var signed: Int32 { Int32(bitPattern: self) }
  @inline(__always) init(bits: Int32) { self.init(bitPattern: bits) }
  @inline(__always)
  static func register(_ cpu: CPU, _ number: UInt8) -> UInt32 {
    UInt32(truncatingIfNeeded: cpu.registers[Int(number)])
  }
  @inline(__always)
  static func setRegister(_ cpu: CPU, _ number: UInt8, _ value: UInt32) {
    cpu.registers[Int(number)] = UInt64(value)
  }
}

extension UInt64: OperandValue {
  @inline(__always) var signed: Int64 { Int64(bitPattern: self) }
  @inline(__always) init(bits: Int64) { self.init(bitPattern: bits) }
  @inline(__always)
  static func register(_ cpu: CPU, _ number: UInt8) -> UInt64 { cpu.registers[Int(number)] }
  @inline(__always)
  static func setRegister(_ cpu: CPU, _ number: UInt8, _ value: UInt64) {
    cpu.registers[Int(number)] = value
  }
}
