/// A chip as a value: registers and pure transitions. No thread, clock, lock or descriptor; the same code runs under
/// every processor, in unit tests with a clock of their own, and in fuzzers.
public protocol Chip: Sendable {
  mutating func read(at offset: UInt64, width: AccessWidth, now: MachineTime) -> UInt64
  mutating func write(at offset: UInt64, width: AccessWidth, value: UInt64, now: MachineTime)
  /// Lets time pass. Called at `deadline` and before every access.
  mutating func advance(to now: MachineTime)
  /// Bit i: output line i is high.
  var outputs: UInt32 { get }
  /// When `advance` must be called even if nobody accesses the chip.
  var deadline: MachineTime? { get }
  /// Bit i: line i had a rising edge that its level does not show, because it fell and rose within one call.
  ///
  /// Asked until the answer is 0; each answer is one edge a line. The chip bounds how many it owes.
  mutating func takePulses() -> UInt32
  /// What the chip asks of the board since the last call.
  mutating func takeRequests() -> BoardRequests
}

extension Chip {
  public mutating func takePulses() -> UInt32 { 0 }
  public mutating func takeRequests() -> BoardRequests { [] }
}

/// What a chip asks of the board beyond its lines.
public struct BoardRequests: OptionSet, Sendable, Hashable, Codable {
  public var rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Reset the machine.
  public static let reset = BoardRequests(rawValue: 1 << 0)
  /// ACPI S5: switch the machine off.
  public static let powerOff = BoardRequests(rawValue: 1 << 1)
  /// ACPI S3.
  public static let suspendToMemory = BoardRequests(rawValue: 1 << 2)
  /// ACPI S4.
  public static let suspendToDisk = BoardRequests(rawValue: 1 << 3)
  /// Address line 20 passes from now on.
  public static let enableAddressLine20 = BoardRequests(rawValue: 1 << 4)
  /// The guest has let its watchdog run out.
  public static let watchdogExpired = BoardRequests(rawValue: 1 << 6)
  /// Address line 20 is forced low from now on.
  public static let disableAddressLine20 = BoardRequests(rawValue: 1 << 5)
}
