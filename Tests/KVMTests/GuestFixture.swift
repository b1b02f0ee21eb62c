import Glibc
import GuestMemory
import KVM
import Processor
import Testing

/// Whether this host lets us open /dev/kvm; the other tests of this target are skipped without it.
let hostHasKVM = access(KVMSystem.defaultPath, R_OK | W_OK) == 0

/// What this host's KVM is worth; the tests of instructions that an emulating kernel lacks ask here.
let hostCapability = hostHasKVM ? KVMSystem.probe() : .unavailable(reason: "no /dev/kvm")

/// A machine of one processor and 2 MiB of RAM with a program at 0x1000. 0x80000 to 0xFFFFF is no memory.
final class Guest: @unchecked Sendable {
  // @unchecked: a test's threads take turns.
  enum Chips { case none, kernel, split }

  static let program = GuestAddress(0x1000)
  static let tables = GuestAddress(0x10_0000)
  static let descriptors = GuestAddress(0x6000)
  static let gates = GuestAddress(0x7000)
  static let stubs = GuestAddress(0x8000)
  static let stackTop: UInt64 = 0x5000

  let system: KVMSystem
  let machine: VirtualMachine
  let memory: GuestMemory
  let processor: VirtualProcessor

  init(
    _ code: [UInt8], chips: Chips = .none, policy: CPUIDPolicy = CPUIDPolicy(),
    logDirty: Bool = false
  ) throws {
    system = try KVMSystem()
    machine = try system.makeVirtualMachine()
    memory = try GuestMemory(size: 2 << 20)
    for (slot, (base, size)) in [(0, 0x80000), (0x10_0000, 0x10_0000)].enumerated() {
      try machine.setMemory(
        slot: UInt32(slot), guestAddress: GuestAddress(UInt64(base)), size: UInt64(size),
        host: try #require(memory.pointer(at: GuestAddress(UInt64(base)), count: UInt64(size))),
        logDirty: logDirty, owner: memory)
    }
    switch chips {
    case .none: break
    case .kernel: try machine.createInterruptChips()
    case .split: try machine.createLocalInterruptChips()
    }
    processor = try machine.makeProcessor(index: 0)
    try processor.setLeaves(policy.leaves(supported: system.supportedLeaves, index: 0))
    try memory.write(code, at: Self.program)
  }

  /// Real mode at 0:0x1000.
  func startReal() throws {
    var state = ProcessorState()
    state.codeSegment.base = 0
    state.codeSegment.selector = 0
    state.instructionPointer = Self.program.rawValue
    state[.rsp] = Self.stackTop
    try processor.restoreState(state)
  }

  /// Flat 32-bit protected mode with gates for vectors 0 to 63, see `stubs`.
  func startFlat() throws {
    writeStubs()
    for vector in UInt64(0)..<64 {
      let handler = Self.stubs.rawValue + vector * 8
      // Interrupt gate, 32 bits, present, selector 0x10.
      memory.store(handler | 0x10 << 16 | 0x8E00 << 32, at: Self.gates &+ vector * 8)
    }
    let table = writeDescriptors(code: 0x00CF_9B00_0000_FFFF)
    var state = ProcessorState.flat32(
      entry: UInt32(Self.program.rawValue), globalTable: table)
    state.interruptDescriptors = DescriptorTable(base: Self.gates.rawValue, limit: 64 * 8 - 1)
    state[.rsp] = Self.stackTop
    try processor.restoreState(state)
  }

  /// Long mode with the first GiB mapped one to one, and gates for vectors 0 to 63.
  func startLong() throws {
    memory.store(Self.tables.rawValue + 0x1000 | 3, at: Self.tables)
    memory.store(Self.tables.rawValue + 0x2000 | 3, at: Self.tables &+ 0x1000)
    for entry in UInt64(0)..<512 {
      memory.store(entry << 21 | 0x83, at: Self.tables &+ (0x2000 + entry * 8))
    }
    writeStubs()
    for vector in UInt64(0)..<64 {
      let handler = Self.stubs.rawValue + vector * 8
      memory.store(handler | 0x10 << 16 | 0x8E00 << 32, at: Self.gates &+ vector * 16)
      memory.store(UInt64(0), at: Self.gates &+ (vector * 16 + 8))
    }
    let table = writeDescriptors(code: 0x00AF_9B00_0000_FFFF)
    var state = ProcessorState.long64(
      entry: Self.program.rawValue, pageTable: Self.tables.rawValue, stackPointer: Self.stackTop,
      globalTable: table)
    state.interruptDescriptors = DescriptorTable(base: Self.gates.rawValue, limit: 64 * 16 - 1)
    try processor.restoreState(state)
  }

  /// Null, null, code at 0x10, data at 0x18.
  private func writeDescriptors(code: UInt64) -> DescriptorTable {
    for (number, value) in [0, 0, code, 0x00CF_9300_0000_FFFF].enumerated() {
      memory.store(value, at: Self.descriptors &+ UInt64(number * 8))
    }
    return DescriptorTable(base: Self.descriptors.rawValue, limit: 31)
  }

  /// One handler a vector, 8 bytes each: tells its number at port 0xEE and halts. They do not return, because a
  /// kernel that emulates supervisor mode has no IRET for 32-bit code.
  private func writeStubs() {
    for vector in UInt8(0)..<64 {
      let code: [UInt8] = [
        0xB0, vector,  // mov al, vector
        0xE6, 0xEE,  // out 0xEE, al
        0xFA, 0xF4,  // cli; hlt
        0x90, 0x90,
      ]
      memory.store(
        code.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) },
        at: Self.stubs &+ UInt64(vector) * 8)
    }
  }

  /// Runs until an exit that is not a port write or until a write to `port`, and returns all writes before it.
  func collect(
    until port: UInt16? = nil, limit: Int = 1000
  ) throws -> (output: [Output], end: ProcessorExit) {
    var output: [Output] = []
    for _ in 0..<limit {
      let exit = try processor.run()
      guard case .portWrite(let written, let width, let count, let data) = exit else {
        return (output, exit)
      }
      for position in 0..<count {
        output.append(
          Output(port: written, value: Output.value(data + position * width.count, width)))
      }
      if written == port { return (output, exit) }
    }
    throw ProcessorError("the guest has not come to its end after \(limit) exits")
  }

  /// As `collect`, with the end as a failure report unless it is the stub of a vector or the port.
  func outcome(until port: UInt16 = 0xEE) throws -> [Output] {
    let (output, end) = try collect(until: port)
    if case .portWrite = end { return output }
    throw ProcessorError("\(end)\n\(try processor.saveState().dump)")
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
    /// The stub of a vector.
    static func vector(_ number: UInt64) -> Output { Output(port: 0xEE, value: number) }
  }
}

extension ProcessorExit {
  var isHalt: Bool { if case .halted = self { true } else { false } }
  var isShutdown: Bool { if case .shutdown = self { true } else { false } }
  var isInterrupted: Bool { if case .interrupted = self { true } else { false } }
  var isEmulationFailure: Bool {
    if case .failure(let failure) = self { failure.reason == .emulation } else { false }
  }
}
