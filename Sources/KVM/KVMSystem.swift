import CLinux
import Platform
import Processor

/// An open /dev/kvm: what this host's kernel can do, and the maker of virtual machines
/// (Documentation/virt/kvm/api.rst).
public final class KVMSystem: Sendable {
  private let descriptor: FileDescriptor
  /// Bytes of the page (and more) that each virtual processor shares with the kernel.
  let processorMappingSize: Int
  /// The sum of what the processor has and KVM can show to a guest: the input of `CPUIDPolicy`.
  public let supportedLeaves: [CPUIDLeaf]

  public static let defaultPath = "/dev/kvm"

  /// - Throws: `KVMError`: no device, no permission, or a kernel that is too old.
  public init(path: String = KVMSystem.defaultPath) throws(KVMError) {
    do {
      descriptor = try FileDescriptor.open(path, O_RDWR)
    } catch {
      switch error.code {
      case ENOENT, ENODEV, ENXIO: throw .notAvailable(path: path)
      case EACCES, EPERM: throw .permissionDenied(path: path)
      case EBUSY: throw .busy
      default: throw .system(error)
      }
    }
    let number = descriptor.rawValue
    let version = linux_ioctl(number, kvm_request_get_api_version(), 0)
    guard version == KVM_API_VERSION else {
      throw .unsupportedInterface(path: path, version: version)
    }
    for (capability, name) in Self.required {
      guard linux_ioctl(number, kvm_request_check_extension(), UInt(capability)) > 0 else {
        throw .missingCapability(name)
      }
    }
    processorMappingSize = Int(
      try request(number, "KVM_GET_VCPU_MMAP_SIZE", kvm_request_get_vcpu_mmap_size()))
    supportedLeaves = try Self.readSupportedLeaves(number)
  }

  var rawDescriptor: Int32 { descriptor.rawValue }

  /// What everything here builds on; Linux 5.10 has all of it.
  private static let required: [(Int32, String)] = [
    (KVM_CAP_USER_MEMORY, "user memory slots"),
    (KVM_CAP_SET_TSS_ADDR, "TSS address"),
    (KVM_CAP_SET_IDENTITY_MAP_ADDR, "identity map address"),
    (KVM_CAP_EXT_CPUID, "CPUID"),
    (KVM_CAP_MP_STATE, "processor states"),
    (KVM_CAP_VCPU_EVENTS, "processor events"),
    (KVM_CAP_DEBUGREGS, "debug registers"),
    (KVM_CAP_XSAVE, "XSAVE"),
    (KVM_CAP_IMMEDIATE_EXIT, "immediate exit"),
    (KVM_CAP_IRQCHIP, "interrupt chips"),
  ]

  /// KVM_CHECK_EXTENSION: 0 where missing, a positive number with the capability's own meaning otherwise.
  public func capability(_ number: Int32) -> Int {
    Int(max(0, linux_ioctl(descriptor.rawValue, kvm_request_check_extension(), UInt(number))))
  }

  /// The largest number of virtual processors of one machine.
  public var maximumProcessorCount: Int {
    let limit = capability(KVM_CAP_MAX_VCPUS)
    return limit > 0 ? limit : max(4, capability(KVM_CAP_NR_VCPUS))
  }

  /// A new, empty virtual machine.
  ///
  /// - Throws: `KVMError.busy` when another hypervisor holds the hardware.
  public func makeVirtualMachine() throws(KVMError) -> VirtualMachine {
    let number: Int32
    do {
      number = try request(descriptor.rawValue, "KVM_CREATE_VM", kvm_request_create_vm())
    } catch {
      if case .system(let system) = error, system.code == EBUSY { throw .busy }
      throw error
    }
    return try VirtualMachine(system: self, owning: FileDescriptor(owning: number))
  }

  private static func readSupportedLeaves(_ number: Int32) throws(KVMError) -> [CPUIDLeaf] {
    var capacity = 128
    while true {
      let buffer = FlexibleBuffer<kvm_cpuid_entry2>(headerSize: 8, capacity: capacity)
      buffer.count = capacity
      do {
        try request(
          number, "KVM_GET_SUPPORTED_CPUID", kvm_request_get_supported_cpuid(), buffer.base)
      } catch {
        guard case .system(let system) = error, system.code == E2BIG, capacity < 4096 else {
          throw error
        }
        capacity *= 2
        continue
      }
      return (0..<min(buffer.count, capacity)).map { CPUIDLeaf(buffer[$0]) }
    }
  }
}

extension CPUIDLeaf {
  init(_ entry: kvm_cpuid_entry2) {
    let hasIndex = entry.flags & UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0
    self.init(
      function: entry.function, index: hasIndex ? entry.index : nil, eax: entry.eax,
      ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx)
  }

  var kernelEntry: kvm_cpuid_entry2 {
    var entry = kvm_cpuid_entry2()
    entry.function = function
    entry.index = index
    entry.flags = hasIndex ? UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX) : 0
    entry.eax = eax
    entry.ebx = ebx
    entry.ecx = ecx
    entry.edx = edx
    return entry
  }
}
