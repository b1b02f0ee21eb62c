import CSoftProcessor

// From messages to request bits, and from these to the processor.
extension LocalAPIC {
  // MARK: Any thread

  /// Takes a message that is meant for this processor.
  ///
  /// - Returns: false when the vector was requested already, or nobody listens.
  package func accept(mode: UInt32, vector: UInt32, isLevel: Bool) -> Bool {
    switch mode {
    case Mode.fixed, Mode.lowestPriority: return request(vector, isLevel: isLevel)
    case Mode.nonMaskable: soft_post(cpu, UInt32(SOFT_EVENT_NMI))
    case Mode.initialize: soft_post(cpu, UInt32(SOFT_EVENT_INIT))
    case Mode.startup:
      soft_set_startup_vector(cpu, vector & 0xFF)
      soft_post(cpu, UInt32(SOFT_EVENT_STARTUP))
    case Mode.external:
      self[Self.externalPending] = 1
      soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT))
    default: return false
    }
    return true
  }

  /// Sets a request bit. Vectors below 16 are illegal (SDM 3A, 11.5.2).
  func request(_ vector: UInt32, isLevel: Bool) -> Bool {
    let vector = vector & 0xFF
    guard vector >= 16, isEnabled, isSoftwareEnabled else { return false }
    let word = (vector >> 5) << 4
    let bit = UInt32(1) << (vector & 31)
    if isLevel {
      _ = soft_apic_set(page, Register.triggerMode &+ word, bit)
    } else if soft_apic_load(page, Register.triggerMode &+ word) & bit != 0 {
      _ = soft_apic_clear(page, Register.triggerMode &+ word, bit)
    }
    let old = soft_apic_set(page, Register.requested &+ word, bit)
    guard old & bit == 0 else { return false }
    soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT))
    return true
  }

  /// Sends the interrupt of a local vector table entry, unless it is masked.
  package func deliverLocal(_ entry: UInt32) {
    let value = self[entry]
    guard value & LocalVector.masked == 0, isEnabled else { return }
    // Timer and error are always fixed: their mode bits are reserved.
    let mode =
      entry == Register.timer || entry == Register.error ? Mode.fixed : LocalVector.mode(value)
    _ = accept(mode: mode, vector: value & 0xFF, isLevel: false)
  }

  // MARK: The processor's own thread

  @inline(__always)
  private func highest(_ base: UInt32) -> Int32 {
    var index: UInt32 = 8
    while index > 0 {
      index &-= 1
      let word = soft_apic_load(page, base &+ index &<< 4)
      if word != 0 {
        return Int32(truncatingIfNeeded: index &* 32 &+ 31) &- Int32(word.leadingZeroBitCount)
      }
    }
    return -1
  }

  /// PPR: the higher class of task priority and interrupt in service (SDM 3A, 11.8.3.1).
  var processorPriority: UInt32 {
    let task = self[Register.taskPriority] & 0xFF
    let service = highestInService < 0 ? 0 : UInt32(truncatingIfNeeded: highestInService) & 0xF0
    return task & 0xF0 >= service ? task : service
  }

  /// The vector of the highest request that the priorities let through, or -1.
  package func deliverable() -> Int32 {
    guard isEnabled, isSoftwareEnabled else { return -1 }
    let vector = highest(Register.requested)
    guard vector >= 0, UInt32(vector) & 0xF0 > processorPriority & 0xF0 else { return -1 }
    return vector
  }

  /// Whether an 8259A's interrupt reaches the processor.
  var acceptsExternal: Bool {
    let line = self[Register.localInput0]
    return !isEnabled || (line & LocalVector.masked == 0 && LocalVector.mode(line) == Mode.external)
  }

  /// Whether the processor would get an interrupt now if it took one.
  package func hasInterrupt() -> Bool {
    if network.isExternalRequested && acceptsExternal && cpu.pointee.index == 0 { return true }
    return deliverable() >= 0 || self[Self.externalPending] != 0
  }

  /// The processor takes an interrupt: from request to service. -1: there is none after all.
  package func acknowledge() -> Int32 {
    let isPending = self[Self.externalPending] != 0
    let isWired = network.isExternalRequested && acceptsExternal && cpu.pointee.index == 0
    if isPending || isWired {
      self[Self.externalPending] = 0
      if let vector = network.acknowledgeExternal(isWired: isWired) { return Int32(vector) }
    }
    let vector = deliverable()
    guard vector >= 0 else { return -1 }
    let number = UInt32(truncatingIfNeeded: vector)
    let word = (number >> 5) << 4
    let bit = UInt32(1) << (number & 31)
    _ = soft_apic_clear(page, Register.requested &+ word, bit)
    _ = soft_apic_set(page, Register.inService &+ word, bit)
    highestInService = vector
    return vector
  }

  /// EOI: ends the highest interrupt in service and tells the I/O APIC.
  package func endInterrupt() {
    guard highestInService >= 0 else { return }
    let number = UInt32(truncatingIfNeeded: highestInService)
    let word = (number >> 5) << 4
    let bit = UInt32(1) << (number & 31)
    _ = soft_apic_clear(page, Register.inService &+ word, bit)
    highestInService = highest(Register.inService)
    let isLevel = soft_apic_load(page, Register.triggerMode &+ word) & bit != 0
    // Edges are told too, but for the own timer's: the I/O APIC makes up for ticks that became one.
    if isLevel || number != self[Register.timer] & 0xFF {
      network.endOfInterrupt?(UInt8(truncatingIfNeeded: number))
    }
    // What was held back by it may be next.
    if deliverable() >= 0 { soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT)) }
  }

  /// TPR by its register or CR8: lowering it may let a request through.
  package func setTaskPriority(_ value: UInt32) {
    self[Register.taskPriority] = value & 0xFF
    if deliverable() >= 0 { soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT)) }
  }

  /// Notes an error and sends the error entry's interrupt once for each new one.
  func report(error: UInt32) {
    guard newErrors & error == 0 else { return }
    newErrors |= error
    deliverLocal(Register.error)
  }

  func updateInService() { highestInService = highest(Register.inService) }
}
