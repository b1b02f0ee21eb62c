import CLinux
import CSoftProcessor
import Platform
import Processor

/// A processor that is interpreted: x86-64 with all its modes, on any host.
///
/// `run` serves accesses to ports and memory-mapped registers itself, through the board, and comes back only for
/// `.interrupted`, `.halted`, `.shutdown` and, with a debugger, `.debug`.
package final class SoftProcessor: Processor, @unchecked Sendable {
  // @unchecked: `cpu` belongs to the thread that runs it; others only post events, which are atomic.
  package let index: Int
  private let board: SoftBoard
  let cpu: UnsafeMutablePointer<soft_cpu>
  private let apic: LocalAPIC
  private let arena: Arena
  /// What a debugger has told the processor, without steps.
  var debugPoints = DebugSettings()
  /// Of translated code; nil: all is interpreted.
  private let translations: TranslationMemory?

  /// - Parameters:
  ///   - index: 0 for the boot processor; its place among the board's APIC numbers.
  ///   - board: outlives the processor.
  ///   - leaves: what CPUID tells.
  ///   - translateAfter: executions of a block until it is translated to the host's code; nil: all is interpreted.
  package init(
    index: Int, board: SoftBoard, leaves: [CPUIDLeaf] = SoftProcessorFeatures.supportedLeaves,
    translateAfter: UInt64? = SoftProcessor.standardThreshold
  ) throws(PlatformError) {
    self.index = index
    self.board = board
    arena = try Arena()
    cpu = .allocate(capacity: 1)
    UnsafeMutableRawPointer(cpu).initializeMemory(
      as: UInt8.self, repeating: 0, count: MemoryLayout<soft_cpu>.size)
    cpu.pointee.index = UInt32(index)
    cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
    allocateTranslations(cpu)
    arena.attach(cpu)
    translations = translateAfter == nil ? nil : TranslationMemory()
    if let translateAfter { translations?.attach(cpu, threshold: translateAfter) }
    setLeaves(cpu, leaves)
    apic = board.attach(cpu)
    powerOn(cpu, isBootProcessor: index == 0)
    updateMode(cpu)
  }

  deinit {
    board.stop()
    releaseTranslations(cpu)
    releaseLeaves(cpu)
    cpu.pointee.debugger?.deallocate()
    cpu.deallocate()
  }

  package func run() throws(ProcessorError) -> ProcessorExit {
    let end = runLoop(cpu)
    soft_vector_leave(cpu)
    switch end {
    case .stopped, .left: return .interrupted
    case .halted: return .halted
    case .shutdown: return .shutdown
    case .debugged: return .debug
    }
  }

  package func interrupt() { soft_post(cpu, UInt32(SOFT_EVENT_STOP)) }

  package func saveState() throws(ProcessorError) -> ProcessorState {
    SoftProcessorState.save(cpu)
  }

  package func restoreState(_ state: ProcessorState) throws(ProcessorError) {
    if let problem = SoftProcessorState.restore(cpu, state) {
      throw ProcessorError("processor \(index): \(problem)")
    }
    settle()
  }

  package func reset() throws(ProcessorError) {
    powerOn(cpu, isBootProcessor: index == 0)
    settle()
  }

  /// After the state was set from outside: nothing that was known before holds.
  private func settle() {
    cpu.pointee.noncanonical = 0
    cpu.pointee.halt_reported = 0
    updateMode(cpu)
    flushTranslations(cpu, keepGlobal: false)
    dropBlocks(cpu)
    if cpu.pointee.flags_other & SystemFlag.interrupt != 0 { interruptsEnabled(cpu) }
  }

  /// What the processor waits for.
  package enum Activity: Sendable {
    case running
    /// HLT.
    case halted(acceptsInterrupts: Bool)
    /// INIT and SIPI, or a reset after a triple fault.
    case waiting
  }

  /// Only while it does not run.
  package var activity: Activity {
    switch cpu.pointee.activity {
    case 0: .running
    case 1: .halted(acceptsInterrupts: cpu.pointee.flags_other & SystemFlag.interrupt != 0)
    default: .waiting
    }
  }

  /// `UNDERJACK_TRANSLATE`: a number of executions, or `off`. Without it 40.
  package static var standardThreshold: UInt64? { TranslationMemory.standardThreshold() }

  /// Accesses to model specific registers that do not exist.
  package var unknownRegisterCount: UInt64 { cpu.pointee.unknown_registers }

  /// Instructions executed, counted by blocks.
  package var instructionCount: UInt64 { cpu.pointee.instructions }
}

/// The functions of the same names outside of the class.
enum SoftProcessorState {
  static func save(_ cpu: CPU) -> ProcessorState { saveState(cpu) }
  static func restore(_ cpu: CPU, _ state: ProcessorState) -> String? { restoreState(cpu, state) }
}

/// The memory of one processor's decoded code: reserved at once, touched as it fills, never grown.
private final class Arena {
  private let memory: UnsafeMutableRawPointer
  private let size: Int

  private static let operations =
    Int(SOFT_CACHE_OPERATIONS) * MemoryLayout<soft_operation>.stride
  private static let blocks = Int(SOFT_CACHE_BLOCKS) * MemoryLayout<soft_block>.stride
  private static let buckets =
    (1 << Int(SOFT_CACHE_BUCKET_BITS)) * MemoryLayout<UnsafeMutableRawPointer?>.stride
  private static let jumps =
    (1 << Int(SOFT_JUMP_CACHE_BITS)) * MemoryLayout<soft_jump_entry>.stride

  init() throws(PlatformError) {
    size =
      Self.operations + Self.blocks + Self.buckets + Self.jumps + MemoryLayout<soft_page>.stride
    let address = mmap(
      nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let address, address != linux_map_failed() else {
      throw PlatformError(operation: "mmap", code: linux_error_number(), subject: "decoded code")
    }
    memory = address
  }

  deinit { munmap(memory, size) }

  func attach(_ cpu: CPU) {
    var place = memory
    cpu.pointee.cache.operations = place.assumingMemoryBound(to: soft_operation.self)
    place += Self.operations
    cpu.pointee.cache.blocks = place.assumingMemoryBound(to: soft_block.self)
    place += Self.blocks
    cpu.pointee.cache.buckets = place.assumingMemoryBound(
      to: UnsafeMutablePointer<soft_block>?.self)
    place += Self.buckets
    cpu.pointee.jump_cache = place.assumingMemoryBound(to: soft_jump_entry.self)
    place += Self.jumps
    cpu.pointee.cache.no_page = place.assumingMemoryBound(to: soft_page.self)
  }
}
