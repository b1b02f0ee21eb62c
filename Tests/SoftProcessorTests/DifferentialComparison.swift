// Runs a case on both processors and tells where they differ.
import CSoftProcessor
import NativeProcessor
import SoftProcessor

#if canImport(Glibc)
  import Glibc
#endif

/// Both processors with the same data pages.
final class DifferentialRun {
  let probe: InstructionProbe
  private(set) var cases = 0
  private(set) var exceptions = 0
  /// The first differences, as messages; by form how many.
  private(set) var messages: [String] = []
  private(set) var differences: [String: Int] = [:]
  /// Cases whose instruction the software processor does not know and the host does.
  private(set) var unknown: [String: Int] = [:]
  private static let messageLimit = 40
  private static let dataSize = Int(NATIVE_DATA_SIZE) + Int(NATIVE_READ_ONLY_SIZE)

  /// Nil when the host does not let itself be used so.
  init?(translates: Bool = false) {
    guard native_open() != 0 else { return nil }
    probe = InstructionProbe(
      codeAddress: UInt64(NATIVE_CODE), dataAddress: UInt64(NATIVE_DATA), translates: translates)
  }
  deinit { native_close() }

  var translatedCount: Int { probe.translatedCount }
  var has32Bit: Bool { native_has_32bit() != 0 }

