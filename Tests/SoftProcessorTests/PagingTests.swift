import Processor
import Testing

/// Paging of 32 bits and PAE: which bits are set, which accesses fault, and with which error code.
@Suite(.enabled(if: Assembler.isPresent, "needs /usr/bin/as and /usr/bin/ld"), .serialized)
struct PagingTests {
  private func run(_ body: String) throws -> [UInt32] {
    let code = try Assembler.assemble(SystemProgram32.source(body), bits: 32)
    let fixture = try SystemFixture()
    let outcome = try fixture.run(
      code, from: .flat32(entry: UInt32(SystemFixture.origin), codeSelector: 0x08))
    #expect(outcome.end == .finished)
    return outcome.log
  }

  /// Directory at 0x100000, one table at 0x101000 for the first 4 MiB, all writable for users, then paging on.
  private static let tables32 = """
      movl $0x101000, %edi
      movl $7, %eax
      movl $1024, %ecx
    1: movl %eax, (%edi)
      addl $4, %edi
      addl $0x1000, %eax
      loop 1b
      movl $0x101007, 0x100000
      movl $0x100000, %eax
      movl %eax, %cr3
      movl %cr0, %eax
      orl $0x80010000, %eax
      movl %eax, %cr0
    """

  @Test func accessedDirtyAndErrorCodes() throws {
    let log = try run(
      Self.tables32 + """

          # Page 0x200 (0x200000): nothing touched it.
          LOG 0x101800
          movl 0x200000, %eax
          LOG 0x101800
          movl $1, 0x200000
          LOG 0x101800
          movl 0x100000, %eax
          andl $0x60, %eax
          LOG %eax
          # Not present.
          movl $0, 0x101804
          EXPECT 1f
          movl 0x201004, %eax
        1: EXPECT 1f
          movl $1, 0x201008
          # A fault across pages names the second page.
        1: EXPECT 1f
          movl 0x200FFE, %eax
        1: # Read-only, with WP and without.
          movl $0x202005, 0x101808
          EXPECT 1f
          movl $1, 0x202000
        1: movl %cr0, %eax
          andl $~0x10000, %eax
          movl %eax, %cr0
          movl $0x1357, 0x202000
          LOG 0x101808
          LOG 0x202000
          # The buffer may keep a translation until INVLPG.
          movl $0x203007, 0x101808
          invlpg 0x202000
          movl $0x2468, 0x203000
          LOG 0x202000
          jmp finish
        """)
    let expected: [UInt32] = [
      0x200007, 0x200027, 0x200067, 0x20, 0xE00E, 0, 0x201004, 0xE00E, 2, 0x201008, 0xE00E, 0,
      0x201000, 0xE00E, 3, 0x202000, 0x202065, 0x1357, 0x2468,
    ]
    #expect(log == expected)
  }

  @Test func usersAreKeptOut() throws {
    let log = try run(
      Self.tables32 + """

          movl $0x204003, 0x101810
          movl $0x205005, 0x101814
          movl $0, 0x101818
          # IOPL 3, so that the program can log.
          pushl $0x23
          pushl $0x8F000
          pushl $0x3002
          pushl $0x1B
          pushl $outer
          iret
        outer:
          movl $0x23, %eax
          movw %ax, %ds
          movw %ax, %es
          EXPECT 1f
          movl 0x204000, %eax
        1: EXPECT 1f
          movl %eax, 0x204000
        1: EXPECT 1f
          movl %eax, 0x205000
        1: EXPECT 1f
          movl 0x206000, %eax
        1: EXPECT 1f
          jmp *target
        1: jmp finish
        target: .long 0x204000
        """)
    let expected: [UInt32] = [
      0xE00E, 5, 0x204000, 0xE00E, 7, 0x204000, 0xE00E, 7, 0x205000, 0xE00E, 4, 0x206000, 0xE00E,
      5, 0x204000,
    ]
    #expect(log == expected)
  }

