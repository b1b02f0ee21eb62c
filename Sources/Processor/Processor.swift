import GuestMemory

/// A virtual processor: in the kernel (`KVM`) or in software.
///
/// One thread owns it: only `interrupt` may be called from others.
public protocol Processor: AnyObject, Sendable {
  /// 0 for the boot processor.
  var index: Int { get }

  /// Runs the guest until it needs the machine.
  ///
  /// The pointers in the exit are valid until the next call of `run`; a read exit is answered by filling its data
  /// before that call.
  func run() throws(ProcessorError) -> ProcessorExit

  /// Makes `run` return `.interrupted`, now or when it is next called. From any thread.
  func interrupt()

  /// Everything architectural. Only between exits; setting it restarts the processor there.
  func saveState() throws(ProcessorError) -> ProcessorState
  func restoreState(_ state: ProcessorState) throws(ProcessorError)

  /// Finishes the instruction of the last exit with the data that was filled in, without running further, so that
  /// the state can be saved. An exit that comes back has to be served first; then call again.
  func completeExit() throws(ProcessorError) -> ProcessorExit?

  /// Back to power-on: the boot processor at 0xFFFFFFF0, the others waiting for INIT.
  func reset() throws(ProcessorError)
}

extension Processor {
  /// For processors that finish an access before they report the next one.
  public func completeExit() throws(ProcessorError) -> ProcessorExit? { nil }

  public func reset() throws(ProcessorError) {
    try restoreState(.powerOn(isBootProcessor: index == 0))
  }
}

/// Why `Processor.run` came back. Carries no heap allocation.
public enum ProcessorExit {
  /// IN, INS: fill `data` with `count` values of `width` bytes.
  case portRead(port: UInt16, width: AccessWidth, count: Int, data: UnsafeMutableRawPointer)
  /// OUT, OUTS.
  case portWrite(port: UInt16, width: AccessWidth, count: Int, data: UnsafeRawPointer)
  /// A read of guest-physical memory that is not RAM; `count` is 1 to 8.
  case memoryRead(address: GuestAddress, count: Int, data: UnsafeMutableRawPointer)
  /// A write to guest-physical memory that is not RAM, or to ROM.
  case memoryWrite(address: GuestAddress, count: Int, data: UnsafeRawPointer)
  /// HLT, where no chip of the kernel's waits for the interrupt.
  case halted
  /// Triple fault.
  case shutdown
  /// `interrupt` was called, or a signal came.
  case interrupted
  /// The guest can take the external interrupt that was asked for.
  case interruptWindow
  /// An EOI for a level-triggered vector of a split interrupt chip.
  case endOfInterrupt(vector: VectorNumber)
  /// The guest asked the hypervisor for a reset or a power-off.
  case systemEvent(SystemEvent)
  /// RDMSR of a register that is passed to user space. Set `data`, or `failed` to 1 for #GP.
  case registerRead(
    index: UInt32, data: UnsafeMutablePointer<UInt64>, failed: UnsafeMutablePointer<UInt8>)
  /// WRMSR of a register that is passed to user space.
  case registerWrite(index: UInt32, value: UInt64, failed: UnsafeMutablePointer<UInt8>)
  /// A breakpoint or single step of a debugger.
  case debug
  /// The processor cannot go on.
  case failure(ProcessorFailure)
}

/// What a paravirtual guest asked for.
public enum SystemEvent: Sendable, Equatable {
  case shutdown, reset, crash
  case other(UInt32)
}

/// Why a processor gave up. See `ProcessorState.dump` for the rest of the report.
public struct ProcessorFailure: Sendable, Equatable {
  public enum Reason: Sendable, Equatable {
    /// An instruction that the kernel cannot emulate.
    case emulation
    /// The hardware refused to enter the guest.
    case entry(hardwareReason: UInt64)
    case other(code: UInt32)
  }
  public var reason: Reason
  /// Up to 15 bytes at the instruction pointer where the kernel gave them, in the low bytes first.
  public var bytes: InlineArray<16, UInt8>
  public var byteCount: Int

  public init(
    reason: Reason, bytes: InlineArray<16, UInt8> = .init(repeating: 0), byteCount: Int = 0
  ) {
    self.reason = reason
    self.bytes = bytes
    self.byteCount = byteCount
  }

  public static func == (left: Self, right: Self) -> Bool {
    left.reason == right.reason && left.byteCount == right.byteCount
      && left.bytes.indices.allSatisfy { left.bytes[$0] == right.bytes[$0] }
  }
}

/// A host-side error of a processor.
public struct ProcessorError: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// How many bytes an access moves.
public enum AccessWidth: UInt8, Sendable, Codable, CaseIterable {
  case byte = 1
  case word = 2
  case doubleword = 4
  case quadword = 8

  @inlinable public var count: Int { Int(rawValue) }
  /// All ones in this width: what a read of nothing gives.
  @inlinable public var mask: UInt64 { UInt64.max >> (64 - UInt64(rawValue) * 8) }
}

/// An interrupt or exception vector.
public struct VectorNumber: RawRepresentable, Hashable, Sendable, Codable {
  public var rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: UInt8) { self.rawValue = rawValue }
}
