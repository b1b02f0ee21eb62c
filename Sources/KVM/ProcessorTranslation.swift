import CLinux
import GuestMemory
import Processor

extension VirtualProcessor {
  /// Where a linear address is in guest-physical memory, as the guest's paging has it now (KVM_TRANSLATE); nil where
  /// nothing is mapped. Between exits only.
  public func translate(_ linearAddress: UInt64) throws(KVMError) -> GuestAddress? {
    var translation = kvm_translation()
    translation.linear_address = linearAddress
    try request(
      rawDescriptor, "KVM_TRANSLATE", kvm_request_translate(), filling: &translation)
    return translation.valid != 0 ? GuestAddress(translation.physical_address) : nil
  }
}
