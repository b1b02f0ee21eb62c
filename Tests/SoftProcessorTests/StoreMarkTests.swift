import CSoftProcessor
import GuestMemory
import Processor
import SoftProcessor
import Testing

/// What processors write is marked, also while marks are taken, and time that stands still.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct StoreMarkTests {
  private static let page: UInt64 = 0x400000

  @Test("Pages are marked by stores of every kind, and not by loads") func kinds() throws {
    let fixture = try SharedFixture(count: 1)
    try fixture.board.startDirtyTracking()
    let log = try fixture.run(
      """
      movl $0x400000, %ebx
      movl 0x5000(%rbx), %eax
      movb %al, (%rbx)
      movl %eax, 0x1FFE(%rbx)
      lock incl 0x3000(%rbx)
      movl $0x404000, %edi
      movl $0x1001, %ecx
      rep stosb
      movq %cr3, %rax
      movq %rax, %cr3
      incq 0x7000(%rbx)
      outb %al, $0xF4
      1: hlt
      jmp 1b
      """)
    #expect(log != nil)
    let pages = try #require(fixture.board.takeDirtyPages(ofRegion: 0, isStopped: true))
    let marked = (0..<9).filter { pages.contains(FrameNumber(rawValue: 0x400 + $0)) }
    #expect(marked == [0, 1, 2, 3, 4, 5, 7])
    // The program was written before the processor ran, by somebody else.
    #expect(!pages.contains(FrameNumber(rawValue: 0x800)))
    let again = try #require(fixture.board.takeDirtyPages(ofRegion: 0, isStopped: true))
    #expect(again.dirtyCount == 0)
  }

  /// Four processors count in pages of their own and in shared ones, with and without flushes. A copy is kept by taking
  /// marks while they run; the last round makes it equal to the memory.
  @Test("A copy that follows the marks of running processors ends equal") func rounds() throws {
    let fixture = try SharedFixture(count: 4)
    let memory = fixture.memory
    try fixture.board.startDirtyTracking()
    var copy = [UInt8](repeating: 0, count: Int(memory.size))
    // What the fixture writes before the start is not marked.
    var rounds = 0
    func follow(isStopped: Bool) throws {
      let pages = try #require(
        fixture.board.takeDirtyPages(ofRegion: 0, isStopped: isStopped))
      try pages.forEachRun { (run: Range<UInt64>) throws in
        let bytes = try memory.bytes(
          at: GuestAddress(run.lowerBound << 12), count: run.count << 12)
        copy.replaceSubrange(
          Int(run.lowerBound) << 12..<Int(run.upperBound) << 12, with: bytes)
      }
      rounds += 1
    }
    let log = try fixture.run(
      """
      movl %edi, %ebp
      shll $16, %ebp
      addl $0x400000, %ebp
      movl $60000, %r8d
      1: movl %r8d, %eax
      imull $0x9E3779B1, %eax, %eax
      shrl $20, %eax
      movl %eax, %ecx
      andl $0xFFF8, %ecx
      incq (%rbp,%rcx,8)
      lock incq 0x480000(,%rcx,8)
      testb $31, %r8b
      jnz 2f
      testb $1, %dil
      jz 2f
      movq %cr3, %rax
      movq %rax, %cr3
      2: decl %r8d
      jnz 1b
      outb %al, $0xF4
      3: hlt
      jmp 3b
      """,
      meanwhile: { try follow(isStopped: false) })
    #expect(log != nil)
    try follow(isStopped: true)
    let (start, count) = (0x400000, 0xC0000)
    let now = try memory.bytes(at: GuestAddress(UInt64(start)), count: count)
    let isEqual = Array(copy[start..<start + count]) == now
    #expect(isEqual)
    #expect(rounds > 3)
  }

  @Test("Time that stands still moves neither counters nor timers, and goes on where it was")
  func stoppedTime() throws {
    let fixture = try APICFixture(count: 2)
    let board = fixture.board
    fixture.apics[0].writePage(APICFixture.Register.divide, value: 0xB)
    fixture.apics[0].writePage(APICFixture.Register.timer, value: 0x40)
    // 50 ms at 1 GHz.
    fixture.apics[0].writePage(APICFixture.Register.initialCount, value: 50_000_000)
    board.stopTime()
    let count = fixture.apics[0].readPage(APICFixture.Register.currentCount, size: 4)
    let clock = board.clock.now
    #expect(!fixture.waitForInterrupt(0, seconds: 0.15))
    #expect(fixture.apics[0].readPage(APICFixture.Register.currentCount, size: 4) == count)
    #expect(board.clock.now == clock)
    let offset = fixture.cpus[0].pointee.tsc_offset
    board.continueTime()
    // The guest's counter goes on from where it stood: the offset took up what passed.
    #expect(offset &- fixture.cpus[0].pointee.tsc_offset > 1_000_000)
    #expect(fixture.cpus[0].pointee.tsc_offset == fixture.cpus[1].pointee.tsc_offset)
    #expect(board.clock.now - clock < 50_000_000)
    #expect(fixture.waitForInterrupt(0, seconds: 2))
  }

  /// A program of integer, vector and x87 arithmetic, stopped wherever it is, again and again, each time in another
  /// machine, ends as if it had run through.
  @Test("A program goes on in another machine from any instruction") func transfer() throws {
    let program = """
      movq %cr0, %rax
      andl $~4, %eax
      movq %rax, %cr0
      movq %cr4, %rax
      orl $0x600, %eax
      movq %rax, %cr4
      fninit
      fld1
      fldz
      movl $400000, %ecx
      movl $1, %ebx
      movq %rbx, %xmm1
      1: imulq $0x5851F42D, %rbx, %rbx
      addq $0x14057B7E, %rbx
      adcq %rbx, %r9
      rcrq $7, %r9
      paddq %xmm1, %xmm0
      pshufd $0x93, %xmm0, %xmm0
      movq %rbx, %xmm1
      fadd %st(1), %st(0)
      decl %ecx
      jnz 1b
      fistpl 0x400000
      movl 0x400000, %eax
      outl %eax, $0xE0
      movl %ebx, %eax
      outl %eax, $0xE0
      movl %r9d, %eax
      outl %eax, $0xE0
      movd %xmm0, %eax
      outl %eax, $0xE0
      outb %al, $0xF4
      2: hlt
      jmp 2b
      """
    let straight = try SharedFixture(count: 1)
    let outcome = try straight.run(program)
    let expected = try #require(outcome)
    #expect(expected.first == 400000)

    var fixture = try SharedFixture(count: 1)
    try fixture.load(program)
    var moves = 0
    // What it has printed before a move stays with the machine that it left.
    var log: [UInt32] = []
    while try !fixture.step(seconds: 0.002), moves < 10000 {
      log += fixture.log
      let next = try SharedFixture(count: 1)
      let bytes = try fixture.memory.bytes(
        at: GuestAddress(0), count: Int(fixture.memory.size))
      try next.memory.write(bytes, at: GuestAddress(0))
      try next.processors[0].restoreState(try fixture.processors[0].saveState())
      fixture = next
      moves += 1
    }
    #expect(log + fixture.log == expected)
    #expect(moves > 0)
  }
}
