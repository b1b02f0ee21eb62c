import Machine
import Testing

/// Debian's SeaBIOS on the board.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct FirmwareBootTests {
  @Test("SeaBIOS finds nothing to boot and says so on the serial port")
  func nothingToBoot() throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    let conversation = try GuestConversation(configuration)
    let text = try conversation.expect("No bootable device", seconds: 30)
    #expect(text.contains("SeaBIOS (version"))
  }
}
