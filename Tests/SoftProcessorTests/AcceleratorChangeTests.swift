// One guest that runs in the kernel's processor and in software by turns, with all of its state.

import Glibc
import GuestMemory
import KVM
import Platform
import Processor
import SoftProcessor
import Testing

private let hasKVM =
  if access(KVMSystem.defaultPath, R_OK | W_OK) == 0 {
    if case .unavailable = KVMSystem.probe() { false } else { true }
  } else {
    false
  }

@Suite(
  "A guest moves between KVM and software",
  .enabled(if: Assembler.isPresent, "the assembler is missing"),
  .enabled(if: hasKVM, "this host's KVM runs no guest"))
struct AcceleratorChangeTests {
  private static let tables: UInt64 = 0x1000
  private static let results: UInt64 = 0x40_0000
  private static let resultSize = 0x100
  /// Set by the program at its end.
  private static let flag: UInt64 = 0x48_0000

  /// Integer, x87 and vector arithmetic for a while, with the upper halves of the vector registers where the host has
  /// them. At CPL 3, which every KVM executes itself.
  private static func program(hasAVX: Bool) -> String {
    """
    .globl _start
    _start:
    movl $\(tables), %esp
    fninit
    fld1
    fldz
    movl $8000000, %ecx
    movl $1, %ebx
    movq %rbx, %xmm1
    pxor %xmm0, %xmm0
    \(hasAVX ? "vinsertf128 $1, %xmm1, %ymm1, %ymm1\n vxorpd %ymm0, %ymm0, %ymm0" : "")
    1: imulq $0x5851F42D, %rbx, %rbx
    addq $0x14057B7E, %rbx
    adcq %rbx, %r9
    rcrq $7, %r9
    movq %r9, %xmm2
    \(hasAVX
      ? "vpaddq %ymm1, %ymm0, %ymm0\n vpermq $0x93, %ymm0, %ymm0\n vpaddq %ymm2, %ymm0, %ymm0"
      : "paddq %xmm1, %xmm0\n pshufd $0x93, %xmm0, %xmm0\n paddq %xmm2, %xmm0")
    fadd %st(1), %st(0)
    decl %ecx
    jnz 1b
    movl $\(results), %edi
    fistpl (%rdi)
    movq %rbx, 8(%rdi)
    movq %r9, 16(%rdi)
    \(hasAVX ? "vmovdqu %ymm0, 32(%rdi)\n vmovdqu %ymm1, 64(%rdi)" : "movdqu %xmm0, 32(%rdi)")
    movl $1, \(flag)
    2: jmp 2b
    """
  }

  private func start(_ memory: GuestMemory, hasAVX: Bool) throws -> ProcessorState {
    try memory.write(
      try Assembler.assemble(Self.program(hasAVX: hasAVX), bits: 64),
      at: GuestAddress(SystemFixture.origin))
    try memory.write(
      [UInt8](repeating: 0, count: Self.resultSize), at: GuestAddress(Self.results))
    memory.store(0 as UInt64, at: GuestAddress(Self.flag))
    // 2 MiB pages for user mode.
    memory.store(0x2007 as UInt64, at: GuestAddress(Self.tables))
    memory.store(0x3007 as UInt64, at: GuestAddress(0x2000))
    for page in 0..<8 as Range<UInt64> {
      memory.store(page << 21 | 0x87, at: GuestAddress(0x3000 + page * 8))
    }
    var state = ProcessorState.long64(
      entry: SystemFixture.origin, pageTable: Self.tables, stackPointer: 0x8000)
    for path in [
      \ProcessorState.codeSegment, \.dataSegment, \.extraSegment, \.extraSegmentF, \.extraSegmentG,
      \.stackSegment,
    ] {
      state[keyPath: path].privilegeLevel = 3
      state[keyPath: path].selector |= 3
    }
    state.control0 |= 2
    // OSFXSR, OSXMMEXCPT; OSXSAVE.
    state.control4 |= hasAVX ? 0x4_0600 : 0x600
    if hasAVX { state.extendedControls = [IndexedRegister(index: 0, value: 7)] }
    return state
  }

  /// Runs a processor for about a millisecond, and longer in software, where a guest gets less far.
  private func run(_ processor: any Processor, _ microseconds: UInt32) throws {
    let thread = try PosixThread(name: "test pulse") {
      usleep(microseconds)
      processor.interrupt()
    }
    defer { thread.join() }
    while true {
      switch try processor.run() {
      case .interrupted: return
      case .failure, .shutdown: throw ProcessorError("\(try processor.saveState().dump)")
      default: break
      }
    }
  }

  private func isDone(_ memory: GuestMemory) throws -> Bool {
    try memory.bytes(at: GuestAddress(Self.flag), count: 1) == [1]
  }

  @Test("from one to the other and back, with integer, x87 and vector registers")
  func thereAndBack() throws {
    let hasAVX = SoftProcessorFeatures.supportedLeaves.contains {
      $0.function == 1 && $0.ecx & 1 << 28 != 0
    }
    let alone = try SystemFixture()
    try alone.processor.restoreState(try start(alone.memory, hasAVX: hasAVX))
    let limit = MonotonicClock.now + 60_000_000_000
    while try !isDone(alone.memory), MonotonicClock.now < limit { try run(alone.processor, 10_000) }
    let expected = try alone.memory.bytes(at: GuestAddress(Self.results), count: Self.resultSize)
    #expect(expected[0..<4] == [0, 0x12, 0x7A, 0])

    let software = try SystemFixture()
    let memory = software.memory
    let system = try KVMSystem()
    let machine = try system.makeVirtualMachine()
    try machine.setMemory(memory)
    try machine.createInterruptChips()
    let kernel = try machine.makeProcessor(index: 0)
    try kernel.setLeaves(CPUIDPolicy().leaves(supported: system.supportedLeaves, index: 0))

    try kernel.restoreState(try start(memory, hasAVX: hasAVX))
    var moves = 0
    while MonotonicClock.now < limit {
      try run(kernel, 500)
      if try isDone(memory) { break }
      try software.processor.restoreState(try kernel.saveState())
      try run(software.processor, 5000)
      if try isDone(memory) { break }
      try kernel.restoreState(try software.processor.saveState())
      moves += 1
    }
    let found = try memory.bytes(at: GuestAddress(Self.results), count: Self.resultSize)
    let isEqual = found == expected
    #expect(isEqual, "\(found)\n\(expected)")
    #expect(moves > 0, "the program ended before it moved")
  }
}
