import CLinux
import Processor

// KVM_GET_VCPU_EVENTS and back.
extension VirtualProcessor {
  func readEvents() throws(KVMError) -> PendingEvents {
    var value = kvm_vcpu_events()
    try request(
      rawDescriptor, "KVM_GET_VCPU_EVENTS", kvm_request_get_vcpu_events(), filling: &value)
    var events = PendingEvents()
    if value.exception.injected != 0 || value.exception.pending != 0 {
      events.exception = PendingEvents.Exception(
        vector: VectorNumber(value.exception.nr),
        errorCode: value.exception.has_error_code != 0 ? value.exception.error_code : nil,
        isInjected: value.exception.injected != 0,
        payload: value.exception_has_payload != 0 ? value.exception_payload : nil)
    }
    if value.interrupt.injected != 0 { events.interrupt = VectorNumber(value.interrupt.nr) }
    events.interruptIsSoftware = value.interrupt.soft != 0
    events.shadow = PendingEvents.InterruptShadow(rawValue: value.interrupt.shadow)
    events.nonMaskableIsInjected = value.nmi.injected != 0
    events.nonMaskableIsPending = value.nmi.pending != 0
    events.nonMaskableIsBlocked = value.nmi.masked != 0
    events.startupVector = value.sipi_vector
    events.isInSystemManagement = value.smi.smm != 0
    events.systemManagementIsPending = value.smi.pending != 0
    events.systemManagementIsInsideNonMaskable = value.smi.smm_inside_nmi != 0
    events.initIsLatched = value.smi.latched_init != 0
    events.tripleFaultIsPending = value.triple_fault.pending != 0
    return events
  }

  func writeEvents(_ events: PendingEvents) throws(KVMError) {
    var value = kvm_vcpu_events()
    var flags =
      KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR
      | KVM_VCPUEVENT_VALID_SHADOW
    if let exception = events.exception {
      value.exception.injected = exception.isInjected ? 1 : 0
      value.exception.nr = exception.vector.rawValue
      value.exception.has_error_code = exception.errorCode == nil ? 0 : 1
      value.exception.error_code = exception.errorCode ?? 0
      // Without the payload capability the kernel knows only exceptions whose delivery has begun.
      if machine.hasExceptionPayload {
        flags |= KVM_VCPUEVENT_VALID_PAYLOAD
        value.exception.pending = exception.isInjected ? 0 : 1
        value.exception_has_payload = exception.payload == nil ? 0 : 1
        value.exception_payload = exception.payload ?? 0
      } else {
        value.exception.injected = 1
      }
    }
    value.interrupt.injected = events.interrupt == nil ? 0 : 1
    value.interrupt.nr = events.interrupt?.rawValue ?? 0
    value.interrupt.soft = events.interruptIsSoftware ? 1 : 0
    value.interrupt.shadow = events.shadow.rawValue
    value.nmi.injected = events.nonMaskableIsInjected ? 1 : 0
    value.nmi.pending = events.nonMaskableIsPending ? 1 : 0
    value.nmi.masked = events.nonMaskableIsBlocked ? 1 : 0
    value.sipi_vector = events.startupVector
    if machine.hasSystemManagement {
      flags |= KVM_VCPUEVENT_VALID_SMM
      value.smi.smm = events.isInSystemManagement ? 1 : 0
      value.smi.pending = events.systemManagementIsPending ? 1 : 0
      value.smi.smm_inside_nmi = events.systemManagementIsInsideNonMaskable ? 1 : 0
      value.smi.latched_init = events.initIsLatched ? 1 : 0
    }
    if machine.hasTripleFaultEvent {
      flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT
      value.triple_fault.pending = events.tripleFaultIsPending ? 1 : 0
    }
    value.flags = UInt32(flags)
    try request(
      rawDescriptor, "KVM_SET_VCPU_EVENTS", kvm_request_set_vcpu_events(), reading: value)
  }
}
