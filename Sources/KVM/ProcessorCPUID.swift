import CLinux
import Processor

extension VirtualProcessor {
  /// Sets what CPUID answers (KVM_SET_CPUID2). Before the first run and before any MSR is read or written: newer
  /// kernels hide the registers that CPUID does not announce. The state at this time is what `reset` goes back to.
  public func setLeaves(_ leaves: [CPUIDLeaf]) throws(KVMError) {
    guard leaves.count <= 256 else {
      throw .invalidRequest("\(leaves.count) CPUID leaves are more than the kernel takes")
    }
    let buffer = FlexibleBuffer<kvm_cpuid_entry2>(headerSize: 8, capacity: max(1, leaves.count))
    buffer.count = leaves.count
    for (position, leaf) in leaves.enumerated() { buffer[position] = leaf.kernelEntry }
    try request(rawDescriptor, "KVM_SET_CPUID2", kvm_request_set_cpuid2(), buffer.base)
    try rememberPowerOnState(signature: leaves.first { $0.function == 1 }?.eax ?? 0)
  }

  /// What CPUID answers now.
  public func leaves() throws(KVMError) -> [CPUIDLeaf] {
    let buffer = FlexibleBuffer<kvm_cpuid_entry2>(headerSize: 8, capacity: 256)
    buffer.count = buffer.capacity
    try request(rawDescriptor, "KVM_GET_CPUID2", kvm_request_get_cpuid2(), buffer.base)
    return (0..<min(buffer.count, buffer.capacity)).map { CPUIDLeaf(buffer[$0]) }
  }
}
