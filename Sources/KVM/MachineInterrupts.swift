import CLinux
import GuestMemory
import Platform
import Synchronization

// Interrupt chips, lines and messages of a virtual machine.
extension VirtualMachine {
  /// Puts PICs, I/O APIC, local APICs and (if wanted) the PIT into the kernel, with a PC's routes. Before processors.
  ///
  /// - Parameter timer: with the PIT the kernel also answers port 0x61.
  public func createInterruptChips(timer: Bool = true) throws(KVMError) {
    try request(rawDescriptor, "KVM_CREATE_IRQCHIP", kvm_request_create_irqchip())
    if timer {
      var configuration = kvm_pit_config()
      configuration.flags = UInt32(KVM_PIT_SPEAKER_DUMMY)
      try request(
        rawDescriptor, "KVM_CREATE_PIT2", kvm_request_create_pit2(), reading: configuration)
    }
    try updateRouting { $0.setLegacyRoutes() }
    try noteChips(areInKernel: true, timerIsInKernel: timer)
  }

  /// Puts only the local APICs into the kernel; PICs, I/O APIC and PIT are the caller's. Before processors.
  ///
  /// The I/O APIC's pins are numbers 0 to 23: give each its message with `setMessage`, so that the kernel reports
  /// the end of level-triggered interrupts as `ProcessorExit.endOfInterrupt`.
  public func createLocalInterruptChips(pinCount: Int = 24) throws(KVMError) {
    try enable(
      KVM_CAP_SPLIT_IRQCHIP, UInt64(clamping: pinCount), named: "split interrupt chip")
    try noteChips(areInKernel: false, timerIsInKernel: false)
  }

  /// Cuts the kernel's 8254 off its interrupt, where an event timer stands in for it; or connects it again.
  public func setTimerReplaced(_ isReplaced: Bool) throws(KVMError) {
    var state = kvm_pit_state2()
    try request(rawDescriptor, "KVM_GET_PIT2", kvm_request_get_pit2(), filling: &state)
    let flag = UInt32(KVM_PIT_FLAGS_HPET_LEGACY)
    state.flags = isReplaced ? state.flags | flag : state.flags & ~flag
    try request(rawDescriptor, "KVM_SET_PIT2", kvm_request_set_pit2(), reading: state)
  }

  /// Sets the level of an input of the kernel's chips: an ISA IRQ or an I/O APIC pin. Not for a split chip.
  public func setLine(_ number: UInt32, asserted: Bool) throws(KVMError) {
    var level = kvm_irq_level()
    level.irq = number
    level.level = asserted ? 1 : 0
    try request(rawDescriptor, "KVM_IRQ_LINE", kvm_request_irq_line(), reading: level)
  }

  /// Delivers a message-signalled interrupt.
  ///
  /// - Returns: false when the guest's local APIC does not take it.
  @discardableResult
  public func signalMessage(address: UInt64, data: UInt32) throws(KVMError) -> Bool {
    var message = kvm_msi()
    message.address_lo = UInt32(truncatingIfNeeded: address)
    message.address_hi = UInt32(truncatingIfNeeded: address >> 32)
    message.data = data
    return try request(rawDescriptor, "KVM_SIGNAL_MSI", kvm_request_signal_msi(), reading: message)
      > 0
  }

  // MARK: Routes

  /// Reserves an interrupt number (from 24) for a message, to be used with `attachInterrupt`.
  public func allocateMessageNumber() throws(KVMError) -> UInt32 {
    guard let number = routing.withLock({ $0.allocate() }) else {
      throw .invalidRequest("all \(InterruptRouting.limit) interrupt numbers are in use")
    }
    return number
  }

  /// Sets what a reserved number, or a split chip's pin, delivers.
  public func setMessage(_ number: UInt32, address: UInt64, data: UInt32) throws(KVMError) {
    try updateMessage(number, to: .message(address: address, data: data))
  }

  /// Masks a number: its irqfd has no effect until the next `setMessage`.
  public func clearMessage(_ number: UInt32) throws(KVMError) {
    try updateMessage(number, to: nil)
  }

  /// Gives a number back.
  public func releaseMessageNumber(_ number: UInt32) throws(KVMError) {
    try updateRouting { $0.release(number) }
  }

