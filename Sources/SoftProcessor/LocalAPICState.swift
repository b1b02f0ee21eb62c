import CSoftProcessor

// The local APIC's part of a saved state: the page as KVM_GET_LAPIC gives it.
extension LocalAPIC {
  /// The page with the current count in it. While nothing delivers, or with what was delivered so far.
  package func save() -> [UInt8] {
    var bytes = [UInt8](UnsafeBufferPointer(start: page, count: Self.pageSize))
    Self.put(currentCount, at: Register.currentCount, in: &bytes)
    Self.put(processorPriority & 0xFF, at: Register.processorPriority, in: &bytes)
    // A word of ours.
    Self.put(0, at: Self.externalPending, in: &bytes)
    return bytes
  }

  /// Takes a page over. `cpu.apic_base` has been restored before.
  ///
  /// - Parameter deadline: IA32_TSC_DEADLINE of the saved state, 0 for none.
  /// - Returns: false when the page is not one.
  package func restore(_ bytes: [UInt8], deadline: UInt64) -> Bool {
    guard bytes.count == Self.pageSize else { return false }
    network.timers.cancel(self)
    for offset in stride(from: UInt32(0), to: UInt32(Self.pageSize), by: 16) {
      self[offset] = Self.get(at: offset, in: bytes)
    }
    self[Self.externalPending] = 0
    self[Register.version] = UInt32(0x5_0014)
    // Vectors below 16 are exceptions: a page that requests them is damaged.
    for base in [Register.requested, Register.inService, Register.triggerMode] {
      self[base] &= 0xFFFF_0000
    }
    updateIdentity()
    newErrors = 0
    updateInService()
    cpu.pointee.cr8 = UInt64(self[Register.taskPriority] >> 4 & 15)
    soft_set_tsc_deadline(cpu, 0)
    resumeTimer(deadline: deadline)
    soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT))
    return true
  }

  private static func put(_ value: UInt32, at offset: UInt32, in bytes: inout [UInt8]) {
    for index in 0..<4 {
      bytes[Int(offset) + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
    }
  }

  private static func get(at offset: UInt32, in bytes: [UInt8]) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[Int(offset) + $1]) << UInt32(8 * $1) }
  }
}

/// The local APIC's page for `ProcessorState.localAPIC`.
func saveLocalAPIC(_ cpu: CPU) -> [UInt8] { cpu.withAPIC { $0.save() } ?? [] }

/// From `ProcessorState.localAPIC`, after IA32_APIC_BASE.
func restoreLocalAPIC(_ cpu: CPU, _ bytes: [UInt8], deadline: UInt64) -> Bool {
  cpu.withAPIC { $0.restore(bytes, deadline: deadline) } ?? bytes.isEmpty
}
