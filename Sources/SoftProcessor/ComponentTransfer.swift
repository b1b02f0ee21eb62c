// XSAVE and its kin for a processor whose registers are somebody else's: all components that the host has, of which the
// software processor itself knows only the first (Intel SDM 1, 13.4 to 13.12).
import CSoftProcessor
import Processor

/// Where a component of the state stands in an XSAVE area: the host's numbers (CPUID leaf 0xD).
private struct StateComponent {
  var offset: Int
  var size: Int
  /// In compacted form it begins at a multiple of 64.
  var isAligned: Bool

  /// Components 2 and later; nil where the host has none.
  static let all: [StateComponent?] = (0..<63).map { number in
    guard number >= 2 else { return nil }
    var registers: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    withUnsafeMutablePointer(to: &registers) {
      $0.withMemoryRebound(to: UInt32.self, capacity: 4) {
        soft_host_cpuid(0xD, UInt32(number), $0)
      }
    }
    let (size, offset) = (Int(registers.0), Int(registers.1))
    // Supervisor components have no place in the standard form.
    guard size > 0, offset >= 576, offset + size <= 65536 else { return nil }
    return StateComponent(offset: offset, size: size, isAligned: registers.2 & 2 != 0)
  }
}

private enum Area {
  static let vectors = 160..<416
  static let status = 24..<32
  static let presence = 512
  static let compaction = 520
  static let start = 576
  static let isCompacted: UInt64 = 1 << 63
}

extension SoftProcessor {
  /// Executes XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR or XRSTORS on an area of the standard form that holds the
  /// registers.
  ///
  /// - Parameters:
  ///   - area: read or written as the registers.
  ///   - enabled: XCR0; all of it has its place in `area`.
  /// - Returns: the vector of an exception, which is delivered; nil when there was none.
  package func transferComponents(_ area: inout [UInt8], enabled: UInt64) -> VectorNumber? {
    var registers = area
    let vector = executeOne(cpu) { cpu, operation in
      let mask = cpu.registers[Int(SOFT_RDX)] << 32 | cpu.registers[Int(SOFT_RAX)] & 0xFFFF_FFFF
      let requested = mask & enabled
      let group = operation.pointee.reg & 7
      switch (operation.pointee.opcode, group) {
      case (0x1AE, 5), (0x1C7, 3):
        return restore(
          cpu, operation, &registers, requested, enabled, mustBeCompacted: group == 3)
      default:
        return save(
          cpu, operation, registers, requested, isCompacted: operation.pointee.opcode == 0x1C7,
          skipsInitial: operation.pointee.opcode == 0x1C7 || group == 6)
      }
    }
    if vector == nil { area = registers }
    return vector.map { VectorNumber(UInt8(truncatingIfNeeded: $0)) }
  }

  /// Whether an instruction is one of those, and state may be moved at all now.
  package func transfersComponents(_ instruction: SoftInstruction) -> Bool {
    guard instruction.hasMemory, instruction.isPlain,
      cpu.pointee.cr4 & Control4.extendedSave != 0, cpu.pointee.cr0 & Control0.taskSwitched == 0
    else { return false }
    switch instruction.opcode {
    case 0x1AE: return (4...6).contains(instruction.reg & 7)
    case 0x1C7: return (3...5).contains(instruction.reg & 7) && isSupervisor
    default: return false
    }
  }
}

