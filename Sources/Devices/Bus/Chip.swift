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
}
