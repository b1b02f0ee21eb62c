import CSoftProcessor

/// The local interrupt controller of one processor: xAPIC and x2APIC (Intel SDM 3A, chapter 11; AMD APM 2, chapter 16).
///
/// The registers live in a page as software sees it, which is also the form in which states are saved. IRR and TMR are
/// set by any thread with atomic operations, the rest by the processor's own thread; others read identity, LDR, DFR and
/// TPR to find out who is meant by a message. The order of a delivery is: trigger mode, request bit, event; the
/// processor takes the event first and looks at the request bits after that, so it cannot miss one.
package final class LocalAPIC: @unchecked Sendable {
  // @unchecked: `page` is shared as said above; `cpu` and `network` are set once, before the threads start; what
  // belongs to the processor's thread is marked.

  /// Byte offsets in the page.
  package enum Register {
    static let identity: UInt32 = 0x20
    static let version: UInt32 = 0x30
    static let taskPriority: UInt32 = 0x80
    static let arbitrationPriority: UInt32 = 0x90
    static let processorPriority: UInt32 = 0xA0
    static let endOfInterrupt: UInt32 = 0xB0
    static let remoteRead: UInt32 = 0xC0
    static let logicalDestination: UInt32 = 0xD0
    static let destinationFormat: UInt32 = 0xE0
    static let spurious: UInt32 = 0xF0
    static let inService: UInt32 = 0x100
    static let triggerMode: UInt32 = 0x180
    static let requested: UInt32 = 0x200
    static let errorStatus: UInt32 = 0x280
    static let commandLow: UInt32 = 0x300
    static let commandHigh: UInt32 = 0x310
    static let timer: UInt32 = 0x320
    static let thermal: UInt32 = 0x330
    static let performance: UInt32 = 0x340
    static let localInput0: UInt32 = 0x350
    static let localInput1: UInt32 = 0x360
    static let error: UInt32 = 0x370
    static let initialCount: UInt32 = 0x380
    static let currentCount: UInt32 = 0x390
    static let divide: UInt32 = 0x3E0
    static let selfInterrupt: UInt32 = 0x3F0
    /// LVT entries: timer, thermal, performance, LINT0, LINT1, error.
    static let localVectors: ClosedRange<UInt32> = timer...error
  }

  enum LocalVector {
    static let masked: UInt32 = 1 << 16
    static let level: UInt32 = 1 << 15
    static let remoteIRR: UInt32 = 1 << 14
    static let pending: UInt32 = 1 << 12
    static func mode(_ entry: UInt32) -> UInt32 { entry >> 8 & 7 }
  }

  /// Delivery modes of messages and LVT entries.
  package enum Mode {
    static let fixed: UInt32 = 0
    static let lowestPriority: UInt32 = 1
    static let systemManagement: UInt32 = 2
    static let nonMaskable: UInt32 = 4
    static let initialize: UInt32 = 5
    static let startup: UInt32 = 6
    static let external: UInt32 = 7
  }

  /// Bits of the error status register.
  enum ErrorBits {
    static let sendIllegalVector: UInt32 = 1 << 5
    static let receivedIllegalVector: UInt32 = 1 << 6
    static let illegalRegister: UInt32 = 1 << 7
  }

  /// Bits of IA32_APIC_BASE.
  package enum Base {
    package static let boot: UInt64 = 1 << 8
    package static let extended: UInt64 = 1 << 10
    package static let enabled: UInt64 = 1 << 11
    package static let address: UInt64 = 0x000F_FFFF_FFFF_F000
    package static let initial: UInt64 = 0xFEE0_0000
  }

  package static let pageSize = 1024
  static let softwareEnabled: UInt32 = 1 << 8
  /// Version 0x14 with six LVT entries.
  private static let versionValue: UInt32 = 0x5_0014

  let page: UnsafeMutablePointer<UInt8>
  package let identity: UInt32
  nonisolated(unsafe) let cpu: UnsafeMutablePointer<soft_cpu>
  unowned let network: LocalAPICNetwork
  /// An 8259A's interrupt that came as a message (ExtINT). Atomic, in a word beyond the page's registers.
  static let externalPending: UInt32 = Register.selfInterrupt

  // Of the processor's own thread.
  /// Errors since ESR was last written.
  var newErrors: UInt32 = 0
  /// The highest vector in service, -1 for none.
  var highestInService: Int32 = -1

  /// - Parameters:
  ///   - identity: the APIC number that CPUID tells too.
  ///   - cpu: takes the events; outlives this object.
  init(identity: UInt32, cpu: UnsafeMutablePointer<soft_cpu>, network: LocalAPICNetwork) {
    self.identity = identity
    self.cpu = cpu
    self.network = network
    page = .allocate(capacity: Self.pageSize)
    page.initialize(repeating: 0, count: Self.pageSize)
    cpu.pointee.apic_base =
      Base.initial | Base.enabled | (identity == network.bootIdentity ? Base.boot : 0)
    reset()
  }

  deinit { page.deallocate() }

  @inline(__always)
  subscript(_ offset: UInt32) -> UInt32 {
    get { soft_apic_load(page, offset) }
    set { soft_apic_store(page, offset, newValue) }
  }

  // MARK: Modes

  @inline(__always) var isExtended: Bool { cpu.pointee.apic_base & Base.extended != 0 }
  @inline(__always) var isEnabled: Bool { cpu.pointee.apic_base & Base.enabled != 0 }
  @inline(__always) var isSoftwareEnabled: Bool {
    self[Register.spurious] & Self.softwareEnabled != 0
  }

  /// State after power-on and after INIT (SDM 3A, 11.4.7). The timer stops.
  package func reset() {
    network.timers.cancel(self)
    for offset in stride(from: UInt32(0), to: UInt32(Self.pageSize), by: 16) { self[offset] = 0 }
    self[Register.version] = Self.versionValue
    self[Register.destinationFormat] = .max
    self[Register.spurious] = 0xFF
    for entry in stride(from: Register.timer, through: Register.error, by: 16) {
      self[entry] = LocalVector.masked
    }
    // What firmware leaves behind, and what guests that are loaded without firmware count on: the 8259As' interrupts
    // come through LINT0 of the boot processor (virtual wire mode, MultiProcessor Specification 3.6.2.2).
    if cpu.pointee.apic_base & Base.boot != 0 { self[Register.localInput0] = Mode.external << 8 }
    newErrors = 0
    highestInService = -1
    soft_set_tsc_deadline(cpu, 0)
    updateIdentity()
  }

  /// Puts identity and LDR into the form of the mode.
  func updateIdentity() {
    if isExtended {
      self[Register.identity] = identity
      self[Register.logicalDestination] = (identity >> 4) << 16 | 1 << (identity & 15)
    } else {
      self[Register.identity] = identity << 24
    }
  }

  /// WRMSR of IA32_APIC_BASE. False: the change is not allowed (#GP), see SDM 3A, figure 11-27.
  package func setBase(_ value: UInt64) -> Bool {
    let reserved = ~(Base.boot | Base.extended | Base.enabled | Base.address)
    guard value & reserved == 0 else { return false }
    let mode = (value & Base.enabled != 0, value & Base.extended != 0)
    let old = (isEnabled, isExtended)
    switch (old, mode) {
    case (_, (false, true)), ((true, true), (true, false)), ((false, _), (true, true)):
      return false
    default: break
    }
    cpu.pointee.apic_base = value & ~Base.boot | cpu.pointee.apic_base & Base.boot
    guard mode != old else { return true }
    if mode.0 && !mode.1 || !mode.0 {
      // Switched off or on again: registers lose their values.
      reset()
    } else {
      updateIdentity()
    }
    return true
  }
}
