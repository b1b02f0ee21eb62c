/// Where a machine is in its life.
public enum MachineRunState: String, Sendable, Codable {
  /// Built, no instruction executed yet.
  case ready
  case running, paused
  /// All processors halted with interrupts off: only a reset wakes it.
  case halted
  case stopped
}

/// Why a run ended.
public enum MachineEnd: Sendable, Codable, Equatable {
  /// The guest powered off (ACPI S5).
  case powerOff
  /// `stop` was called.
  case stopped
  /// Its state was saved, to go on from later.
  case suspended
  /// It runs on another host now.
  case moved
  /// A reset with `stopsOnReset`.
  case reset
  /// Port 0xF4, `(value << 1) | 1` as in QEMU.
  case debugExit(status: Int32)
  /// A processor gave up; the report names registers and bytes.
  case failed(report: String)
}

/// Something happened to a machine. Delivered on a thread of the machine's: hand it on, do not wait.
public enum MachineEvent: Sendable {
  case stateChanged(MachineRunState)
  case ended(MachineEnd)
  case message(String)
  /// A guest's end that it did not ask for, a triple fault or a processor that gave up: several lines, with the registers
  /// of all processors. Comes ahead of `ended`; after a triple fault the machine goes on with a reset.
  case fault(report: String)
}

/// Counters since the start, read without stopping the guest.
public struct MachineStatistics: Sendable, Codable, Equatable {
  /// CPU time of the virtual processors' threads, nanoseconds.
  public var processorTime: UInt64 = 0
  /// The same for each processor.
  public var processorTimes: [UInt64] = []
  /// Exits to this process.
  public var exits: UInt64 = 0
  /// Accesses of the guest to model specific registers that its processor does not have (each was a #GP).
  public var unknownRegisterAccesses: UInt64 = 0
  /// Instructions that KVM on this host could not emulate and that the software processor completed, by kind: "int3",
  /// "sse", "cmpxchg16b" and so on.
  public var completedInstructions: [String: UInt64] = [:]
  /// Guest memory that the host has given, bytes.
  public var residentMemory: UInt64 = 0
  /// Instructions executed, where somebody counts them: the software processor.
  public var instructions: UInt64?
  /// In the order of the configuration.
  public var disks: [DiskStatistics] = []
  /// Of the disks, and of the disc in the CD-ROM drive.
  public var diskBytesRead: UInt64 = 0
  public var diskBytesWritten: UInt64 = 0
  /// Nanoseconds of machine time since the start.
  public var uptime: UInt64 = 0
  public init() {}
}

/// Why a machine could not be built: one line that names the thing and what to do.
public struct MachineError: Error, Sendable, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}
