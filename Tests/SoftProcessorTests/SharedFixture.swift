import GuestMemory
import Platform
import Processor
import SoftProcessor
import Synchronization
import Testing

/// A machine of several software processors, each on a thread of its own, that run one program. RDI is the processor's
/// number and RSI how many there are; a doubleword to port 0xE0 is logged, anything to 0xF4 ends this processor's part.
/// Everything of 4 GiB is mapped as it is, so that the local APICs are at 0xFEE00000.
final class SharedFixture {
  private final class Recorder: Sendable {
    let log = Monitor<[UInt32]>([])
    let finished = Atomic<Int>(0)
  }

  /// Where the tables are; programs begin at `SystemFixture.origin`.
  private static let pageTable: UInt64 = 0x1000

  let memory: GuestMemory
  let board: SoftBoard
  let processors: [SoftProcessor]
  private let recorder = Recorder()
  private let isOver = Monitor(false)

  init(count: Int) throws {
    memory = try GuestMemory(size: 16 << 20)
    board = try SoftBoard(
      memory: memory, apicNumbers: (0..<UInt32(count)).map { $0 },
      bus: SoftBus(
        context: Unmanaged.passUnretained(recorder).toOpaque(),
        memoryRead: { _, _, _ in .max }, memoryWrite: { _, _, _, _ in },
        portRead: { _, _, _ in .max },
        portWrite: { context, port, _, value in
          let recorder = Unmanaged<Recorder>.fromOpaque(context).takeUnretainedValue()
          switch port {
          case 0xE0: recorder.log.update { $0.append(UInt32(truncatingIfNeeded: value)) }
          case 0xF4: recorder.finished.add(1, ordering: .sequentiallyConsistent)
          default: break
          }
        }))
    processors = try (0..<count).map { [board] in try SoftProcessor(index: $0, board: board) }
  }

  deinit { board.stop() }

  /// What was logged so far.
  var log: [UInt32] { recorder.log.read { $0 } }

  /// Runs 64-bit code on all processors until each has ended its part.
  ///
  /// - Parameters:
  ///   - seconds: after which it is stopped.
  ///   - meanwhile: called again and again while they run.
  /// - Returns: what was logged, or nil if it was stopped.
  func run(
    _ source: String, seconds: Double = 60, meanwhile: () throws -> Void = {}
  ) throws -> [UInt32]? {
    try load(source)
    return try step(seconds: seconds, meanwhile: meanwhile) ? log : nil
  }

  /// Assembles a program and has all processors begin it.
  func load(_ source: String) throws {
    let code = try Assembler.assemble(".globl _start\n_start:\n" + source, bits: 64)
    try memory.write(code, at: GuestAddress(SystemFixture.origin))
    memory.store(0x2007 as UInt64, at: GuestAddress(Self.pageTable))
    for gigabyte in 0..<4 as Range<UInt64> {
      memory.store(gigabyte << 30 | 0x87, at: GuestAddress(0x2000 + gigabyte * 8))
    }
    for (index, processor) in processors.enumerated() {
      var state = ProcessorState.long64(
        entry: SystemFixture.origin, pageTable: Self.pageTable,
        stackPointer: 0x200000 + UInt64(index + 1) << 16)
      state[.rdi] = UInt64(index)
      state[.rsi] = UInt64(processors.count)
      try processor.restoreState(state)
    }
  }

  /// Goes on until the program's end; false if the time came first. The processors are stopped then.
  func step(seconds: Double, meanwhile: () throws -> Void = {}) throws -> Bool {
    isOver.update { $0 = false }
    let threads = try processors.map { [isOver] processor in
      try PosixThread(name: "test processor") {
        // Ends by `interrupt`, which comes after `isOver`.
        while !isOver.read({ $0 }) {
          guard (try? processor.run()) != nil else { return }
        }
      }
    }
    let limit = MonotonicClock.now + UInt64(seconds * 1e9)
    let pause = Monitor(())
    while recorder.finished.load(ordering: .sequentiallyConsistent) < processors.count,
      MonotonicClock.now < limit
    {
      _ = pause.wait(until: MonotonicClock.now + 1_000_000) { _ -> Bool? in nil }
      try meanwhile()
    }
    isOver.update { $0 = true }
    for processor in processors { processor.interrupt() }
    for thread in threads { thread.join() }
    return recorder.finished.load(ordering: .sequentiallyConsistent) == processors.count
  }
}
