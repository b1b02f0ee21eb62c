import CLinux
import Platform
import Processor

// The whole state of a processor. Each direction has its own order: see the comments.
extension VirtualProcessor {
  public func saveState() throws(ProcessorError) -> ProcessorState {
    guard try completeExit() == nil else {
      throw ProcessorError(
        "processor \(index) is in the middle of an instruction: serve the exit of completeExit() before saving"
      )
    }
    do {
      return try readState()
    } catch {
      throw error.asProcessorError
    }
  }

  public func restoreState(_ state: ProcessorState) throws(ProcessorError) {
    guard state.isWellFormed else {
      throw ProcessorError(
        "processor \(index): the saved state is damaged (a part has a wrong size)")
    }
    do {
      // What an exit left half done belongs to the old state. An access across two pages comes in parts.
      for _ in 0..<16 where needsCompletion { _ = try? completeExit() }
      needsCompletion = false
      hasFailedEmulation = false
      try writeState(state)
    } catch {
      throw error.asProcessorError
    }
  }

  /// Back to the state of power-on, with the registers that the kernel gave this processor then. The time stamp
  /// counter runs on.
  public func reset() throws(ProcessorError) {
    try restoreState(powerOnState ?? .powerOn(isBootProcessor: index == 0))
  }

  /// Keeps the present state for `reset`.
  ///
  /// - Parameter signature: family, model and stepping, which a processor starts with in RDX.
  func rememberPowerOnState(signature: UInt32) throws(KVMError) {
    var state = try readState()
    state[.rdx] = UInt64(signature)
    state.timeStampKilohertz = nil
    state.nestedState = []
    state.modelSpecificRegisters.removeAll { Self.isTimeRegister($0.index) }
    powerOnState = state
  }

  /// Multiprocessing state first, because reading it makes the kernel accept what the local APIC has pending (INIT,
  /// SIPI); events last, because all other reads may turn a pending exception into registers.
  private func readState() throws(KVMError) -> ProcessorState {
    var state = ProcessorState()
    state.multiprocessing = try readMultiprocessingState()
    try readGeneralRegisters(into: &state)
    try readSystemRegisters(into: &state)
    state.extendedState = try readExtendedState()
    state.extendedControls = try readExtendedControls()
    try readDebugRegisters(into: &state)
    if machine.hasLocalAPIC { state.localAPIC = try readLocalAPIC() }
    state.timeStampKilohertz = timeStampKilohertz
    state.modelSpecificRegisters = try readSaveableRegisters()
    state.nestedState = try readNestedState()
    var events = try readEvents()
    // The kernel has queued #UD for an instruction that it cannot emulate. The state is the one before that
    // instruction, so that somebody else can execute it.
    let invalidOpcode = VectorNumber(6)
    if hasFailedEmulation, events.exception?.vector == invalidOpcode { events.exception = nil }
    state.events = events
    return state
  }

  /// Segments and control registers before the local APIC, whose base they carry; model specific registers after the
  /// local APIC, because the timer's deadline needs its mode; events last.
  private func writeState(_ state: ProcessorState) throws(KVMError) {
    if machine.hasLocalAPIC || state.multiprocessing == .runnable {
      try writeMultiprocessingState(state.multiprocessing)
    }
    try writeGeneralRegisters(state)
    try writeSystemRegisters(state)
    if !state.extendedState.isEmpty { try writeExtendedState(state.extendedState) }
    if !state.extendedControls.isEmpty { try writeExtendedControls(state.extendedControls) }
    try writeDebugRegisters(state)
    if machine.hasLocalAPIC, !state.localAPIC.isEmpty { try writeLocalAPIC(state.localAPIC) }
    if let frequency = state.timeStampKilohertz { try setTimeStampKilohertz(frequency) }
    let refused = try writeRegisters(state.modelSpecificRegisters)
    if let first = refused.first(where: { $0.value != 0 }) {
      throw .invalidRequest(
        "this host refuses model specific register 0x\(String(first.index, radix: 16)) = 0x\(String(first.value, radix: 16)) of the saved state: it was saved on another kind of processor"
      )
    }
    if !state.nestedState.isEmpty { try writeNestedState(state.nestedState) }
    try writeEvents(state.events ?? PendingEvents())
  }

