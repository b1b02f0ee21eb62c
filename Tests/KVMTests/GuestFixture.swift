import Glibc
import GuestMemory
import KVM
import Processor
import Testing

/// Whether this host lets us open /dev/kvm; the other tests of this target are skipped without it.
let hostHasKVM = access(KVMSystem.defaultPath, R_OK | W_OK) == 0

/// A machine of one processor and 2 MiB of RAM with a program at 0x1000.
final class Guest {
  enum Chips { case none, kernel, split }

  static let program = GuestAddress(0x1000)
  let system: KVMSystem
  let machine: VirtualMachine
  let memory: GuestMemory
  let processor: VirtualProcessor

  init(_ code: [UInt8], chips: Chips = .none) throws {
    system = try KVMSystem()
    machine = try system.makeVirtualMachine()
    memory = try GuestMemory(size: 2 << 20)
    try machine.setMemory(memory)
    switch chips {
    case .none: break
    case .kernel: try machine.createInterruptChips()
    case .split: try machine.createLocalInterruptChips()
    }
    processor = try machine.makeProcessor(index: 0)
    try processor.setLeaves(system.supportedLeaves)
    try memory.write(code, at: Self.program)
  }

  /// Real mode at 0:0x1000 with the stack below it.
  func startReal() throws {
    var state = ProcessorState()
    state.codeSegment.base = 0
    state.codeSegment.selector = 0
    state.instructionPointer = Self.program.rawValue
    state[.rsp] = 0x1000
    try processor.restoreState(state)
  }

  /// Flat 32-bit protected mode.
  func startFlat() throws {
    var state = ProcessorState.flat32(entry: UInt32(Self.program.rawValue))
    state[.rsp] = 0x1000
    try processor.restoreState(state)
  }

  /// Long mode with the first GiB mapped one to one by 2 MiB pages; tables from 0x10_0000.
  func startLong() throws {
    let tables = GuestAddress(0x10_0000)
    memory.store(tables.rawValue + 0x1000 | 3, at: tables)
    memory.store(tables.rawValue + 0x2000 | 3, at: tables &+ 0x1000)
    for entry in UInt64(0)..<512 {
      memory.store(entry << 21 | 0x83, at: tables &+ (0x2000 + entry * 8))
    }
    var state = ProcessorState.long64(
      entry: Self.program.rawValue, pageTable: tables.rawValue, stackPointer: 0x1000)
    state[.rsp] = 0x1000
    try processor.restoreState(state)
  }

  /// Runs until an exit that is not a port write, and returns it with all values written before, low byte first.
  func collect(limit: Int = 1000) throws -> (output: [Output], end: ProcessorExit) {
    var output: [Output] = []
    for _ in 0..<limit {
      let exit = try processor.run()
      guard case .portWrite(let port, let width, let count, let data) = exit else {
        return (output, exit)
      }
      for position in 0..<count {
        output.append(Output(port: port, value: Output.value(data + position * width.count, width)))
      }
    }
    throw ProcessorError("the guest has not come to its end after \(limit) exits")
  }

  struct Output: Equatable, CustomStringConvertible {
    var port: UInt16
    var value: UInt64
    var description: String {
      "0x\(String(port, radix: 16)) <- 0x\(String(value, radix: 16))"
    }
    static func value(_ data: UnsafeRawPointer, _ width: AccessWidth) -> UInt64 {
      (0..<width.count).reduce(0) {
        $0 | UInt64(data.load(fromByteOffset: $1, as: UInt8.self)) << UInt64($1 * 8)
      }
    }
  }
}

extension ProcessorExit {
  var isHalt: Bool { if case .halted = self { true } else { false } }
  var isShutdown: Bool { if case .shutdown = self { true } else { false } }
  var isInterrupted: Bool { if case .interrupted = self { true } else { false } }
}
