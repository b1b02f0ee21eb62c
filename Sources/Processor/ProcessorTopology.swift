/// How virtual processors are arranged, and the local APIC numbers that follow from it (Intel SDM 3A, 9.9).
///
/// A number is socket, core and thread in fields that are powers of two wide, so that three cores a socket leave a
/// hole. Whoever creates processors, ACPI tables or MP tables takes the numbers from here.
public struct ProcessorTopology: Codable, Sendable, Equatable {
  public let sockets: Int
  /// Of one socket.
  public let cores: Int
  /// Of one core.
  public let threads: Int

  /// At least one of each; more than 4096 processors in all are cut to 4096 sockets' worth.
  public init(sockets: Int = 1, cores: Int = 1, threads: Int = 1) {
    self.sockets = min(max(1, sockets), 4096)
    self.cores = min(max(1, cores), 4096)
    self.threads = min(max(1, threads), 64)
  }

  /// One socket with a core for each processor: what licences and schedulers like best.
  public init(processorCount: Int) {
    self.init(sockets: 1, cores: processorCount, threads: 1)
  }

  public var processorCount: Int { sockets * cores * threads }

  /// Processors of one socket.
  public var processorsPerSocket: Int { cores * threads }

  /// Bits of the thread's field.
  public var threadBits: UInt32 { Self.bits(for: threads) }
  /// Bits of the thread's and the core's field together.
  public var socketShift: UInt32 { threadBits + Self.bits(for: cores) }

  /// The local APIC number of a processor.
  public func apicNumber(of index: Int) -> UInt32 {
    let index = max(0, index)
    let thread = index % threads
    let core = index / threads % cores
    let socket = index / (threads * cores)
    return UInt32(truncatingIfNeeded: socket) << socketShift
      | UInt32(truncatingIfNeeded: core) << threadBits | UInt32(truncatingIfNeeded: thread)
  }

  /// How many bits count from 0 to `count` - 1.
  private static func bits(for count: Int) -> UInt32 {
    UInt32(Int.bitWidth - (count - 1).leadingZeroBitCount)
  }
}