  private func updateMessage(
    _ number: UInt32, to target: InterruptRouting.Target?
  ) throws(KVMError) {
    var isReserved = false
    try updateRouting { isReserved = $0.set(number, to: target) }
    if !isReserved { throw .invalidRequest("interrupt number \(number) is not reserved") }
  }

  /// Changes the table and hands all of it to the kernel, as one step.
  private func updateRouting(_ change: (inout InterruptRouting) -> Void) throws(KVMError) {
    let number = rawDescriptor
    let failure = routing.withLock { routing -> PlatformError? in
      change(&routing)
      let table = routing.kernelTable()
      guard
        linux_ioctl_pointer(number, kvm_request_set_gsi_routing(), table.base) == 0
      else {
        return PlatformError(operation: "KVM_SET_GSI_ROUTING", code: linux_error_number())
      }
      return nil
    }
    if let failure { throw .system(failure) }
  }

  // MARK: Event descriptors

  /// Lets an eventfd raise an interrupt number without this process (KVM_IRQFD).
  ///
  /// - Parameter resample: for level-triggered lines: signalled at the guest's end of interrupt; the line is lowered
  ///   then, and the device raises it again if it still wants service.
  public func attachInterrupt(
    _ number: UInt32, to notifier: EventNotifier, resample: EventNotifier? = nil
  ) throws(KVMError) {
    guard number < InterruptRouting.limit else {
      throw .invalidRequest("there is no interrupt number \(number)")
    }
    var argument = kvm_irqfd()
    argument.fd = UInt32(bitPattern: notifier.rawDescriptor)
    argument.gsi = number
    if let resample {
      argument.flags = UInt32(LINUX_KVM_IRQFD_RESAMPLE)
      argument.resamplefd = UInt32(bitPattern: resample.rawDescriptor)
    }
    try request(rawDescriptor, "KVM_IRQFD", kvm_request_irqfd(), reading: argument)
  }

  public func detachInterrupt(_ number: UInt32, from notifier: EventNotifier) throws(KVMError) {
    var argument = kvm_irqfd()
    argument.fd = UInt32(bitPattern: notifier.rawDescriptor)
    argument.gsi = number
    argument.flags = UInt32(LINUX_KVM_IRQFD_DEASSIGN)
    try request(rawDescriptor, "KVM_IRQFD", kvm_request_irqfd(), reading: argument)
  }

  /// A guest write that only signals an eventfd (KVM_IOEVENTFD): a queue's doorbell.
  public struct Doorbell: Sendable, Hashable {
    public enum Place: Sendable, Hashable {
      case port(UInt16)
      case memory(GuestAddress)
    }
    public var place: Place
    /// Bytes of the write: 1, 2, 4 or 8; 0 for any length (then without `value`).
    public var length: UInt32
    /// Only writes of this value.
    public var value: UInt64?

    public init(_ place: Place, length: UInt32, value: UInt64? = nil) {
      self.place = place
      self.length = length
      self.value = value
    }

    func argument(_ notifier: EventNotifier) -> kvm_ioeventfd {
      var argument = kvm_ioeventfd()
      argument.fd = notifier.rawDescriptor
      argument.len = length
      switch place {
      case .port(let port):
        argument.addr = UInt64(port)
        argument.flags = UInt32(LINUX_KVM_IOEVENTFD_PORT)
      case .memory(let address): argument.addr = address.rawValue
      }
      if let value {
        argument.datamatch = value
        argument.flags |= UInt32(LINUX_KVM_IOEVENTFD_MATCH)
      }
      return argument
    }
  }

  public func attachDoorbell(
    _ doorbell: Doorbell, to notifier: EventNotifier
  ) throws(KVMError) {
    guard [0, 1, 2, 4, 8].contains(doorbell.length), doorbell.length > 0 || doorbell.value == nil
    else {
      throw .invalidRequest("a doorbell of \(doorbell.length) bytes")
    }
    try request(
      rawDescriptor, "KVM_IOEVENTFD", kvm_request_ioeventfd(), reading: doorbell.argument(notifier))
  }

  public func detachDoorbell(
    _ doorbell: Doorbell, from notifier: EventNotifier
  ) throws(KVMError) {
    var argument = doorbell.argument(notifier)
    argument.flags |= UInt32(LINUX_KVM_IOEVENTFD_DEASSIGN)
    try request(rawDescriptor, "KVM_IOEVENTFD", kvm_request_ioeventfd(), reading: argument)
  }
}
