// A counter of the 8254 as Linux has it for a virtual machine.

extension PIT8254Counter {
  /// struct kvm_pit_channel_state (Linux, arch/x86/include/uapi/asm/kvm.h).
  private enum Field {
    static let count = 0
    static let latchedCount = 4
    static let countIsLatched = 6
    static let statusIsLatched = 7
    static let status = 8
    static let reads = 9
    static let writes = 10
    static let writtenLow = 11
    static let access = 12
    static let mode = 13
    static let isDecimal = 14
    static let gate = 15
    static let loadTime = 16
    /// Of `reads` and `writes`: the high byte is next.
    static let high: UInt8 = 4
    /// A counter that no mode was written for.
    static let noMode: UInt8 = 0xFF
  }
  static let kernelSize = 24

  /// When the kernel loaded the count: nanoseconds of the host's monotonic clock.
  static func kernelLoadTime(_ bytes: [UInt8]) -> UInt64 {
    bytes.number(at: Field.loadTime, count: 8)
  }

  /// - Parameters:
  ///   - elapsed: ticks since the count was loaded.
  ///   - tick: now.
  init(kernel bytes: [UInt8], elapsed: UInt64, at tick: UInt64) throws(DeviceStateError) {
    let loaded = bytes.number(at: Field.count, count: 4)
    guard bytes.count >= Self.kernelSize, loaded <= 0x1_0000 else {
      throw DeviceStateError("a counter of a kernel's 8254 is none")
    }
    self.init(gate: bytes[Field.gate] != 0)
    access = Access(rawValue: bytes[Field.access]) ?? .both
    isDecimal = bytes[Field.isDecimal] != 0
    readsHigh = bytes[Field.reads] == Field.high
    if bytes[Field.writes] == Field.high { writtenLow = bytes[Field.writtenLow] }
    // The low half of a latched count that was half read is gone by then.
    if bytes[Field.countIsLatched] != 0 {
      latchedCount = UInt16(truncatingIfNeeded: bytes.number(at: Field.latchedCount, count: 2))
      readsHigh = bytes[Field.countIsLatched] == Field.high
    }
    if bytes[Field.statusIsLatched] != 0 { latchedStatus = bytes[Field.status] }
    guard bytes[Field.mode] < 8 else { return }
    mode = Mode(bits: bytes[Field.mode])
    reload = loaded == 0 ? 0x1_0000 : loaded
    count = reload
    (isArmed, hasCount, isNull) = (true, true, false)
    let passed = mode.isPeriodic ? elapsed % period : elapsed
    start = tick - min(passed, tick)
    counted = mode.isPeriodic ? 0 : passed - (tick - start)
    let rise = mode == .softwareStrobe || mode == .hardwareStrobe ? count + 1 : count
    hasRisen = !mode.isPeriodic && elapsed >= rise
    advance(to: tick)
    rises = 0
  }

  /// The kernel begins to count where the state is put into it: what counts once is given what is left of its count.
  func kernelBytes(at tick: UInt64) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.kernelSize)
    let left = count - min(elapsed(tick), count - 1)
    let loaded = mode.isPeriodic ? reload : left
    for index in 0..<4 {
      bytes[Field.count + index] = UInt8(truncatingIfNeeded: loaded >> (8 * UInt64(index)))
    }
    if let latchedCount {
      bytes[Field.latchedCount] = UInt8(truncatingIfNeeded: latchedCount)
      bytes[Field.latchedCount + 1] = UInt8(latchedCount >> 8)
      bytes[Field.countIsLatched] = access == .both && readsHigh ? Field.high : access.rawValue
    }
    if let latchedStatus {
      bytes[Field.status] = latchedStatus
      bytes[Field.statusIsLatched] = 1
    }
    bytes[Field.reads] = access == .both && readsHigh ? Field.high : access.rawValue
    bytes[Field.writes] = writtenLow != nil ? Field.high : access.rawValue
    bytes[Field.writtenLow] = writtenLow ?? 0
    bytes[Field.access] = access.rawValue
    let isOver = !mode.isPeriodic && hasRisen
    bytes[Field.mode] = isArmed && !isOver ? mode.rawValue : Field.noMode
    bytes[Field.isDecimal] = isDecimal ? 1 : 0
    bytes[Field.gate] = gate ? 1 : 0
    return bytes
  }
}