extension [UInt8] {
  fileprivate subscript(quad offset: Int) -> UInt64 {
    get { (0..<8).reduce(0) { $0 | UInt64(self[offset + $1]) << UInt64(8 * $1) } }
    set {
      for byte in 0..<8 {
        self[offset + byte] = UInt8(truncatingIfNeeded: newValue >> (8 * UInt64(byte)))
      }
    }
  }
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

/// Offsets of the components of a compacted area, and its size.
private func compactedOffsets(_ present: UInt64) -> (offsets: [Int: Int], size: Int) {
  var offsets: [Int: Int] = [:]
  var position = Area.start
  for number in 2..<63 where present >> UInt64(number) & 1 == 1 {
    guard let component = StateComponent.all[number] else { continue }
    if component.isAligned { position = (position + 63) & ~63 }
    offsets[number] = position
    position += component.size
  }
  return (offsets, position)
}

private func store(
  _ cpu: CPU, _ address: UInt64, _ bytes: [UInt8], _ range: Range<Int>, at offset: Int
) -> Bool {
  bytes.withUnsafeBytes { buffer -> Bool in
    guard let base = buffer.baseAddress, range.upperBound <= buffer.count else { return true }
    var done = 0
    while done < range.count {
      let count = min(2048, range.count - done)
      guard
        storeBytes(
          cpu, address &+ UInt64(offset + done), from: base + range.lowerBound + done,
          count: UInt64(count))
      else { return false }
      done += count
    }
    return true
  }
}

private func save(
  _ cpu: CPU, _ operation: Operation, _ registers: [UInt8], _ requested: UInt64,
  isCompacted: Bool, skipsInitial: Bool
) -> Bool {
  guard let address = areaAddress(cpu, operation, isWrite: true) else { return false }
  var registers = registers
  var inUse = registers[quad: Area.presence]
  // What is not in use has its initial values.
  if inUse & 1 == 0 {
    for offset in Array(0..<24) + Array(32..<160) { registers[offset] = 0 }
    registers[0] = 0x7F
    registers[1] = 3
  }
  if inUse & 2 == 0 { for offset in Area.vectors { registers[offset] = 0 } }
  if inUse & 6 == 0 { registers[quad: Area.status.lowerBound] = 0x0000_FFFF_0000_1F80 }
  if isCompacted, registers[quad: Area.status.lowerBound] & 0xFFFF != 0x1F80 { inUse |= 2 }
  let written = skipsInitial ? requested & inUse : requested
  if written & 1 != 0 {
    guard store(cpu, address, registers, 0..<24, at: 0),
      store(cpu, address, registers, 32..<160, at: 32)
    else { return false }
  }
  if isCompacted ? written & 2 != 0 : requested & 6 != 0 {
    guard store(cpu, address, registers, Area.status, at: Area.status.lowerBound) else {
      return false
    }
  }
  if written & 2 != 0 {
    guard store(cpu, address, registers, Area.vectors, at: Area.vectors.lowerBound) else {
      return false
    }
  }
  let places = compactedOffsets(requested)
  for number in 2..<63 where written >> UInt64(number) & 1 == 1 {
    guard let component = StateComponent.all[number] else { continue }
    var range = component.offset..<component.offset + component.size
    var source = registers
    if inUse >> UInt64(number) & 1 == 0 || range.upperBound > registers.count {
      source = [UInt8](repeating: 0, count: component.size)
      range = 0..<component.size
    }
    let place = isCompacted ? places.offsets[number] ?? component.offset : component.offset
    guard store(cpu, address, source, range, at: place) else { return false }
  }
  var header = [UInt8](repeating: 0, count: 16)
  if isCompacted {
    header[quad: 0] = requested & inUse
    header[quad: 8] = requested | Area.isCompacted
    return store(cpu, address, header, 0..<16, at: Area.presence)
  }
  let present = address &+ UInt64(Area.presence)
  guard let old = load(cpu, present, count: 8) else { return false }
  header[quad: 0] = old[quad: 0] & ~requested | requested & inUse
  return store(cpu, address, header, 0..<8, at: Area.presence)
}

private func restore(
  _ cpu: CPU, _ operation: Operation, _ registers: inout [UInt8], _ requested: UInt64,
  _ enabled: UInt64, mustBeCompacted: Bool
) -> Bool {
  guard let address = areaAddress(cpu, operation, isWrite: false) else { return false }
  guard var image = load(cpu, address, count: Area.start) else { return false }
  let present = image[quad: Area.presence]
  let compaction = image[quad: Area.compaction]
  let isCompacted = compaction & Area.isCompacted != 0
  let rest = (0..<(isCompacted ? 48 : 56)).allSatisfy {
    image[Area.start - 48 - (isCompacted ? 0 : 8) + $0] == 0
  }
  guard rest, isCompacted || !mustBeCompacted && compaction == 0, present & ~enabled == 0,
    !isCompacted
      || compaction & ~Area.isCompacted & ~enabled == 0
        && present & ~compaction == 0
  else {
    raise(cpu, .generalProtection, error: 0)
    return false
  }
  let loadsStatus =
    isCompacted ? requested & present & 2 != 0 : requested & 6 != 0
  let status = UInt32(truncatingIfNeeded: image[quad: Area.status.lowerBound])
  if loadsStatus, status & 0xFFFF_0000 != 0 {
    raise(cpu, .generalProtection, error: 0)
    return false
  }
  let places = compactedOffsets(compaction & ~Area.isCompacted)
  // Everything is read before anything is set.
  var result = registers
  for number in 2..<63 where requested >> UInt64(number) & 1 == 1 {
    guard let component = StateComponent.all[number] else { continue }
    let range = component.offset..<component.offset + component.size
    guard range.upperBound <= result.count else { continue }
    guard present >> UInt64(number) & 1 == 1 else {
      result.replaceSubrange(range, with: repeatElement(0, count: range.count))
      continue
    }
    let place = isCompacted ? places.offsets[number] ?? component.offset : component.offset
    guard let bytes = load(cpu, address &+ UInt64(place), count: component.size) else {
      return false
    }
    result.replaceSubrange(range, with: bytes)
  }
  if requested & 1 != 0 {
    if present & 1 == 0 {
      for offset in 0..<160 where !Area.status.contains(offset) { image[offset] = 0 }
      image[0] = 0x7F
      image[1] = 3
    }
    for offset in 0..<160 where !Area.status.contains(offset) { result[offset] = image[offset] }
  }
  if requested & 2 != 0 {
    for offset in Area.vectors { result[offset] = present & 2 == 0 ? 0 : image[offset] }
  }
  if loadsStatus || isCompacted && requested & 2 != 0 {
    let value = loadsStatus ? status : 0x1F80
    for byte in 0..<4 { result[24 + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte)) }
  }
  var inUse = result[quad: Area.presence] & ~requested | requested & present
  // MXCSR counts only where the kernel believes that there are vectors.
  if loadsStatus, status != 0x1F80 { inUse |= 2 }
  if inUse & 2 != 0, registers[quad: Area.presence] & 2 == 0, requested & 2 == 0 {
    for offset in Area.vectors { result[offset] = 0 }
  }
  if inUse & 2 != 0, requested & 2 != 0, present & 2 == 0 {
    for offset in Area.vectors { result[offset] = 0 }
  }
  result[quad: Area.presence] = inUse
  registers = result
  return true
}

private func load(_ cpu: CPU, _ address: UInt64, count: Int) -> [UInt8]? {
  var bytes = [UInt8](repeating: 0, count: count)
  let isLoaded = bytes.withUnsafeMutableBytes { buffer -> Bool in
    guard let base = buffer.baseAddress else { return true }
    var done = 0
    while done < count {
      let part = min(2048, count - done)
      guard loadBytes(cpu, address &+ UInt64(done), into: base + done, count: UInt64(part)) else {
        return false
      }
      done += part
    }
    return true
  }
  return isLoaded ? bytes : nil
}
