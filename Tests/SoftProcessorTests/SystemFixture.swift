import CSoftProcessor
import Glibc
import GuestMemory
import Platform
import Processor
import SoftProcessor
import Testing

/// A machine of one software processor and RAM that runs a program assembled on the spot. The program talks by ports:
/// a doubleword to 0xE0 is logged, anything to 0xF4 ends the run.
final class SystemFixture {
  /// Where programs are loaded and entered.
  static let origin: UInt64 = 0x10000

  private final class Recorder {
    var log: [UInt32] = []
    var isDone = false
    weak var processor: SoftProcessor?
  }

  /// Interrupts a run that takes too long: a guest that goes in circles does not come back by itself.
  private final class Limit: Sendable {
    /// When the run that is going on is interrupted; nil: none goes on; 0: there will be none.
    private let deadline = Monitor<UInt64?>(nil)
    private let thread: PosixThread

    init(_ processor: SoftProcessor) throws {
      thread = try PosixThread(name: "test limit") { [deadline] in
        while true {
          let next = deadline.wait { $0 }
          guard next != 0 else { return }
          // Until then, or until another run begins or all is over.
          let changed: Bool? = deadline.wait(until: next) { $0 == next ? nil : true }
          guard changed == nil else { continue }
          deadline.update { value in
            guard value == next else { return }
            value = nil
            processor.interrupt()
          }
        }
      }
    }

    func begin(_ end: UInt64) { deadline.update { $0 = end } }
    func end() { deadline.update { $0 = nil } }
    func stop() {
      deadline.update { $0 = 0 }
      thread.join()
    }
  }

  let memory: GuestMemory
  private let board: SoftBoard
  private let recorder = Recorder()
  let processor: SoftProcessor
  private let limit: Limit

  /// - Parameter translateAfter: as for `SoftProcessor`.
  init(
    memorySize: UInt64 = 16 << 20, translateAfter: UInt64? = SoftProcessor.standardThreshold
  ) throws {
    memory = try GuestMemory(size: memorySize)
    board = try SoftBoard(
      memory: memory, apicNumbers: [0],
      bus: SoftBus(
        context: Unmanaged.passUnretained(recorder).toOpaque(),
        memoryRead: { _, _, _ in .max }, memoryWrite: { _, _, _, _ in },
        portRead: { _, _, _ in .max },
        portWrite: { context, port, _, value in
          let recorder = Unmanaged<Recorder>.fromOpaque(context).takeUnretainedValue()
          switch port {
          case 0xE0 where recorder.log.count < 4096:
            recorder.log.append(UInt32(truncatingIfNeeded: value))
          case 0xF4:
            recorder.isDone = true
            recorder.processor?.interrupt()
          default: break
          }
        }))
    processor = try SoftProcessor(
      index: 0, board: board, translateAfter: translateAfter)
    recorder.processor = processor
    limit = try Limit(processor)
  }

  deinit {
    limit.stop()
    board.stop()
  }

  /// How a program ended.
  enum End: Equatable {
    case finished, shutdown, halted, hung
  }

  struct Outcome {
    var end: End
    var log: [UInt32]
  }

  /// Loads bytes and runs them from a state.
  ///
  /// - Parameter seconds: after which the outcome is `.hung`.
  func run(
    _ code: [UInt8], from state: ProcessorState, seconds: Double = 10
  ) throws -> Outcome {
    recorder.isDone = false
    recorder.log = []
    try memory.write(code, at: GuestAddress(Self.origin))
    try processor.restoreState(state)
    let end = MonotonicClock.now + UInt64(seconds * 1e9)
    limit.begin(end)
    defer { limit.end() }
    while MonotonicClock.now < end {
      switch try processor.run() {
      case .shutdown: return Outcome(end: .shutdown, log: recorder.log)
      case .halted: return Outcome(end: .halted, log: recorder.log)
      default: break
      }
      if recorder.isDone { return Outcome(end: .finished, log: recorder.log) }
    }
    return Outcome(end: .hung, log: recorder.log)
  }

  /// Loads bytes, to be run by `runOnce` from a state.
  func load(_ code: [UInt8], from state: ProcessorState) throws {
    try memory.write(code, at: GuestAddress(Self.origin))
    try processor.restoreState(state)
  }

  /// One `run`, which is interrupted after a while.
  func runOnce(seconds: Double = 5) throws -> ProcessorExit {
    limit.begin(MonotonicClock.now + UInt64(seconds * 1e9))
    defer { limit.end() }
    return try processor.run()
  }

  /// The program has written to 0xF4.
  var isFinished: Bool { recorder.isDone }
}

/// GNU as and ld.
enum Assembler {
  static let isPresent =
    access("/usr/bin/as", X_OK) == 0 && access("/usr/bin/ld", X_OK) == 0

  struct Failure: Error, CustomStringConvertible { var description: String }

  /// Assembles for `bits` (32 or 64; 16-bit code by `.code16` in 32) at the fixture's origin.
  static func assemble(_ source: String, bits: Int) throws -> [UInt8] {
    var template = Array("/tmp/uj-system-XXXXXX".utf8CString)
    let folder = template.withUnsafeMutableBufferPointer { buffer -> String? in
      guard let base = buffer.baseAddress, mkdtemp(base) != nil else { return nil }
      return String(cString: base)
    }
    guard let folder else { throw Failure(description: "no temporary folder") }
    defer {
      for name in ["a.s", "a.o", "a.bin"] { unlink("\(folder)/\(name)") }
      rmdir(folder)
    }
    guard let file = fopen("\(folder)/a.s", "w") else { throw Failure(description: "a.s") }
    fputs(source + "\n", file)
    fclose(file)
    let emulation = bits == 64 ? "elf_x86_64" : "elf_i386"
    let origin = "0x" + String(SystemFixture.origin, radix: 16)
    let command =
      "cd \(folder) && as --\(bits) -o a.o a.s && ld -m \(emulation) -Ttext \(origin) "
      + "-e \(origin) --oformat binary -o a.bin a.o"
    guard system(command) == 0 else { throw Failure(description: "the program does not assemble") }
    guard let binary = fopen("\(folder)/a.bin", "r") else { throw Failure(description: "a.bin") }
    defer { fclose(binary) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let count = fread(&bytes, 1, bytes.count, binary)
    return Array(bytes.prefix(count))
  }
}
