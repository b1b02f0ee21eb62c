import GuestMemory
import Platform
import Processor

/// The price of a way out of the guest on this host, measured bare: no device, no bus, only KVM_RUN.
public struct ExitMeasurement: Sendable, Codable, Equatable {
  /// What the guest does in a loop at CPL 0 of 64-bit mode, together with a decrement and a jump.
  public enum Operation: String, Sendable, Codable, CaseIterable {
    /// OUT to this process.
    case portWrite
    /// IN from this process.
    case portRead
    /// A 4-byte load from no memory, answered by this process.
    case memoryRead
    /// A 4-byte store to no memory.
    case memoryWrite
    /// OUT to an ioeventfd: stays in the kernel.
    case doorbell
    /// CPUID: stays in the kernel.
    case cpuid
    /// A register increment: stays in the guest, unless the kernel emulates it.
    case instruction
  }

  public var operation: Operation
  public var count: Int
  /// The mean.
  public var nanosecondsPerOperation: Double
  /// The fastest of up to ten equal parts: the price on a quiet host.
  public var bestNanosecondsPerOperation: Double

  /// Runs `operation` `count` times (at least 10) in a machine made for the purpose.
  public static func measure(
    _ operation: Operation, count: Int
  ) throws(KVMError) -> ExitMeasurement {
    let guest = try MeasuringGuest(try KVMSystem())
    let notifier: EventNotifier
    do { notifier = try EventNotifier() } catch { throw .system(error) }
    if operation == .doorbell {
      try guest.machine.attachDoorbell(.init(.port(0x80), length: 1), to: notifier)
    }
    let batch = max(1, min(count / 10, 1 << 20))
    var times: [UInt64] = []
    for _ in 0..<10 {
      times.append(try guest.time(operation, count: batch))
      notifier.drain()
    }
    let total = times.reduce(0, &+)
    return ExitMeasurement(
      operation: operation, count: batch * 10,
      nanosecondsPerOperation: Double(total) / Double(batch * 10),
      bestNanosecondsPerOperation: Double(times.min() ?? 0) / Double(batch))
  }
}

extension ExitMeasurement.Operation {
  /// Whether each operation comes out to this process.
  fileprivate var exits: Bool {
    switch self {
    case .portWrite, .portRead, .memoryRead, .memoryWrite: true
    case .doorbell, .cpuid, .instruction: false
    }
  }

  /// Machine code. EDI is an address without memory, ESI the counter.
  fileprivate var code: [UInt8] {
    switch self {
    case .portWrite, .doorbell: [0xE6, 0x80]  // out 0x80, al
    case .portRead: [0xE4, 0x80]  // in al, 0x80
    case .memoryRead: [0x8B, 0x07]  // mov eax, [rdi]
    case .memoryWrite: [0x89, 0x07]  // mov [rdi], eax
    case .cpuid: [0x31, 0xC0, 0x0F, 0xA2]  // xor eax, eax; cpuid
    case .instruction: [0xFF, 0xC3]  // inc ebx
    }
  }
}

extension MeasuringGuest {
  /// Nanoseconds for `count` operations.
  fileprivate func time(
    _ operation: ExitMeasurement.Operation, count: Int
  ) throws(KVMError) -> UInt64 {
    let body = operation.code
    var program: [UInt8] = [0xBF, 0, 0, 0x20, 0]  // mov edi, 0x20_0000
    program += [0xBE] + withUnsafeBytes(of: UInt32(count).littleEndian) { [UInt8]($0) }  // mov esi
    program += body
    program += [0xFF, 0xCE]  // dec esi
    program += [0x75, UInt8(bitPattern: Int8(-(body.count + 4)))]  // jnz to the body
    program += [0xE6, 0x81]  // out 0x81, al
    try load(program)
    let start = MonotonicClock.now
    var exits = 0
    while true {
      let exit = try timedRun().exit
      if case .portWrite(port: 0x81, _, _, _) = exit { break }
      exits += 1
      switch exit {
      case .portRead, .portWrite, .memoryRead, .memoryWrite: continue
      default: throw .invalidRequest("the measuring guest stopped: \(exit)")
      }
    }
    let elapsed = MonotonicClock.now &- start
    guard !operation.exits || exits >= count else {
      throw .invalidRequest("\(exits) exits came instead of \(count)")
    }
    return elapsed
  }
}
