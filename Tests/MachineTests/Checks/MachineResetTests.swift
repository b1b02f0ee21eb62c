import Machine
import TestGuests
import Testing

/// The ways in which a guest ends or starts again, with all processors running.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct MachineResetTests {
  @Test(
    "0xCF9, port 0x92, the keyboard controller and a triple fault reset; S5 switches off",
    arguments: [
      CheckMachine.Setup(entry: .pvh, processors: 2, chip: .kernel),
      .init(entry: .firmware, processors: 4, chip: .split),
      .init(entry: .linux64, chip: .split),
    ])
  func resets(_ setup: CheckMachine.Setup) throws {
    let machine = try CheckMachine(setup)
    // Before each reset the other processors run, masks and routes are set: the next boot must find a fresh machine.
    let words = ["only", "smp", "tables", "pci"]
    for key in ["x", "a", "k", "f"] {
      let report = try machine.check(words)
      #expect(report.brokeOff == nil && report.failed.isEmpty, "before \(key): \(report)")
      machine.send(key)
    }
    let report = try machine.check(words)
    #expect(report.brokeOff == nil && report.failed.isEmpty, "\(report)")
    machine.send("p")
    #expect(machine.end() == .powerOff)
  }

  @Test("the debug exit port ends the run from 64-bit code") func debugExit() throws {
    let machine = try CheckMachine(.init(entry: .linux64, processors: 2))
    let report = try machine.check(["quick"])
    #expect(report.brokeOff == nil)
    machine.send("d")
    #expect(machine.end() == .debugExit(status: 43))
  }
}
