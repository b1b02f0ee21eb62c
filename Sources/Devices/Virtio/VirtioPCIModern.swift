// The modern face: structures in a memory BAR (Virtual I/O Device 1.2, 4.1.4.3 to 4.1.4.6).

import Synchronization

extension VirtioPCITransport {
  func readModern(at offset: UInt64, width: AccessWidth) -> UInt64 {
    switch offset & ~(VirtioModernLayout.structureSize - 1) {
    case VirtioModernLayout.common: return readCommon(at: offset, width: width)
    case VirtioModernLayout.interruptStatus:
      return offset == VirtioModernLayout.interruptStatus
        ? UInt64(link.takeInterruptStatus()) : 0
    case VirtioModernLayout.configuration:
      return device.readConfiguration(
        at: offset - VirtioModernLayout.configuration, width: width)
    default: return 0
    }
  }

  func writeModern(at offset: UInt64, width: AccessWidth, value: UInt64) {
    switch offset & ~(VirtioModernLayout.structureSize - 1) {
    case VirtioModernLayout.common:
      guard width == .quadword else { return writeCommon(at: offset, width: width, value: value) }
      writeCommon(at: offset, width: .doubleword, value: value & 0xFFFF_FFFF)
      writeCommon(at: offset + 4, width: .doubleword, value: value >> 32)
    case VirtioModernLayout.configuration:
      device.writeConfiguration(
        at: offset - VirtioModernLayout.configuration, width: width, value: value)
    default: break
    }
  }

  /// Any width at any offset, cut out of aligned double words.
  private func readCommon(at offset: UInt64, width: AccessWidth) -> UInt64 {
    guarded.withLock { state in
      let low = UInt64(commonWord(at: offset & ~3, state.registers))
      let high = UInt64(commonWord(at: (offset & ~3) + 4, state.registers))
      let shift = 8 * (offset & 3)
      let value = (low | high << 32) >> shift
      return value & width.mask
    }
  }

  private func commonWord(at offset: UInt64, _ registers: VirtioPCIRegisters) -> UInt32 {
    let queue = registers.selected.map { registers.queues[$0] }
    switch offset {
    case VirtioCommonRegister.deviceFeatureSelect: return registers.deviceFeatureSelect
    case VirtioCommonRegister.deviceFeatures:
      return Self.half(offered, registers.deviceFeatureSelect)
    case VirtioCommonRegister.driverFeatureSelect: return registers.driverFeatureSelect
    case VirtioCommonRegister.driverFeatures:
      return Self.half(registers.driverFeatures, registers.driverFeatureSelect)
    case VirtioCommonRegister.configurationVector:
      return UInt32(link.configurationVector) | UInt32(queueSizes.count) << 16
    case VirtioCommonRegister.status:
      return UInt32(status(registers)) | UInt32(link.generation) << 8
        | UInt32(registers.queueSelect) << 16
    case VirtioCommonRegister.queueSize:
      return UInt32(queue?.size ?? 0)
        | UInt32(link.vector(ofQueue: Int(registers.queueSelect))) << 16
    case VirtioCommonRegister.queueEnable:
      // The notify offset of a queue is its number.
      return (queue?.isEnabled == true ? 1 : 0) | UInt32(queue == nil ? 0 : registers.queueSelect)
        << 16
    case VirtioCommonRegister.queueDescriptors: return Self.low(queue?.descriptors)
    case VirtioCommonRegister.queueDescriptors + 4: return Self.high(queue?.descriptors)
    case VirtioCommonRegister.queueAvailable: return Self.low(queue?.available)
    case VirtioCommonRegister.queueAvailable + 4: return Self.high(queue?.available)
    case VirtioCommonRegister.queueUsed: return Self.low(queue?.used)
    case VirtioCommonRegister.queueUsed + 4: return Self.high(queue?.used)
    default: return 0
    }
  }

  private func writeCommon(at offset: UInt64, width: AccessWidth, value: UInt64) {
    let word = UInt32(truncatingIfNeeded: value)
    let short = UInt16(truncatingIfNeeded: value)
    guarded.withLock { state in
      switch offset {
      case VirtioCommonRegister.deviceFeatureSelect: state.registers.deviceFeatureSelect = word
      case VirtioCommonRegister.driverFeatureSelect: state.registers.driverFeatureSelect = word
      case VirtioCommonRegister.driverFeatures: setDriverFeatures(word, &state)
      case VirtioCommonRegister.configurationVector: link.configurationVector = short
      case VirtioCommonRegister.status:
        setStatus(UInt8(truncatingIfNeeded: value), isLegacy: false, &state)
      case VirtioCommonRegister.queueSelect: state.registers.queueSelect = short
      case VirtioCommonRegister.queueVector:
        link.setVector(short, ofQueue: Int(state.registers.queueSelect))
      default: writeQueue(at: offset, word, &state)
      }
    }
  }

  private func setDriverFeatures(_ word: UInt32, _ state: inout Guarded) {
    let frozen = VirtioStatus.featuresReady | VirtioStatus.driverReady
    guard state.registers.status & frozen == 0 else { return }
    let select = state.registers.driverFeatureSelect
    guard select < 2 else { return }
    let shift = UInt64(select) * 32
    let old = state.registers.driverFeatures.rawValue
    state.registers.driverFeatures = VirtioFeatures(
      rawValue: old & ~(0xFFFF_FFFF << shift) | UInt64(word) << shift)
  }

  /// Registers of the selected queue, which are frozen once it is enabled or the driver is ready.
  private func writeQueue(at offset: UInt64, _ word: UInt32, _ state: inout Guarded) {
    guard let index = state.registers.selected, state.registers.isOpen,
      !state.registers.queues[index].isEnabled
    else { return }
    var queue = state.registers.queues[index]
    switch offset {
    case VirtioCommonRegister.queueSize: queue.size = UInt16(truncatingIfNeeded: word)
    case VirtioCommonRegister.queueEnable: queue.isEnabled = word & 0xFFFF == 1
    case VirtioCommonRegister.queueDescriptors: Self.setLow(word, of: &queue.descriptors)
    case VirtioCommonRegister.queueDescriptors + 4: Self.setHigh(word, of: &queue.descriptors)
    case VirtioCommonRegister.queueAvailable: Self.setLow(word, of: &queue.available)
    case VirtioCommonRegister.queueAvailable + 4: Self.setHigh(word, of: &queue.available)
    case VirtioCommonRegister.queueUsed: Self.setLow(word, of: &queue.used)
    case VirtioCommonRegister.queueUsed + 4: Self.setHigh(word, of: &queue.used)
    default: return
    }
    state.registers.queues[index] = queue
  }

  private static func half(_ features: VirtioFeatures, _ select: UInt32) -> UInt32 {
    select < 2 ? UInt32(truncatingIfNeeded: features.rawValue >> (UInt64(select) * 32)) : 0
  }
  private static func low(_ value: UInt64?) -> UInt32 { UInt32(truncatingIfNeeded: value ?? 0) }
  private static func high(_ value: UInt64?) -> UInt32 {
    UInt32(truncatingIfNeeded: (value ?? 0) >> 32)
  }
  private static func setLow(_ word: UInt32, of value: inout UInt64) {
    value = value & ~0xFFFF_FFFF | UInt64(word)
  }
  private static func setHigh(_ word: UInt32, of value: inout UInt64) {
    value = value & 0xFFFF_FFFF | UInt64(word) << 32
  }
}
