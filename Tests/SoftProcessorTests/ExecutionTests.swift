import Glibc
import GuestMemory
import Platform
import Processor
import SoftProcessor
import Testing

/// How code is decoded, kept and run: code that changes, code over page ends, repeated string instructions, LOCK, and
/// random bytes.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct ExecutionTests {
  /// Runs 64-bit code in a flat space of 4 GiB; the program's log.
  private func run(_ body: String) throws -> [UInt32] {
    let code = try Assembler.assemble(".globl _start\n_start:\n" + body, bits: 64)
    let fixture = try SystemFixture()
    let outcome = try fixture.run(code, from: try Self.state(fixture.memory))
    #expect(outcome.end == .finished)
    return outcome.log
  }

  /// Long mode with pages of 1 GiB; the second GiB shows the first again.
  private static func state(_ memory: GuestMemory) throws -> ProcessorState {
    memory.store(0x2007 as UInt64, at: GuestAddress(0x1000))
    memory.store(0x87 as UInt64, at: GuestAddress(0x2000))
    memory.store(0x87 as UInt64, at: GuestAddress(0x2008))
    return .long64(entry: SystemFixture.origin, pageTable: 0x1000, stackPointer: 0x80000)
  }

  @Test("A store into the code that runs next is seen by the next instruction")
  func storeAhead() throws {
    let log = try run(
      """
      movb $7, value+1(%rip)
      value: movb $1, %al
      movzbl %al, %eax
      outl %eax, $0xE0
      outb %al, $0xF4
      hlt
      """)
    #expect(log == [7])
  }

  @Test("Code that was run is decoded again after a store through another mapping of its page")
  func aliasStore() throws {
    let log = try run(
      """
      movl $3, %ecx
      1: call routine
      outl %eax, $0xE0
      addb $1, routine+1+0x40000000
      loop 1b
      outb %al, $0xF4
      hlt
      .balign 4096
      routine: movl $5, %eax
      ret
      """)
    #expect(log == [5, 6, 7])
  }

  @Test("An instruction over the end of a page follows changes of either page")
  func acrossPages() throws {
    let log = try run(
      """
      call routine
      outl %eax, $0xE0
      movb $0x22, routine+1
      movb $0x44, routine+4
      call routine
      outl %eax, $0xE0
      outb %al, $0xF4
      hlt
      .balign 4096
      .skip 4093
      routine: movl $0x11, %eax
      ret
      """)
    #expect(log == [0x11, 0x4400_0022])
  }

  @Test("REP MOVS repeats what it has copied when the target follows the source closely")
  func overlap() throws {
    let log = try run(
      """
      movl $0x200000, %edi
      movl $0x04030201, (%rdi)
      lea (%rdi), %rsi
      add $4, %rdi
      movl $5000, %ecx
      rep movsb
      movl 0x201380, %eax
      outl %eax, $0xE0
      movl %ecx, %eax
      outl %eax, $0xE0
      movl %edi, %eax
      outl %eax, $0xE0
      # Backwards over two pages.
      movl $0x200FFF, %esi
      movl $0x203001, %edi
      movb $0x5A, (%rsi)
      movl $3, %ecx
      std
      rep movsb
      cld
      movzbl 0x203001, %eax
      outl %eax, $0xE0
      movl %esi, %eax
      outl %eax, $0xE0
      outb %al, $0xF4
      hlt
      """)
    #expect(log == [0x0403_0201, 0, 0x20_138C, 0x5A, 0x20_0FFC])
  }

  @Test("Locked operations work at any alignment, also over the end of a page")
  func locked() throws {
    let log = try run(
      """
      movl $0x200FFE, %edi
      movl $0xFFFFFFFF, (%rdi)
      lock addl $2, (%rdi)
      setc %al
      movzbl %al, %eax
      outl %eax, $0xE0
      movl (%rdi), %eax
      outl %eax, $0xE0
      movl $1, %eax
      movl $9, %ebx
      lock cmpxchgl %ebx, (%rdi)
      setz %al
      movzbl %al, %eax
      outl %eax, $0xE0
      movl (%rdi), %eax
      outl %eax, $0xE0
      movl $1, %ecx
      lock xaddl %ecx, (%rdi)
      movl %ecx, %eax
      outl %eax, $0xE0
      outb %al, $0xF4
      hlt
      """)
    #expect(log == [1, 1, 1, 9, 9])
  }

  @Test("A stack whose code page is written by pushes stays right")
  func pushesOverCode() throws {
    let log = try run(
      """
      lea stack(%rip), %rsp
      movl $100, %ecx
      1: push %rcx
      pop %rax
      loop 1b
      outl %eax, $0xE0
      outb %al, $0xF4
      hlt
      .skip 64
      stack: nop
      """)
    #expect(log == [1])
  }

  @Test(
    "Random bytes as code leave the process running, in every mode",
    arguments: ["real", "32", "64"])
  func randomBytes(mode: String) throws {
    var generator = Generator(state: 0x1234_5678_9ABC_DEF1)
    let fixture = try SystemFixture()
    for _ in 0..<300 {
      let state: ProcessorState
      switch mode {
      case "real":
        var real = ProcessorState()
        real.codeSegment.base = SystemFixture.origin
        real.codeSegment.selector = 0x1000
        real.instructionPointer = 0
        state = real
      case "32": state = .flat32(entry: UInt32(SystemFixture.origin), codeSelector: 0x08)
      default: state = try Self.state(fixture.memory)
      }
      let bytes = (0..<4096).map { _ in UInt8(truncatingIfNeeded: generator.next() >> 24) }
      try fixture.memory.write(bytes, at: GuestAddress(SystemFixture.origin))
      try fixture.processor.restoreState(state)
      try fixture.runBriefly(milliseconds: 10)
    }
  }

  private struct Generator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }
  }
}

extension SystemFixture {
  /// Runs whatever is there and stops it from another thread.
  func runBriefly(milliseconds: UInt32) throws {
    let processor = processor
    let thread = try PosixThread(name: "stop") {
      usleep(milliseconds * 1000)
      processor.interrupt()
    }
    defer { thread.join() }
    while true {
      if case .interrupted = try processor.run() { return }
    }
  }
}