  func run(_ test: InstructionCase, pokes: [(offset: Int, value: UInt64)]) {
    cases += 1
    let data = native_data()!
    for poke in pokes where poke.offset >= 0 && poke.offset + 8 <= Self.dataSize {
      UnsafeMutableRawPointer(data + poke.offset).storeBytes(of: poke.value, as: UInt64.self)
      UnsafeMutableRawPointer(probe.data + poke.offset).storeBytes(of: poke.value, as: UInt64.self)
    }
    let upper = test.upper.isEmpty ? [UInt8](repeating: 0, count: 256) : test.upper
    for number in 0..<16 {
      for byte in 0..<16 {
        native_upper()[16 * number + byte] = upper[16 * number + byte]
        soft_vector_register(probe.cpu, UInt32(number))[16 + byte] = upper[16 * number + byte]
      }
    }
    var native = test.state
    test.code.withUnsafeBufferPointer {
      native_run(&native, $0.baseAddress!, UInt32($0.count), test.is32Bit ? 1 : 0)
    }
    if native.vector != 0xFFFF { exceptions += 1 }
    if test.form.name == "fxsave", native.vector == 0xFFFF, let operand = test.operand {
      // The mask of MXCSR's bits: the host may have one more, misaligned exceptions.
      UnsafeMutableRawPointer(data + operand + 28).storeBytes(of: 0xFFFF, as: UInt32.self)
    }

    let cpu = probe.cpu
    probe.setMode(is32Bit: test.is32Bit)
    withUnsafeBytes(of: test.state.registers) { from in
      UnsafeMutableRawPointer(soft_registers(cpu)).copyMemory(
        from: from.baseAddress!, byteCount: 128)
    }
    probe.flags = test.state.flags
    withUnsafeBytes(of: test.state.fx) { fx in
      probe.loadExtended(fx.baseAddress!.assumingMemoryBound(to: UInt8.self))
    }
    cpu.pointee.cr2 = 0
    // The decoder may look at as many bytes as an instruction can have.
    var code = test.code
    code += [UInt8](repeating: 0xCC, count: max(0, 15 - code.count))
    var isRaised = false
    let isDecoded = code.withUnsafeBufferPointer {
      probe.step($0.baseAddress!, count: 15, at: UInt64(NATIVE_ENTRY))
    }
    // REP comes back after a while with the instruction still to be done.
    var rounds = 0
    while isDecoded, cpu.pointee.exception == UInt32(SOFT_EXCEPTION_NONE),
      cpu.pointee.rip == UInt64(NATIVE_ENTRY), rounds < 1000
    {
      rounds += 1
      _ = code.withUnsafeBufferPointer {
        probe.step($0.baseAddress!, count: 15, at: UInt64(NATIVE_ENTRY))
      }
    }
    if !isDecoded, code.count > 15 {
      // The loop's answer to what is longer than an instruction can be.
      cpu.pointee.exception = 13
      cpu.pointee.exception_has_error = 1
    }
    isRaised = !isDecoded || cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE)
    if native.vector == 0xFFFF, let operand = test.operand {
      forgetPointers(test.form, data + operand, probe.data + operand)
    }
    compare(test, native, isRaised: isRaised)
    if memcmp(data, probe.data, Self.dataSize) != 0 {
      memcpy(probe.data, data, Self.dataSize)
    }
  }

  /// CMPS reads two operands. Where neither page is there, the processor chooses which one it complains of: an AMD
  /// EPYC tells of the one at RDI.
  private func isOtherOperand(_ test: InstructionCase, _ native: native_state) -> Bool {
    guard test.form.name == "cmps" else { return false }
    let (source, target) = withUnsafeBytes(of: native.registers) { registers in
      (
        registers.load(fromByteOffset: 6 * 8, as: UInt32.self),
        registers.load(fromByteOffset: 7 * 8, as: UInt32.self)
      )
    }
    let (ours, theirs) = (
      UInt32(truncatingIfNeeded: probe.cpu.pointee.cr2), UInt32(truncatingIfNeeded: native.address)
    )
    return (ours, theirs) == (source, target) || (ours, theirs) == (target, source)
  }

  private func compare(_ test: InstructionCase, _ native: native_state, isRaised: Bool) {
    let cpu = probe.cpu
    let vector = isRaised ? cpu.pointee.exception : 0xFFFF
    var problems: [String] = []
    func hex(_ value: UInt64) -> String { String(value, radix: 16) }
    if vector == 6, native.vector != 6 {
      unknown[test.form.name, default: 0] += 1
      if unknown[test.form.name] == 1 { print("unknown:", describe(test)) }
      return
    }
    if test.form.name == "ldmxcsr", vector == 13, native.vector == 0xFFFF {
      // AMD's misaligned exception mask, which is not offered.
      let status = withUnsafeBytes(of: native.fx) { $0.load(fromByteOffset: 24, as: UInt32.self) }
      if status & 1 << 17 != 0 { return }
    }
    if test.form.name == "movsxd", vector == 0xFFFF, native.vector == 14,
      native.address & 0xFFF == 0, test.code.contains(0x66)
    {
      // With an operand size of 16 bits Intel's manual (MOVSXD r16, r/m16) has a source of 16 bits, as we have; AMD's has
      // one of 32, which reaches into the next page here.
      return
    }
    let branches =
      test.form.options.contains(.indirectBranch) || test.form.options.contains(.returns)
    if branches, vector == 0xFFFF, !isSlot(cpu.pointee.rip) {
      // The branch was done; what it led to is not asked.
      return
    }
    if vector != native.vector {
      problems.append(
        "vector \(hex(UInt64(vector))) not \(hex(UInt64(native.vector)))"
          + " (error \(hex(UInt64(native.error))) at \(hex(native.address)))")
    } else if vector != 0xFFFF {
      // Of the kernel's half a process cannot know whether a page is there. Which part of a long operand faults first is
      // the processor's affair.
      let isOpen = native.address >> 47 != 0 || test.form.isLong
      let ignored: UInt32 = vector == 14 && isOpen ? 1 : 0
      if [8, 10, 11, 12, 13, 14, 17].contains(vector),
        (cpu.pointee.exception_error ^ native.error) & ~ignored != 0
      {
        problems.append("error \(cpu.pointee.exception_error) not \(native.error)")
      }
      if vector == 14, cpu.pointee.cr2 != native.address, !test.form.isLong,
        !isOtherOperand(test, native)
      {
        problems.append("address \(hex(cpu.pointee.cr2)) not \(hex(native.address))")
      }
    }
    if !test.isUndefined {
      withUnsafeBytes(of: native.registers) { registers in
        for number in 0..<(test.is32Bit ? 8 : 16) {
          let expected = registers.load(fromByteOffset: number * 8, as: UInt64.self)
          let found = soft_registers(cpu)[number]
          if expected != found {
            problems.append("r\(number) \(hex(found)) not \(hex(expected))")
          }
        }
      }
      if memcmp(native_data(), probe.data, Self.dataSize) != 0 {
        for offset in stride(from: 0, to: Self.dataSize, by: 8) {
          let expected = UnsafeRawPointer(native_data() + offset).loadUnaligned(as: UInt64.self)
          let found = UnsafeRawPointer(probe.data + offset).loadUnaligned(as: UInt64.self)
          if expected != found {
            problems.append("memory \(hex(UInt64(offset))) \(hex(found)) not \(hex(expected))")
          }
        }
      }
    }
    if cpu.pointee.rip != native.rip {
      problems.append("rip \(hex(cpu.pointee.rip)) not \(hex(native.rip))")
    }
    let compared =
      UInt64((test.isUndefined || vector == 0 ? 0 : FlagBit.all) & ~test.undefined) | 0x400
    if (probe.flags ^ native.flags) & compared != 0 {
      problems.append("flags \(hex(probe.flags & compared)) not \(hex(native.flags & compared))")
    }
    if native.rip >> 12 == UInt64(NATIVE_CODE) >> 12, vector != native.vector {
      let bytes = UnsafePointer<UInt8>(bitPattern: UInt(native.rip) & ~15)!
      problems.append("there " + (0..<16).map { hex(UInt64(bytes[$0])) }.joined(separator: " "))
    }
    compareExtended(native, vector, &problems)
    compareUpper(&problems)
    guard !problems.isEmpty else { return }
    differences[test.form.name, default: 0] += 1
    if messages.count < Self.messageLimit, differences[test.form.name]! <= 2 {
      messages.append(describe(test) + ": " + problems.joined(separator: "; "))
    }
  }

  /// What XSAVE writes and hosts keep in different ways: the last instruction's opcode and addresses, and the mask of
  /// MXCSR's bits.
  private func forgetPointers(
    _ form: InstructionForm, _ native: UnsafeMutablePointer<UInt8>,
    _ soft: UnsafeMutablePointer<UInt8>
  ) {
    guard form.name.hasPrefix("xsave") else { return }
    for offset in Array(6..<24) + Array(28..<32) { native[offset] = soft[offset] }
  }

  private func compareUpper(_ problems: inout [String]) {
    guard native_has_avx() != 0 else { return }
    for number in 0..<16 {
      let found = soft_vector_register(probe.cpu, UInt32(number)) + 16
      let expected = native_upper()! + 16 * number
      guard memcmp(found, expected, 16) != 0 else { continue }
      func text(_ bytes: UnsafePointer<UInt8>) -> String {
        (0..<16).reversed().map { (bytes[$0] < 16 ? "0" : "") + String(bytes[$0], radix: 16) }
          .joined()
      }
      problems.append("upper \(number) \(text(found)) not \(text(expected))")
    }
  }

  private func isSlot(_ address: UInt64) -> Bool {
    let offset = address &- UInt64(NATIVE_CODE) &- UInt64(NATIVE_SLOT_START)
    return offset < UInt64(NATIVE_SLOT_COUNT) * UInt64(NATIVE_SLOT_SIZE)
      && offset % UInt64(NATIVE_SLOT_SIZE) == 0
  }

  private func compareExtended(
    _ native: native_state, _ vector: UInt32, _ problems: inout [String]
  ) {
    withUnsafeTemporaryAllocation(byteCount: 512, alignment: 16) { mine in
      probe.storeExtended(mine.baseAddress!.assumingMemoryBound(to: UInt8.self))
      withUnsafeBytes(of: native.fx) { theirs in
        if vector == 19 {
          // Beside the exceptions that are raised, whether the result would have been inexact or an operand of a later
          // step was denormal is not told alike by all processors.
          let ignored: UInt32 = 0x22
          let status = mine.load(fromByteOffset: 24, as: UInt32.self) & ~ignored
          mine.storeBytes(
            of: status | theirs.load(fromByteOffset: 24, as: UInt32.self) & ignored,
            toByteOffset: 24, as: UInt32.self)
        }
        // Control, status, tags; MXCSR; registers. Not the pointers, which hosts keep in different ways.
        for (start, count) in [(0, 5), (24, 4)] + (0..<8).map({ (32 + 16 * $0, 10) }) + [(160, 256)]
        {
          guard memcmp(mine.baseAddress! + start, theirs.baseAddress! + start, count) != 0 else {
            continue
          }
          let step = start == 160 ? 16 : count
          for offset in stride(from: start, to: start + count, by: step)
          where memcmp(mine.baseAddress! + offset, theirs.baseAddress! + offset, step) != 0 {
            func text(_ from: UnsafeRawPointer) -> String {
              (0..<step).reversed().map { index in
                let byte = from.load(fromByteOffset: offset + index, as: UInt8.self)
                return (byte < 16 ? "0" : "") + String(byte, radix: 16)
              }.joined()
            }
            problems.append(
              "fx[\(offset)] \(text(mine.baseAddress!)) not \(text(theirs.baseAddress!))")
          }
        }
      }
    }
  }

  private func describe(_ test: InstructionCase) -> String {
    let bytes = test.code.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(
      separator: " ")
    var text = "\(test.form.name) [\(bytes)]\(test.is32Bit ? " 32" : "")"
    if !test.form.options.contains(.vector), !test.form.options.contains(.x87) {
      withUnsafeBytes(of: test.state.registers) { registers in
        for number in 0..<8 {
          text +=
            " " + String(registers.load(fromByteOffset: number * 8, as: UInt64.self), radix: 16)
        }
      }
      text += " f" + String(test.state.flags, radix: 16)
    } else {
      withUnsafeBytes(of: test.state.fx) { fx in
        text += " cw \(String(fx.load(as: UInt16.self), radix: 16))"
        text += " sw \(String(fx.load(fromByteOffset: 2, as: UInt16.self), radix: 16))"
        text += " tags \(String(fx.load(fromByteOffset: 4, as: UInt8.self), radix: 16))"
        text += " mxcsr \(String(fx.load(fromByteOffset: 24, as: UInt32.self), radix: 16))"
      }
    }
    return text
  }
}
