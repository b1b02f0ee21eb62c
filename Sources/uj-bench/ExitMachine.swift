import CLinux
import Devices
import Machine
import Platform

/// A whole machine whose guest makes exits for ever, in batches between two bytes on the debug console. Between
/// batches its processor waits in that console's back end.
final class ExitMachine {
  private static let loadAddress: UInt64 = 0x10_0000
  private static let ringPage: UInt32 = 0x200

  private let machine: Machine
  private let gate = Gate()
  private let folder: TemporaryFolder

  init(_ operation: ExitOperation, count: UInt32) throws {
    folder = try TemporaryFolder()
    let kernel = try folder.write(
      "exits", Self.program(operation, count: count).executable(at: Self.loadAddress))
    let disk = try folder.write("disk", [UInt8](repeating: 0, count: 1 << 20))
    var configuration = MachineConfiguration(name: "exits")
    configuration.memorySize = 64 << 20
    configuration.accelerator = .kvm
    configuration.boot = .kernel(path: kernel, initrd: nil, commandLine: "")
    configuration.disks = [DiskConfiguration(path: disk, format: .raw)]
    let gate = gate
    machine = try Machine(configuration, serialBackends: [], debugBackend: gate) { event in
      if case .ended = event { gate.close() }
    }
    try machine.start()
    try gate.awaitFirst()
  }

  deinit {
    gate.close()
    machine.stop()
  }

  /// Nanoseconds of one batch.
  func time() throws -> UInt64 { try gate.passOnce() }

  private static func program(_ operation: ExitOperation, count: UInt32) -> ExitProgram {
    var program = ExitProgram()
    let writes = ExitProgram.driverStart(slot: AddressMap.firstDiskSlot, ringPage: ringPage)
    for (port, value, width) in writes { program.output(value, to: port, width: width.count) }
    let start = program.bytes.count
    program.output(0x0A, to: 0x402, width: 1)
    program.loop(operation, count: count, address: ExitProgram.registers)
    program.jump(to: start)
    return program
  }
}

/// The debug console's back end: holds the guest's processor at every line.
private final class Gate: CharacterBackend {
  private struct State {
    var arrivals = 0
    var arrivedAt: UInt64 = 0
    var leftAt: UInt64 = 0
    var permits = 0
    var isClosed = false
  }
  private let state = Monitor(State())
  private static let patience: UInt64 = 60_000_000_000

  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    let now = MonotonicClock.now
    state.update { state in
      state.arrivals += 1
      state.arrivedAt = now
    }
    state.wait { state -> Void? in
      if state.isClosed { return () }
      guard state.permits > 0 else { return nil }
      state.permits -= 1
      state.leftAt = MonotonicClock.now
      return ()
    }
  }

  func guestCanReceive() {}

  func close() { state.update { $0.isClosed = true } }

  func awaitFirst() throws { _ = try waitFor(arrivals: 1) }

  func passOnce() throws -> UInt64 {
    let before = state.update { state in
      state.permits += 1
      return state.arrivals
    }
    return try waitFor(arrivals: before + 1)
  }

  private func waitFor(arrivals: Int) throws -> UInt64 {
    let time = state.wait(until: MonotonicClock.now + Self.patience) { state -> UInt64? in
      if state.isClosed { return .max }
      return state.arrivals >= arrivals ? state.arrivedAt &- state.leftAt : nil
    }
    guard let time, time != .max else { throw BenchmarkError("the measuring guest has stopped") }
    return time
  }
}

/// A folder in /tmp that goes with this object.
final class TemporaryFolder {
  let path: String
  private var files: [String] = []

  init() throws {
    var template = Array("/tmp/uj-bench-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw BenchmarkError("/tmp: no folder can be made there")
    }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit {
    for file in files { unlink(file) }
    rmdir(path)
  }

  /// Writes a file and returns its path.
  func write(_ name: String, _ bytes: [UInt8]) throws -> String {
    let file = path + "/" + name
    let descriptor = try FileDescriptor.open(file, O_WRONLY | O_CREAT | O_TRUNC)
    files.append(file)
    var done = 0
    while done < bytes.count {
      let number = descriptor.rawValue
      let count = bytes[done...].withUnsafeBytes { pwrite(number, $0.baseAddress, $0.count, done) }
      guard count > 0 else { throw BenchmarkError("\(file): cannot be written") }
      done += count
    }
    return file
  }
}
