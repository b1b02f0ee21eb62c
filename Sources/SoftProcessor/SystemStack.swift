// The stack as far transfers and the delivery of events use it: several values at once, perhaps of another privilege
// level. All stores are checked before the first is made.
import CSoftProcessor

struct SystemStack {
  let cpu: CPU
  let segment: soft_segment
  /// 64-bit stacks have neither base nor limit.
  let is64: Bool
  /// Which bits of the pointer count: 16, 32 or 64.
  let mask: UInt64
  let classNumber: UInt32
  /// Named by #SS when the stack is too small: the selector of a new stack, 0 for the current one.
  let errorSelector: UInt16
  var pointer: UInt64

  /// The current stack.
  init(_ cpu: CPU) {
    self.init(
      cpu, segment: cpu.segments[Int(SOFT_SS)], pointer: cpu.registers[Int(SOFT_RSP)],
      is64: cpu.hasMode(SOFT_MODE_CODE64), classNumber: cpu.pointee.tlb_class, errorSelector: 0
    )
  }

  /// A stack of another segment or level.
  init(
    _ cpu: CPU, segment: soft_segment, pointer: UInt64, is64: Bool, classNumber: UInt32,
    errorSelector: UInt16
  ) {
    self.cpu = cpu
    self.segment = segment
    self.is64 = is64
    mask =
      is64
      ? .max : segment.has(SegmentAttribute.default32) ? 0xFFFF_FFFF : 0xFFFF
    self.classNumber = classNumber
    self.errorSelector = errorSelector
    self.pointer = pointer
  }

  /// The access class of a privilege level that is not the current.
  static func classNumber(level: UInt32) -> UInt32 {
    level == 3 ? AccessClass.user : AccessClass.supervisor
  }

  /// The linear address of `count` bytes, or nil after #SS.
  private func linear(_ offset: UInt64, _ count: UInt64) -> UInt64? {
    if is64 {
      guard isCanonical(offset), isCanonical(offset &+ count &- 1) else {
        raise(cpu, .stackFault, selector: errorSelector)
        return nil
      }
      return offset
    }
    guard segment.contains(offset & mask, count) else {
      raise(cpu, .stackFault, selector: errorSelector)
      return nil
    }
    let address = segment.base &+ (offset & mask)
    return address & 0xFFFF_FFFF
  }

  /// Checks that `count` values of `width` bytes can be pushed.
  func reserve(_ count: UInt64, width: UInt64) -> Bool {
    for number in 1...max(1, count) {
      guard let address = linear(pointer &- number &* width, width),
        probeStore(cpu, address, count: width, classNumber: classNumber)
      else { return false }
    }
    return true
  }

  /// Pushes a value for which `reserve` was asked.
  mutating func push(_ value: UInt64, width: UInt64) -> Bool {
    let new = pointer &- width
    guard let address = linear(new, width),
      store(cpu, address, value, count: width, classNumber: classNumber)
    else { return false }
    pointer = pointer & ~mask | new & mask
    return true
  }

  mutating func pop(width: UInt64) -> UInt64? {
    guard let value = peek(at: 0, width: width) else { return nil }
    skip(width)
    return value
  }

  /// A value above the pointer, which stays.
  func peek(at distance: UInt64, width: UInt64) -> UInt64? {
    guard let address = linear(pointer &+ distance, width) else { return nil }
    return load(cpu, address, count: width, classNumber: classNumber)
  }

  mutating func skip(_ count: UInt64) {
    pointer = pointer & ~mask | (pointer &+ count) & mask
  }

  /// Makes its pointer the processor's.
  func commit() {
    let register = cpu.registers + Int(SOFT_RSP)
    switch mask {
    case 0xFFFF: register.pointee = register.pointee & ~0xFFFF | pointer & 0xFFFF
    case 0xFFFF_FFFF: register.pointee = pointer & 0xFFFF_FFFF
    default: register.pointee = pointer
    }
  }
}

extension soft_segment {
  /// Whether `count` bytes at an offset lie inside (expand-down segments: above the limit).
  func contains(_ offset: UInt64, _ count: UInt64) -> Bool {
    let last = offset &+ count &- 1
    // Not code, and expand-down.
    if attributes & 0xC == 0x4 {
      let top: UInt64 = has(SegmentAttribute.default32) ? 0xFFFF_FFFF : 0xFFFF
      return offset > UInt64(limit) && last <= top
    }
    return last <= UInt64(limit)
  }
}
