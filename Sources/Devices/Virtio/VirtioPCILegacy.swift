// The legacy face: registers in ports (Virtual I/O Device 1.2, 4.1.4.10).

import Synchronization

extension VirtioPCITransport {
  func readLegacy(at offset: UInt64, width: AccessWidth) -> UInt64 {
    if let field = legacyConfigurationOffset(offset) {
      return device.readConfiguration(at: field, width: width)
    }
    if offset == VirtioLegacyRegister.interruptStatus { return UInt64(link.takeInterruptStatus()) }
    return guarded.withLock { state in
      let registers = state.registers
      switch offset {
      case VirtioLegacyRegister.deviceFeatures: return offered.rawValue & 0xFFFF_FFFF
      case VirtioLegacyRegister.driverFeatures:
        return registers.driverFeatures.rawValue & 0xFFFF_FFFF
      case VirtioLegacyRegister.queuePage:
        return registers.selected.map { UInt64(registers.queues[$0].page) } ?? 0
      case VirtioLegacyRegister.queueSize:
        return registers.selected.map { UInt64(queueSizes[$0]) } ?? 0
      case VirtioLegacyRegister.queueSelect: return UInt64(registers.queueSelect)
      case VirtioLegacyRegister.status: return UInt64(status(registers))
      case VirtioLegacyRegister.configurationVector: return UInt64(link.configurationVector)
      case VirtioLegacyRegister.queueVector:
        return UInt64(link.vector(ofQueue: Int(registers.queueSelect)))
      default: return 0
      }
    }
  }

  func writeLegacy(at offset: UInt64, width: AccessWidth, value: UInt64) {
    if let field = legacyConfigurationOffset(offset) {
      return device.writeConfiguration(at: field, width: width, value: value)
    }
    guarded.withLock { state in
      switch offset {
      case VirtioLegacyRegister.driverFeatures where state.registers.isOpen:
        // What was not offered, or is beyond 32 bits, is not taken.
        state.registers.driverFeatures = VirtioFeatures(
          rawValue: value & 0xFFFF_FFFF & offered.rawValue)
      case VirtioLegacyRegister.queuePage:
        setLegacyPage(UInt32(truncatingIfNeeded: value), &state)
      case VirtioLegacyRegister.queueSelect:
        state.registers.queueSelect = UInt16(truncatingIfNeeded: value)
      case VirtioLegacyRegister.status:
        setStatus(UInt8(truncatingIfNeeded: value), isLegacy: true, &state)
      case VirtioLegacyRegister.configurationVector:
        link.configurationVector = UInt16(truncatingIfNeeded: value)
      case VirtioLegacyRegister.queueVector:
        link.setVector(
          UInt16(truncatingIfNeeded: value), ofQueue: Int(state.registers.queueSelect))
      default: break
      }
    }
  }

  private func setLegacyPage(_ page: UInt32, _ state: inout Guarded) {
    guard let index = state.registers.selected else { return }
    guard state.registers.isOpen else {
      // A driver that takes a queue away while the device runs is about to use the memory for something else.
      if page == 0 { resetDevice(&state) }
      return
    }
    state.registers.queues[index].size = queueSizes[index]
    state.registers.queues[index].page = page
    state.registers.queues[index].isEnabled = page != 0
  }

  private func legacyConfigurationOffset(_ offset: UInt64) -> UInt64? {
    guard offset >= VirtioLegacyRegister.configurationVector else { return nil }
    guard vectors.isEnabled else { return offset - VirtioLegacyRegister.configurationVector }
    return offset >= VirtioLegacyRegister.configuration
      ? offset - VirtioLegacyRegister.configuration : nil
  }
}
