/// Everything architectural of one processor, as a value that can be stored and moved between kinds of processor.
///
/// The initial value is that of a boot processor after reset (Intel SDM 3A, table 9-1). Parts that are empty or nil
/// are unknown to whoever made the value; restoring such a state leaves them as they are.
public struct ProcessorState: Codable, Sendable, Equatable {
  /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15, in the encoding's order.
  public var generalRegisters: [UInt64] = Array(repeating: 0, count: 16)
  public var instructionPointer: UInt64 = 0xFFF0
  public var flags: UInt64 = 2

  public var codeSegment = SegmentRegister.resetCode
  public var dataSegment = SegmentRegister.realModeData
  public var extraSegment = SegmentRegister.realModeData
  /// FS.
  public var extraSegmentF = SegmentRegister.realModeData
  /// GS.
  public var extraSegmentG = SegmentRegister.realModeData
  public var stackSegment = SegmentRegister.realModeData
  /// TR.
  public var taskRegister = SegmentRegister.resetTask
  /// LDTR.
  public var localTable = SegmentRegister.resetLocalTable
  public var globalDescriptors = DescriptorTable()
  public var interruptDescriptors = DescriptorTable()

  public var control0: UInt64 =
    ControlBits.cacheDisable | ControlBits.notWriteThrough
    | ControlBits.extensionType
  public var control2: UInt64 = 0
  public var control3: UInt64 = 0
  public var control4: UInt64 = 0
  public var control8: UInt64 = 0
  /// IA32_EFER.
  public var extendedFeatures: UInt64 = 0
  /// IA32_APIC_BASE.
  public var apicBase: UInt64 = 0xFEE0_0900
  /// The four PDPTEs that PAE paging has loaded; empty where they follow from CR3.
  public var pageDirectoryPointers: [UInt64] = []

  /// DR0 to DR3.
  public var debugAddresses: [UInt64] = [0, 0, 0, 0]
  public var debug6: UInt64 = 0xFFFF_0FF0
  public var debug7: UInt64 = 0x400

  /// x87, SSE and later state: an XSAVE area in standard form. At least 576 bytes (legacy area and header), or empty.
  public var extendedState: [UInt8] = []
  /// XCR0 and later.
  public var extendedControls: [IndexedRegister] = []
  /// In the order in which they are to be written.
  public var modelSpecificRegisters: [IndexedRegister] = []
  /// The first KiB of the local APIC's page, or empty without a local APIC.
  public var localAPIC: [UInt8] = []

  public var events: PendingEvents? = nil
  public var multiprocessing = MultiprocessingState.runnable
  /// The frequency of the time stamp counter that the guest was told; nil if unknown.
  public var timeStampKilohertz: UInt32? = nil
  /// What a guest hypervisor has loaded into this processor (KVM_GET_NESTED_STATE), or empty.
  public var nestedState: [UInt8] = []

  /// A boot processor after reset: starts at 0xFFFFFFF0 in real mode.
  public init() {}

  /// A processor after power-on: the boot processor runs, the others wait for INIT.
  public static func powerOn(isBootProcessor: Bool) -> ProcessorState {
    var state = ProcessorState()
    if !isBootProcessor {
      state.apicBase &= ~ControlBits.isBootProcessor
      state.multiprocessing = .uninitialized
    }
    return state
  }

  /// Whether the fixed-size parts have their sizes; a state from a file may have any.
  public var isWellFormed: Bool {
    generalRegisters.count == 16 && debugAddresses.count == 4
      && [0, 4].contains(pageDirectoryPointers.count)
      && (extendedState.isEmpty || (576...65536).contains(extendedState.count))
      && extendedControls.count <= 16 && modelSpecificRegisters.count <= 4096
      && [0, 1024].contains(localAPIC.count) && nestedState.count <= 65536
  }
}

/// A register that has a number: an MSR or an extended control register.
public struct IndexedRegister: Codable, Sendable, Equatable {
  public var index: UInt32
  public var value: UInt64
  public init(index: UInt32, value: UInt64) {
    self.index = index
    self.value = value
  }
}

/// Indices into `ProcessorState.generalRegisters`.
public enum GeneralRegister: Int, Sendable, CaseIterable {
  case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi
  case r8, r9, r10, r11, r12, r13, r14, r15
}

extension ProcessorState {
  /// A general register by name. Only on a well-formed state.
  public subscript(register: GeneralRegister) -> UInt64 {
    get { generalRegisters[register.rawValue] }
    set { generalRegisters[register.rawValue] = newValue }
  }
}

/// Bits of CR0, CR4, EFER and IA32_APIC_BASE that this code base sets itself (Intel SDM 3A, 2.5 and 2.2.1).
public enum ControlBits {
  /// CR0.PE.
  public static let protection: UInt64 = 1 << 0
  /// CR0.ET.
  public static let extensionType: UInt64 = 1 << 4
  /// CR0.NE.
  public static let numericError: UInt64 = 1 << 5
  /// CR0.WP.
  public static let writeProtection: UInt64 = 1 << 16
  /// CR0.NW.
  public static let notWriteThrough: UInt64 = 1 << 29
  /// CR0.CD.
  public static let cacheDisable: UInt64 = 1 << 30
  /// CR0.PG.
  public static let paging: UInt64 = 1 << 31
  /// CR4.PAE.
  public static let physicalAddressExtension: UInt64 = 1 << 5
  /// CR4.OSFXSR and CR4.OSXMMEXCPT.
  public static let vectorExtensions: UInt64 = 1 << 9 | 1 << 10
  /// EFER.NXE.
  public static let noExecuteEnable: UInt64 = 1 << 11
  /// EFER.LME.
  public static let longModeEnable: UInt64 = 1 << 8
  /// EFER.LMA.
  public static let longModeActive: UInt64 = 1 << 10
  /// IA32_APIC_BASE.BSP.
  public static let isBootProcessor: UInt64 = 1 << 8
}