  // MARK: Parts

  func readMultiprocessingState() throws(KVMError) -> MultiprocessingState {
    var value = kvm_mp_state()
    try request(rawDescriptor, "KVM_GET_MP_STATE", kvm_request_get_mp_state(), filling: &value)
    switch Int32(bitPattern: value.mp_state) {
    case KVM_MP_STATE_UNINITIALIZED: return .uninitialized
    case KVM_MP_STATE_INIT_RECEIVED: return .initReceived
    case KVM_MP_STATE_HALTED: return .halted
    case KVM_MP_STATE_SIPI_RECEIVED: return .startupReceived
    default: return .runnable
    }
  }

  func writeMultiprocessingState(_ state: MultiprocessingState) throws(KVMError) {
    let number: Int32 =
      switch state {
      case .runnable: KVM_MP_STATE_RUNNABLE
      case .uninitialized: KVM_MP_STATE_UNINITIALIZED
      case .initReceived: KVM_MP_STATE_INIT_RECEIVED
      case .halted: KVM_MP_STATE_HALTED
      case .startupReceived: KVM_MP_STATE_SIPI_RECEIVED
      }
    try request(
      rawDescriptor, "KVM_SET_MP_STATE", kvm_request_set_mp_state(),
      reading: kvm_mp_state(mp_state: UInt32(number)))
  }

  func readExtendedState() throws(KVMError) -> [UInt8] {
    let size = machine.extendedStateSize
    let buffer = FlexibleBuffer<UInt8>(headerSize: 0, capacity: size)
    if size > 4096 {
      try request(rawDescriptor, "KVM_GET_XSAVE2", kvm_request_get_xsave2(), buffer.base)
    } else {
      try request(rawDescriptor, "KVM_GET_XSAVE", kvm_request_get_xsave(), buffer.base)
    }
    return [UInt8](UnsafeRawBufferPointer(start: buffer.base, count: size))
  }

  func writeExtendedState(_ bytes: [UInt8]) throws(KVMError) {
    let size = machine.extendedStateSize
    // The bytes of components that this host does not have must be unused: the kernel checks the header.
    let buffer = FlexibleBuffer<UInt8>(headerSize: 0, capacity: max(size, bytes.count))
    buffer.base.copyMemory(from: bytes, byteCount: bytes.count)
    try request(rawDescriptor, "KVM_SET_XSAVE", kvm_request_set_xsave(), buffer.base)
  }

  func readExtendedControls() throws(KVMError) -> [IndexedRegister] {
    guard machine.hasExtendedControls else { return [] }
    var value = kvm_xcrs()
    try request(rawDescriptor, "KVM_GET_XCRS", kvm_request_get_xcrs(), filling: &value)
    return withUnsafeBytes(of: value.xcrs) { bytes in
      bytes.bindMemory(to: kvm_xcr.self).prefix(Int(value.nr_xcrs)).map {
        IndexedRegister(index: $0.xcr, value: $0.value)
      }
    }
  }

  func writeExtendedControls(_ registers: [IndexedRegister]) throws(KVMError) {
    guard machine.hasExtendedControls else { return }
    var value = kvm_xcrs()
    value.nr_xcrs = UInt32(registers.count)
    withUnsafeMutableBytes(of: &value.xcrs) { bytes in
      let entries = bytes.bindMemory(to: kvm_xcr.self)
      for (position, register) in registers.enumerated() where position < entries.count {
        entries[position] = kvm_xcr(xcr: register.index, reserved: 0, value: register.value)
      }
    }
    try request(rawDescriptor, "KVM_SET_XCRS", kvm_request_set_xcrs(), reading: value)
  }

