// Registers of a processor's state as GDB's packets have them: little-endian bytes.

import Processor

/// The legacy area of XSAVE (Intel SDM 1, 10.5.1).
private enum LegacyArea {
  static let size = 512
  static let status = 2
  static let tags = 4
  static let opcode = 6
  static let instruction = 8
  static let operand = 16
  static let vectorControl = 24
  static let floating = 32
  static let vectors = 160
  /// Bit map of components that are not in their initial state.
  static let present = 512
}

/// IA32_KERNEL_GS_BASE.
private let kernelBaseRegister: UInt32 = 0xC000_0102

extension GDBRegister {
  /// nil: not known of this processor.
  func read(_ state: ProcessorState) -> [UInt8]? {
    switch place {
    case .general(let index): littleEndian(state.generalRegisters[index])
    case .instructionPointer: littleEndian(state.instructionPointer)
    case .flags: littleEndian(state.flags)
    case .selector(let index): littleEndian(UInt64(Self.segments(state)[index].selector))
    case .floating(let index): area(state, LegacyArea.floating + 16 * index)
    case .floatingControl(let index): floatingControl(state, index).map(littleEndian)
    case .vector(let index): area(state, LegacyArea.vectors + 16 * index)
    case .vectorControl: area(state, LegacyArea.vectorControl)
    case .base(0): littleEndian(state.extraSegmentF.base)
    case .base(1): littleEndian(state.extraSegmentG.base)
    case .base:
      state.modelSpecificRegisters.first { $0.index == kernelBaseRegister }
        .map { littleEndian($0.value) }
    case .control(let number): littleEndian(Self.control(state, number))
    case .extendedFeatures: littleEndian(state.extendedFeatures)
    case .table(0): littleEndian(state.globalDescriptors.base)
    case .table(1): littleEndian(state.interruptDescriptors.base)
    case .table: littleEndian(state.taskRegister.base)
    }
  }

  /// Only what a running guest could set by a move or a branch; what decides on modes and tables would have to fit
  /// together.
  ///
  /// - Returns: false where it cannot be set.
  func write(_ bytes: [UInt8], _ state: inout ProcessorState) -> Bool {
    guard bytes.count == byteCount else { return false }
    let value = bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    switch place {
    case .general(let index): state.generalRegisters[index] = value
    case .instructionPointer: state.instructionPointer = value
    case .flags:
      // CF to ID, without VM and the I/O privilege level's two bits.
      let mask: UInt64 = 0x3D_4FD5
      state.flags = state.flags & ~mask | value & mask | 2
    case .floating(let index): return setArea(&state, LegacyArea.floating + 16 * index, bytes, 1)
    case .vector(let index): return setArea(&state, LegacyArea.vectors + 16 * index, bytes, 2)
    case .vectorControl:
      guard value & ~0xFFFF == 0 else { return false }
      return setArea(&state, LegacyArea.vectorControl, bytes, 2)
    case .base(0): return setBase(value, &state.extraSegmentF)
    case .base(1): return setBase(value, &state.extraSegmentG)
    case .control(2): state.control2 = value
    case .control(3):
      // Reserved bits would be a fault.
      guard value >> 52 == 0 else { return false }
      state.control3 = value
    default: return read(state) == bytes
    }
    return true
  }

  private func setBase(_ value: UInt64, _ segment: inout SegmentRegister) -> Bool {
    guard value &+ 1 << 47 < 1 << 48 else { return false }
    segment.base = value
    return true
  }

  private func littleEndian(_ value: UInt64) -> [UInt8] {
    (0..<byteCount).map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) : 0 }
  }

  private static func segments(_ state: ProcessorState) -> [SegmentRegister] {
    [
      state.codeSegment, state.stackSegment, state.dataSegment, state.extraSegment,
      state.extraSegmentF, state.extraSegmentG,
    ]
  }

  private static func control(_ state: ProcessorState, _ number: Int) -> UInt64 {
    switch number {
    case 0: state.control0
    case 2: state.control2
    case 3: state.control3
    case 4: state.control4
    default: state.control8
    }
  }

  // MARK: The XSAVE area

  private func area(_ state: ProcessorState, _ offset: Int) -> [UInt8]? {
    guard state.extendedState.count >= LegacyArea.size else { return nil }
    return Array(state.extendedState[offset..<offset + byteCount])
  }

  private func setArea(
    _ state: inout ProcessorState, _ offset: Int, _ bytes: [UInt8], _ component: UInt8
  ) -> Bool {
    guard state.extendedState.count > LegacyArea.present else { return false }
    // Of another component nothing stands there that counts.
    guard state.extendedState[LegacyArea.present] & component != 0 else {
      return Array(state.extendedState[offset..<offset + bytes.count]) == bytes
    }
    state.extendedState.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    return true
  }

  /// FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP.
  private func floatingControl(_ state: ProcessorState, _ index: Int) -> UInt64? {
    guard state.extendedState.count >= LegacyArea.size else { return nil }
    func number(_ offset: Int, _ count: Int) -> UInt64 {
      state.extendedState[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    switch index {
    case 0: return number(0, 2)
    case 1: return number(LegacyArea.status, 2)
    case 2:
      // One bit a register there, two here: 3 is empty.
      let tags = number(LegacyArea.tags, 1)
      return (0..<8 as Range<UInt64>).reduce(0) {
        $0 | (tags >> $1 & 1 == 1 ? 0 : 3) << (2 * $1)
      }
    case 3: return number(LegacyArea.instruction + 4, 2)
    case 4: return number(LegacyArea.instruction, 4)
    case 5: return number(LegacyArea.operand + 4, 2)
    case 6: return number(LegacyArea.operand, 4)
    default: return number(LegacyArea.opcode, 2)
    }
  }
}
