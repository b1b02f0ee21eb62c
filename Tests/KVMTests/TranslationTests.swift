import GuestMemory
import KVM
import Testing

/// What the guest's page tables say of an address.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"))
struct TranslationTests {
  @Test func addressesFollowTheGuestsTables() throws {
    let guest = try Guest([])
    try guest.startReal()
    #expect(try guest.processor.translate(0x1234) == GuestAddress(0x1234))
    try guest.startLong()
    // The second 2 MiB show the first, with the third there is none.
    guest.memory.store(UInt64(0x83), at: Guest.tables &+ 0x2008)
    guest.memory.store(UInt64(0), at: Guest.tables &+ 0x2010)
    #expect(try guest.processor.translate(0x1234) == GuestAddress(0x1234))
    #expect(try guest.processor.translate(0x20_1234) == GuestAddress(0x1234))
    #expect(try guest.processor.translate(0x40_1234) == nil)
  }
}
