import CLinux
import Platform
import Testing

/// The programs that the kernel is given, run by a model of its machine.
@Suite struct SystemCallFilterTests {
  private let allowed: UInt32 = 0x7FFF_0000
  private let refused: UInt32 = 0x0003_0000
  private let ended: UInt32 = 0x0003_0001

  @Test func everyNumberGetsItsOwnAnswer() {
    var filter = SystemCallFilter()
    // Neighbours, gaps, the first and the last.
    let list: [Int32] = [0, 1, 3, 4, 5, 9, 100, 101, 330, 450, 0x3FFF_FFFF]
    filter.allow(list)
    filter.set(.fail(ENOSYS), [2, 435])
    filter.set(.end, [59, 101])
    for number in Array(0..<1000) + [0x3FFF_FFFE, 0x3FFF_FFFF] as [Int32] {
      let answer = filter.answer(number)
      let expected: UInt32 =
        switch number {
        case 2, 435: 0x0005_0000 | UInt32(ENOSYS)
        case 59, 101: ended
        case _ where list.contains(number): allowed
        default: refused
        }
      #expect(answer == expected, "\(number)")
    }
  }

  @Test func foreignInterfacesEnd() {
    var filter = SystemCallFilter(otherwise: .allow)
    filter.allow([0, 1])
    #expect(filter.answer(0x4000_0001) == ended)
    #expect(filter.answer(-1) == ended)
  }

  @Test func conditionsLookAtWhatTheKernelLooksAt() {
    var filter = SystemCallFilter()
    filter.allow(16, where: .wordIs(1, 0xAE80))
    filter.allow(16, where: .wordIs(1, 0x5413), .equals(2, 7))
    filter.allow(9, where: .wordHasNone(2, 4))
    filter.allow(9, where: .wordIs(2, 5), .wordMasked(3, 3, equals: 1))
    filter.allow(13, where: .wordIsNot(0, 31))
    #expect(filter.allows(16, [3, 0xAE80]))
    // The kernel cuts a request number to 32 bits: so does the filter, or one could be let in for another.
    #expect(filter.allows(16, [3, 0xFFFF_FFFF_0000_AE80]))
    #expect(!filter.allows(16, [3, 0x5412]))
    #expect(!filter.allows(16, [3, 0xFFFF_FFFF_0000_5412]))
    #expect(filter.allows(16, [3, 0x5413, 7]))
    #expect(!filter.allows(16, [3, 0x5413, 7 | 1 << 32]))
    #expect(filter.allows(9, [0, 4096, 3]))
    #expect(!filter.allows(9, [0, 4096, 7, 1]))
    #expect(!filter.allows(9, [0, 4096, 5, 2]))
    #expect(filter.allows(9, [0, 4096, 5, 1]))
    #expect(filter.allows(13, [9]))
    #expect(!filter.allows(13, [31]))
    #expect(!filter.allows(13, [31 | 1 << 32]))
  }

  /// More alternatives than a conditional jump reaches over.
  @Test func longListsAreReached() {
    var filter = SystemCallFilter()
    for request in 0..<400 as Range<UInt32> { filter.allow(16, where: .wordIs(1, request * 3)) }
    filter.allow([1])
    for request in 0..<1300 as Range<UInt64> {
      #expect(filter.allows(16, [0, request]) == (request % 3 == 0 && request < 1200))
    }
    #expect(filter.allows(1))
    #expect(!filter.allows(2))
    #expect(SystemCallFilter.Compiled(filter).count < 4096)
  }
}
