import GuestMemory
import KVM
import Processor
import Testing

/// What the guest does and what `run` says about it.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"), .timeLimit(.minutes(1)))
struct ExitTests {
  @Test func realModePortWriteAndHalt() throws {
    let guest = try Guest([
      0xBA, 0xF8, 0x03,  // mov dx, 0x3F8
      0xB0, 0x41,  // mov al, 'A'
      0xEE,  // out dx, al
      0xF4,  // hlt
    ])
    try guest.startReal()
    let (output, end) = try guest.collect()
    #expect(output == [.init(port: 0x3F8, value: 0x41)])
    #expect(end.isHalt)
  }
}