  @Test func largePagesOf4MiB() throws {
    let log = try run(
      Self.tables32 + """

          movl %cr4, %eax
          orl $0x10, %eax
          movl %eax, %cr4
          # 8 MiB at 4 MiB; 12 MiB with the reserved bit.
          movl $0x00800087, 0x100004
          movl $0x00A00087, 0x100008
          movl $0x5A5A, 0x0040C000
          movl $0x00C00087, 0x100004
          invlpg 0x00400000
          movl 0x100004, %eax
          LOG %eax
          movl $0x00800087, 0x10000C
          LOG 0x00C0C000
          EXPECT 1f
          movl 0x00800000, %eax
        1: jmp finish
        """)
    let expected: [UInt32] = [0x00C0_0087, 0x5A5A, 0xE00E, 9, 0x0080_0000]
    #expect(log == expected)
  }

  /// PAE: pointers at 0x100000, directory at 0x101000 with 2 MiB pages for 8 MiB, one table at 0x102000 for 2 MiB on.
  private static let tablesPAE = """
      movl $0x101001, 0x100000
      movl $0, 0x100004
      movl $0x00000087, 0x101000
      movl $0, 0x101004
      movl $0x00102007, 0x101008
      movl $0, 0x10100C
      movl $0x102000, %edi
      movl $0x200007, %eax
      movl $512, %ecx
    1: movl %eax, (%edi)
      movl $0, 4(%edi)
      addl $8, %edi
      addl $0x1000, %eax
      loop 1b
      movl $0x100000, %eax
      movl %eax, %cr3
      movl $0x20, %eax
      movl %eax, %cr4
      movl $0xC0000080, %ecx
      movl $0x800, %eax
      xorl %edx, %edx
      wrmsr
      movl %cr0, %eax
      orl $0x80010000, %eax
      movl %eax, %cr0
    """

  @Test func noExecuteAndReservedBits() throws {
    let log = try run(
      Self.tablesPAE + """

          movb $0xC3, 0x203000
          movl $0x203000, %ebx
          call *%ebx
          # No execution.
          movl $0x80000000, 0x10201C
          invlpg 0x203000
          EXPECT 1f
          call *%ebx
        1: LOG 0x203000
          # A reserved bit of the address.
          movl $0x40000000, 0x102024
          EXPECT 1f
          movl 0x204000, %eax
        1: movl 0x101000, %eax
          LOG %eax
          # The pointers are held in the processor: changing memory does nothing.
          movl $0, 0x100000
          invlpg 0x0
          LOG 0x203000
          # Reserved bits of a pointer are refused when CR3 is written.
          movl $0x101007, 0x100000
          EXPECT 1f
          movl $0x100000, %eax
          movl %eax, %cr3
        1: jmp finish
        """)
    let expected: [UInt32] = [
      0xE00E, 0x11, 0x203000, 0xC3, 0xE00E, 9, 0x204000, 0xE7, 0xC3, 0xE00D, 0,
    ]
    #expect(log == expected)
  }

  @Test func supervisorsAreKeptFromUserPages() throws {
    let log = try run(
      Self.tablesPAE + """

          # The program's own pages belong to the supervisor now; 2 MiB on stay the user's.
          movl $0x00000083, 0x101000
          movl $0x100000, %eax
          movl %eax, %cr3
          movb $0xC3, 0x203000
          movl $0x203000, %ebx
          movl $0x300020, %eax
          movl %eax, %cr4
          EXPECT 1f
          call *%ebx
        1: EXPECT 1f
          movl 0x203000, %eax
        1: EXPECT 1f
          movl $1, 0x203004
        1: stac
          LOG 0x203000
          clac
          EXPECT 1f
          movl 0x203000, %eax
        1: # AC by POPF counts too.
          pushl $0x40002
          popfl
          LOG 0x203000
          jmp finish
        """)
    let expected: [UInt32] = [
      0xE00E, 0x11, 0x203000, 0xE00E, 1, 0x203000, 0xE00E, 3, 0x203004, 0xC3, 0xE00E, 1, 0x203000,
      0xC3,
    ]
    #expect(log == expected)
  }
}
