import CLinux
import GuestMemory
import Platform
import Processor
import Synchronization

/// One virtual machine of the kernel's: guest-physical memory, interrupt chips and the processors' maker.
///
/// All methods may be called from any thread. The order that the kernel wants: memory, interrupt chips, processors.
public final class VirtualMachine: Sendable {
  /// Three pages below 4 GiB that processors without unrestricted guest mode need for real mode. Reserve in E820.
  public static let taskStateAddress = GuestAddress(0xFEFF_D000)
  public static let taskStateSize: UInt64 = 3 * 4096
  /// One page for the same purpose: an identity-mapping page table. Reserve in E820.
  public static let identityMapAddress = GuestAddress(0xFEFF_C000)
  public static let identityMapSize: UInt64 = 4096

  let system: KVMSystem
  // What this kernel can save and restore, asked once.
  let hasSystemRegisters2: Bool
  let hasExtendedControls: Bool
  let hasExceptionPayload: Bool
  let hasTripleFaultEvent: Bool
  let hasSystemManagement: Bool
  let extendedStateSize: Int
  let nestedStateSize: Int
  private let chips = Mutex(Chips())
  private let descriptor: FileDescriptor
  private let slots = Mutex<[UInt32: Slot]>([:])
  let routing = Mutex(InterruptRouting())
  let saveableRegisters = Mutex<[UInt32]?>(nil)

  private struct Chips {
    var hasLocalAPIC = false
    var areInKernel = false
    var timerIsInKernel = false
    /// What `resetChips` goes back to.
    var powerOnState: InterruptChipState?
  }

  /// What the kernel was told about a slot, and whoever must outlive it.
  private struct Slot {
    var size: UInt64
    var owner: (any AnyObject & Sendable)?
  }

  init(system: KVMSystem, owning descriptor: consuming FileDescriptor) throws(KVMError) {
    self.system = system
    let number = descriptor.rawValue
    self.descriptor = descriptor
    func supported(_ capability: Int32) -> Int {
      Int(max(0, linux_ioctl(number, kvm_request_check_extension(), UInt(capability))))
    }
    hasSystemRegisters2 = supported(KVM_CAP_SREGS2) > 0
    hasExtendedControls = supported(KVM_CAP_XCRS) > 0
    hasTripleFaultEvent = supported(KVM_CAP_X86_TRIPLE_FAULT_EVENT) > 0
    hasSystemManagement = supported(KVM_CAP_X86_SMM) > 0
    hasExceptionPayload = supported(KVM_CAP_EXCEPTION_PAYLOAD) > 0
    extendedStateSize = max(4096, supported(KVM_CAP_XSAVE2))
    nestedStateSize = supported(KVM_CAP_NESTED_STATE)
    if hasTripleFaultEvent {
      try enable(KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, named: "triple fault events")
    }
    if hasExceptionPayload {
      try enable(KVM_CAP_EXCEPTION_PAYLOAD, 1, named: "exception payloads")
    }
    try request(
      number, "KVM_SET_IDENTITY_MAP_ADDR", kvm_request_set_identity_map_addr(),
      reading: Self.identityMapAddress.rawValue)
    try request(
      number, "KVM_SET_TSS_ADDR", kvm_request_set_tss_addr(), UInt(Self.taskStateAddress.rawValue))
  }

  var rawDescriptor: Int32 { descriptor.rawValue }

  /// As `KVMSystem.capability`, for those that depend on the machine.
  public func capability(_ number: Int32) -> Int {
    Int(max(0, linux_ioctl(descriptor.rawValue, kvm_request_check_extension(), UInt(number))))
  }

  /// KVM_ENABLE_CAP.
  func enable(
    _ capability: Int32, _ first: UInt64 = 0, _ second: UInt64 = 0, named name: String
  ) throws(KVMError) {
    var argument = kvm_enable_cap()
    argument.cap = UInt32(capability)
    argument.args.0 = first
    argument.args.1 = second
    do {
      try request(
        descriptor.rawValue, "KVM_ENABLE_CAP", kvm_request_enable_cap(), reading: argument)
    } catch {
      guard case .system(let system) = error, system.code == EINVAL || system.code == ENOTTY else {
        throw error
      }
      throw .missingCapability(name)
    }
  }

  /// Whether local APICs are the kernel's (full or split chip).
  var hasLocalAPIC: Bool { chips.withLock { $0.hasLocalAPIC } }
  var chipsAreInKernel: Bool { chips.withLock { $0.areInKernel } }
  var timerIsInKernel: Bool { chips.withLock { $0.timerIsInKernel } }

  /// The chips as they were when they were created.
  var powerOnChips: InterruptChipState? { chips.withLock { $0.powerOnState } }

  func noteChips(areInKernel: Bool, timerIsInKernel: Bool) throws(KVMError) {
    chips.withLock {
      $0 = Chips(
        hasLocalAPIC: true, areInKernel: areInKernel, timerIsInKernel: timerIsInKernel)
    }
    let state = try saveChips()
    chips.withLock { $0.powerOnState = state }
  }

