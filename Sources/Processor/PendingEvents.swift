/// What a processor has accepted but not yet delivered, and what it holds back (as KVM_GET_VCPU_EVENTS tells it).
public struct PendingEvents: Codable, Sendable, Equatable {
  /// An exception on its way.
  public struct Exception: Codable, Sendable, Equatable {
    public var vector: VectorNumber
    public var errorCode: UInt32?
    /// Delivery has begun; otherwise it is only pending and an intercept may still see it.
    public var isInjected: Bool
    /// CR2 of a page fault or the DR6 bits of a debug exception, not yet written to the register.
    public var payload: UInt64?

    public init(
      vector: VectorNumber, errorCode: UInt32? = nil, isInjected: Bool, payload: UInt64? = nil
    ) {
      self.vector = vector
      self.errorCode = errorCode
      self.isInjected = isInjected
      self.payload = payload
    }
  }

  /// Instructions after which interrupts wait for one more instruction.
  public struct InterruptShadow: OptionSet, Codable, Sendable, Hashable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let moveToStackSegment = InterruptShadow(rawValue: 1)
    public static let setInterruptFlag = InterruptShadow(rawValue: 2)
  }

  public var exception: Exception?
  /// An external or software interrupt whose delivery has begun.
  public var interrupt: VectorNumber?
  /// The interrupt came from an INT instruction.
  public var interruptIsSoftware = false
  public var shadow: InterruptShadow = []
  public var nonMaskableIsInjected = false
  public var nonMaskableIsPending = false
  /// Between an NMI and its IRET.
  public var nonMaskableIsBlocked = false
  /// Of the last start-up interprocessor interrupt.
  public var startupVector: UInt32 = 0
  public var isInSystemManagement = false
  public var systemManagementIsPending = false
  public var systemManagementIsInsideNonMaskable = false
  /// An INIT that waits for the end of system management mode.
  public var initIsLatched = false
  public var tripleFaultIsPending = false

  public init() {}
}

/// Whether a processor executes, and if not, what it waits for.
public enum MultiprocessingState: String, Codable, Sendable {
  case runnable
  /// An application processor before its INIT.
  case uninitialized
  /// Waits for the start-up interprocessor interrupt.
  case initReceived
  case halted
  case startupReceived
}
