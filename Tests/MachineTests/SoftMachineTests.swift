import GuestMemory
import Machine
import Platform
import TestGuests
import Testing

/// Whole machines whose processors are software: they need no KVM.
@Suite(
  .serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct SoftMachineTests {
  private func kernel(_ guest: TestGuest) throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .soft
    configuration.memorySize = 64 << 20
    configuration.boot = .kernel(path: try guest.path(), initrd: nil, commandLine: "hello world")
    return configuration
  }

  @Test(
    "Guests of 32 and 64 bit print, count ticks, take serial interrupts, power off",
    arguments: [(TestGuest.multiboot32, "20 bit, multiboot"), (.bzImage64, "40 bit, bzImage")])
  func guests(guest: TestGuest, words: String) throws {
    let conversation = try GuestConversation(try kernel(guest))
    #expect(conversation.machine.acceleratorDescription.hasPrefix("soft"))
    let text = try conversation.expect("> ")
    #expect(text.contains("underjack test guest, \(words), memory "))
    #expect(text.contains("hello world'"))
    let start = MonotonicClock.now
    conversation.send("t")
    try conversation.expect("ticks a\r\n")
    let milliseconds = (MonotonicClock.now - start) / 1_000_000
    #expect((80...1500).contains(milliseconds), "ten ticks took \(milliseconds) ms")
    conversation.send("u")
    try conversation.expect("waiting\r\n")
    conversation.send("The quick brown fox.")
    try conversation.expect("got The quick brown fox.\r\n")
    conversation.send("p")
    #expect(try conversation.end() == .powerOff)
  }

  @Test("A 16-bit firmware starts at the reset vector and takes interrupts of the 8259A")
  func realMode() throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .soft
    configuration.memorySize = 16 << 20
    configuration.boot = .firmware(path: try TestGuest.firmware16.path())
    let conversation = try GuestConversation(configuration)
    try conversation.expect("underjack test guest, 10 bit, firmware\r\n")
    try conversation.expect("ticks a\r\n")
    conversation.send("k")
    try conversation.expect("got k\r\n")
    #expect(try conversation.end() == .powerOff)
  }

  @Test("A reset and a triple fault start the guest again", arguments: ["x", "f"])
  func reset(key: String) throws {
    let conversation = try GuestConversation(try kernel(.multiboot32))
    try conversation.expect("> ")
    conversation.send(key)
    try conversation.expect("underjack test guest")
    try conversation.expect("> ")
    conversation.send("p")
    #expect(try conversation.end() == .powerOff)
  }

  @Test("SeaBIOS finds nothing to boot, and waits without using the host's processor")
  func firmware() throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .soft
    let conversation = try GuestConversation(configuration)
    let text = try conversation.expect("No bootable device", seconds: 60)
    #expect(text.contains("SeaBIOS (version"))
  }

  @Test("Pause stops the guest, resume goes on") func pause() throws {
    let conversation = try GuestConversation(try kernel(.bzImage64))
    try conversation.expect("> ")
    conversation.machine.pause()
    let deadline = MonotonicClock.now + 5_000_000_000
    while conversation.machine.runState != .paused && MonotonicClock.now < deadline {
      pauseThread()
    }
    #expect(conversation.machine.runState == .paused)
    conversation.send("u")
    #expect(throws: TestGuestError.self) { try conversation.expect("waiting", seconds: 0.3) }
    conversation.machine.resume()
    try conversation.expect("waiting")
  }

  @Test("A guest that waits for a key costs under one percent of a core") func idle() throws {
    let conversation = try GuestConversation(try kernel(.bzImage64))
    try conversation.expect("> ")
    conversation.send("u")
    try conversation.expect("waiting")
    let before = conversation.machine.statistics()
    let moment = Monitor(())
    _ = moment.wait(until: MonotonicClock.now + 1_000_000_000) { _ -> Bool? in nil }
    let after = conversation.machine.statistics()
    #expect(after.processorTime - before.processorTime < 10_000_000)
  }
}