  // MARK: Memory

  /// Shows memory of this process to the guest, or changes the flags or the address of a slot.
  ///
  /// - Parameters:
  ///   - size: bytes, a multiple of 4 KiB. An existing slot keeps its size.
  ///   - host: page-aligned; must stay mapped as long as the slot, see `owner`.
  ///   - readOnly: guest writes come out as `ProcessorExit.memoryWrite`.
  ///   - logDirty: keeps a bitmap of written pages for `readDirtyLog`.
  ///   - owner: kept alive until the slot is removed.
  public func setMemory(
    slot: UInt32, guestAddress: GuestAddress, size: UInt64, host: UnsafeMutableRawPointer,
    readOnly: Bool = false, logDirty: Bool = false, owner: (any AnyObject & Sendable)? = nil
  ) throws(KVMError) {
    guard size > 0, (size | guestAddress.rawValue | UInt64(UInt(bitPattern: host))) % 4096 == 0,
      guestAddress.advanced(by: size) != nil
    else {
      throw .invalidRequest(
        "memory slot \(slot) at \(guestAddress), \(size) bytes, is not made of whole pages")
    }
    var region = kvm_userspace_memory_region()
    region.slot = slot
    region.flags =
      (readOnly ? UInt32(LINUX_KVM_MEMORY_READ_ONLY) : 0)
      | (logDirty ? UInt32(LINUX_KVM_MEMORY_LOG_DIRTY) : 0)
    region.guest_phys_addr = guestAddress.rawValue
    region.memory_size = size
    region.userspace_addr = UInt64(UInt(bitPattern: host))
    try request(
      descriptor.rawValue, "KVM_SET_USER_MEMORY_REGION", kvm_request_set_user_memory_region(),
      reading: region)
    slots.withLock { $0[slot] = Slot(size: size, owner: owner) }
  }

  /// Shows the whole of a guest's RAM, one slot a region.
  ///
  /// - Parameter hole: addresses that are left out, for a device.
  /// - Returns: the first slot number that is still free.
  @discardableResult
  public func setMemory(
    _ memory: GuestMemory, hole: Range<UInt64>? = nil, firstSlot: UInt32 = 0,
    logDirty: Bool = false
  ) throws(KVMError) -> UInt32 {
    var slot = firstSlot
    for region in memory.regions(without: hole) {
      try setMemory(
        slot: slot, guestAddress: region.base, size: region.size, host: region.host,
        logDirty: logDirty, owner: memory)
      slot += 1
    }
    return slot
  }

  /// Takes a slot away; what stood there is no memory any more. Does nothing for an unused slot.
  public func removeMemory(slot: UInt32) throws(KVMError) {
    guard slots.withLock({ $0[slot] != nil }) else { return }
    var region = kvm_userspace_memory_region()
    region.slot = slot
    try request(
      descriptor.rawValue, "KVM_SET_USER_MEMORY_REGION", kvm_request_set_user_memory_region(),
      reading: region)
    slots.withLock { $0[slot] = nil }
  }

  /// Reads and clears which 4 KiB pages of a slot the guest has written: bit n of word n/64 is page n.
  ///
  /// What devices of this process wrote is not in it.
  public func readDirtyLog(slot: UInt32) throws(KVMError) -> [UInt64] {
    guard let size = slots.withLock({ $0[slot]?.size }) else {
      throw .invalidRequest("memory slot \(slot) is not in use")
    }
    var bitmap = [UInt64](repeating: 0, count: Int((size / 4096 + 63) / 64))
    var log = kvm_dirty_log()
    log.slot = slot
    let result = bitmap.withUnsafeMutableBytes { bytes in
      log.dirty_bitmap = bytes.baseAddress
      let code = linux_ioctl_pointer(descriptor.rawValue, kvm_request_get_dirty_log(), &log)
      return code == 0 ? 0 : linux_error_number()
    }
    guard result == 0 else {
      throw .system(
        PlatformError(operation: "KVM_GET_DIRTY_LOG", code: result, subject: "slot \(slot)"))
    }
    return bitmap
  }

  // MARK: Processors

  /// A new virtual processor.
  ///
  /// - Parameters:
  ///   - index: 0 for the boot processor.
  ///   - apicNumber: the number of its local APIC, from `ProcessorTopology`; by default the index.
  public func makeProcessor(
    index: Int, apicNumber: UInt32? = nil
  ) throws(KVMError) -> VirtualProcessor {
    let identifier = apicNumber ?? UInt32(clamping: index)
    let number: Int32
    do {
      number = try request(
        descriptor.rawValue, "KVM_CREATE_VCPU", kvm_request_create_vcpu(), UInt(identifier))
    } catch {
      guard case .system(let system) = error, system.code == EINVAL || system.code == EEXIST else {
        throw error
      }
      throw .invalidRequest(
        "processor \(index) cannot be made (\(system.reason)): this host allows \(self.system.maximumProcessorCount) processors with different numbers"
      )
    }
    return try VirtualProcessor(
      machine: self, index: index, owning: FileDescriptor(owning: number))
  }
}
