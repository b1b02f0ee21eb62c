import CLinux
import GuestMemory
import Processor

// kvm_run to ProcessorExit. Nothing here allocates.
extension VirtualProcessor {
  /// The exit that the kernel has left in the shared page.
  func decodeExit() -> ProcessorExit {
    hasFailedEmulation = false
    switch Int32(bitPattern: shared.pointee.exit_reason) {
    case KVM_EXIT_IO:
      needsCompletion = true
      return portExit()
    case KVM_EXIT_MMIO:
      needsCompletion = true
      return memoryExit()
    case KVM_EXIT_X86_RDMSR:
      needsCompletion = true
      return .registerRead(
        index: linux_kvm_msr_index(shared), data: linux_kvm_msr_data(shared),
        failed: linux_kvm_msr_error(shared))
    case KVM_EXIT_X86_WRMSR:
      needsCompletion = true
      return .registerWrite(
        index: linux_kvm_msr_index(shared), value: linux_kvm_msr_data(shared).pointee,
        failed: linux_kvm_msr_error(shared))
    default:
      needsCompletion = false
      return plainExit()
    }
  }

  private func plainExit() -> ProcessorExit {
    let reason = shared.pointee.exit_reason
    switch Int32(bitPattern: reason) {
    case KVM_EXIT_HLT: return .halted
    case KVM_EXIT_SHUTDOWN: return .shutdown
    case KVM_EXIT_INTR: return .interrupted
    case KVM_EXIT_IRQ_WINDOW_OPEN: return .interruptWindow
    case KVM_EXIT_IOAPIC_EOI:
      return .endOfInterrupt(vector: VectorNumber(linux_kvm_eoi_vector(shared)))
    case KVM_EXIT_SYSTEM_EVENT: return .systemEvent(SystemEvent(linux_kvm_system_event(shared)))
    case KVM_EXIT_DEBUG: return .debug
    case KVM_EXIT_FAIL_ENTRY:
      return .failure(
        ProcessorFailure(reason: .entry(hardwareReason: linux_kvm_entry_failure(shared))))
    case KVM_EXIT_INTERNAL_ERROR: return .failure(internalFailure())
    default: return .failure(ProcessorFailure(reason: .other(code: reason)))
    }
  }

  private func portExit() -> ProcessorExit {
    let data = UnsafeMutableRawPointer(shared) + Int(linux_kvm_io_offset(shared))
    let port = linux_kvm_io_port(shared)
    let count = Int(linux_kvm_io_count(shared))
    guard let width = AccessWidth(rawValue: linux_kvm_io_size(shared)) else {
      return .failure(ProcessorFailure(reason: .other(code: UInt32(KVM_EXIT_IO))))
    }
    return linux_kvm_io_direction(shared) == UInt8(KVM_EXIT_IO_IN)
      ? .portRead(port: port, width: width, count: count, data: data)
      : .portWrite(port: port, width: width, count: count, data: data)
  }

  private func memoryExit() -> ProcessorExit {
    let address = GuestAddress(linux_kvm_mmio_address(shared))
    let count = Int(min(8, linux_kvm_mmio_length(shared)))
    guard let bytes = linux_kvm_mmio_data(shared) else {
      return .failure(ProcessorFailure(reason: .other(code: UInt32(KVM_EXIT_MMIO))))
    }
    return linux_kvm_mmio_is_write(shared) == 0
      ? .memoryRead(address: address, count: count, data: bytes)
      : .memoryWrite(address: address, count: count, data: bytes)
  }

  private func internalFailure() -> ProcessorFailure {
    let suberror = linux_kvm_internal_suberror(shared)
    guard suberror == UInt32(KVM_INTERNAL_ERROR_EMULATION) else {
      return ProcessorFailure(reason: .other(code: suberror))
    }
    hasFailedEmulation = true
    var failure = ProcessorFailure(reason: .emulation)
    // Linux 5.14 and later tell the bytes: flags, then size and bytes, three words in all.
    let hasBytes =
      linux_kvm_internal_count(shared) >= 3 && linux_kvm_emulation_flags(shared) & 1 != 0
    if hasBytes, let bytes = linux_kvm_emulation_bytes(shared) {
      failure.byteCount = min(15, Int(linux_kvm_emulation_size(shared)))
      for position in 0..<failure.byteCount { failure.bytes[position] = bytes[position] }
    }
    return failure
  }
}

extension SystemEvent {
  init(_ type: UInt32) {
    switch Int32(bitPattern: type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN: self = .shutdown
    case KVM_SYSTEM_EVENT_RESET: self = .reset
    case KVM_SYSTEM_EVENT_CRASH: self = .crash
    default: self = .other(type)
    }
  }
}