  private func readLocalAPIC() throws(KVMError) -> [UInt8] {
    var value = kvm_lapic_state()
    try request(rawDescriptor, "KVM_GET_LAPIC", kvm_request_get_lapic(), filling: &value)
    return withUnsafeBytes(of: value) { [UInt8]($0) }
  }

  private func writeLocalAPIC(_ bytes: [UInt8]) throws(KVMError) {
    var value = kvm_lapic_state()
    withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes.prefix(1024)) }
    try request(rawDescriptor, "KVM_SET_LAPIC", kvm_request_set_lapic(), reading: value)
  }

  private func readNestedState() throws(KVMError) -> [UInt8] {
    let size = machine.nestedStateSize
    guard size >= 128 else { return [] }
    let buffer = FlexibleBuffer<UInt8>(headerSize: 0, capacity: size)
    // flags, format (16 bits each), then the size of the buffer.
    buffer.base.storeBytes(of: UInt32(size), toByteOffset: 4, as: UInt32.self)
    try request(
      rawDescriptor, "KVM_GET_NESTED_STATE", kvm_request_get_nested_state(), buffer.base)
    let used = Int(buffer.base.load(fromByteOffset: 4, as: UInt32.self))
    // A guest that is no hypervisor has nothing there, and can go on where nothing is known of such.
    guard Self.isHypervisor(buffer.base) else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: buffer.base, count: min(size, used)))
  }

  /// By struct kvm_nested_state: VMX operation has an address, of SVM only guest mode makes a difference.
  private static func isHypervisor(_ state: UnsafeMutableRawPointer) -> Bool {
    let flags = state.load(as: UInt16.self)
    let isVMX = state.load(fromByteOffset: 2, as: UInt16.self) == 0
    let isInGuestMode = flags & 3 != 0
    guard isVMX else { return isInGuestMode }
    return isInGuestMode || state.load(fromByteOffset: 8, as: UInt64.self) != .max
  }

  private func writeNestedState(_ bytes: [UInt8]) throws(KVMError) {
    guard machine.nestedStateSize >= 128, bytes.count >= 128 else { return }
    let buffer = FlexibleBuffer<UInt8>(headerSize: 0, capacity: bytes.count)
    buffer.base.copyMemory(from: bytes, byteCount: bytes.count)
    // The size comes from a file: never let the kernel read beyond our buffer.
    buffer.base.storeBytes(of: UInt32(bytes.count), toByteOffset: 4, as: UInt32.self)
    try request(
      rawDescriptor, "KVM_SET_NESTED_STATE", kvm_request_set_nested_state(), buffer.base)
  }

  // MARK: Time

  /// The guest's time stamp frequency; nil where the kernel does not know it.
  public var timeStampKilohertz: UInt32? {
    let value = linux_ioctl(rawDescriptor, kvm_request_get_tsc_khz(), 0)
    return value > 0 ? UInt32(value) : nil
  }

  /// Only differs from the host's where the processor can scale (KVM_CAP_TSC_CONTROL).
  public func setTimeStampKilohertz(_ frequency: UInt32) throws(KVMError) {
    let present = timeStampKilohertz
    guard frequency != present else { return }
    do {
      try request(rawDescriptor, "KVM_SET_TSC_KHZ", kvm_request_set_tsc_khz(), UInt(frequency))
    } catch {
      guard case .system(let system) = error, system.code == EINVAL else { throw error }
      throw .invalidRequest(
        "the guest's time stamp counter runs at \(frequency) kHz and this host, with \(present ?? 0) kHz, cannot scale it"
      )
    }
  }

  /// Tells a guest with the KVM clock that it was stopped, so that its watchdogs stay quiet. Before it runs on.
  public func notifyPaused() {
    // EINVAL: the guest does not use that clock.
    _ = linux_ioctl(rawDescriptor, kvm_request_kvmclock_ctrl(), 0)
  }
}
