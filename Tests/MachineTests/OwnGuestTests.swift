import GuestMemory
import Machine
import Platform
import TestGuests
import Testing

/// Programs of our own through the whole machine: processor, buses, chips, loaders.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct OwnGuestTests {
  private func kernel(_ guest: TestGuest, commandLine: String = "hello world") throws
    -> MachineConfiguration
  {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    configuration.memorySize = 64 << 20
    configuration.boot = .kernel(
      path: try guest.path(), initrd: nil, commandLine: commandLine)
    return configuration
  }

  @Test(
    "a multiboot guest and a bzImage guest print over COM1, with their command line",
    arguments: [(TestGuest.multiboot32, "20 bit, multiboot"), (.bzImage64, "40 bit, bzImage")])
  func printsOverSerial(guest: TestGuest, words: String) throws {
    let conversation = try GuestConversation(try kernel(guest))
    let text = try conversation.expect("> ")
    #expect(text.contains("underjack test guest, \(words), memory "))
    #expect(text.contains("hello world'"))
  }

  @Test("PIT interrupts arrive at 100 Hz", arguments: [TestGuest.multiboot32, .bzImage64])
  func timerInterrupts(guest: TestGuest) throws {
    let conversation = try GuestConversation(try kernel(guest))
    try conversation.expect("> ")
    let start = MonotonicClock.now
    conversation.send("t")
    try conversation.expect("ticks a\r\n")
    let milliseconds = (MonotonicClock.now - start) / 1_000_000
    #expect((80...1500).contains(milliseconds), "ten ticks took \(milliseconds) ms")
  }

  @Test(
    "UART receive interrupts bring every byte in order",
    arguments: [TestGuest.multiboot32, .bzImage64])
  func serialInterrupts(guest: TestGuest) throws {
    let conversation = try GuestConversation(try kernel(guest))
    try conversation.expect("> ")
    conversation.send("u")
    try conversation.expect("waiting\r\n")
    let text = "The quick brown fox jumps over the lazy dog"
    conversation.send(text + ".")
    try conversation.expect("got \(text).\r\n")
  }

  @Test("a 16-bit firmware of our own starts at the reset vector and takes interrupts")
  func realMode() throws {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .kvm
    configuration.memorySize = 16 << 20
    configuration.boot = .firmware(path: try TestGuest.firmware16.path())
    let conversation = try GuestConversation(configuration)
    try conversation.expect("underjack test guest, 10 bit, firmware\r\n")
    try conversation.expect("ticks a\r\n")
    conversation.send("k")
    try conversation.expect("got k\r\n")
    #expect(try conversation.end() == .powerOff)
  }

  @Test("power-off through ACPI ends the run", arguments: [TestGuest.multiboot32, .bzImage64])
  func powerOff(guest: TestGuest) throws {
    let conversation = try GuestConversation(try kernel(guest))
    try conversation.expect("> ")
    conversation.send("p")
    #expect(try conversation.end() == .powerOff)
    #expect(conversation.machine.runState == .stopped)
  }

  @Test("a reset and a triple fault start the guest again", arguments: ["x", "f"])
  func reset(key: String) throws {
    let conversation = try GuestConversation(try kernel(.multiboot32))
    try conversation.expect("> ")
    conversation.send(key)
    try conversation.expect("underjack test guest")
    try conversation.expect("> ")
    conversation.send("p")
    #expect(try conversation.end() == .powerOff)
  }

  @Test("with stopsOnReset a reset ends the run") func stopsOnReset() throws {
    var configuration = try kernel(.multiboot32)
    configuration.stopsOnReset = true
    let conversation = try GuestConversation(configuration)
    try conversation.expect("> ")
    conversation.send("x")
    #expect(try conversation.end() == .reset)
  }

  @Test("the debug exit port ends the run with its status") func debugExit() throws {
    var configuration = try kernel(.multiboot32)
    configuration.hasDebugExit = true
    let conversation = try GuestConversation(configuration)
    try conversation.expect("> ")
    conversation.send("d")
    #expect(try conversation.end() == .debugExit(status: 43))
  }

  @Test("pause stops the guest's time, resume goes on where it was") func pauseAndResume() throws {
    let conversation = try GuestConversation(try kernel(.multiboot32))
    try conversation.expect("> ")
    conversation.machine.pause()
    let deadline = MonotonicClock.now + 2_000_000_000
    while conversation.machine.runState != .paused && MonotonicClock.now < deadline {}
    #expect(conversation.machine.runState == .paused)
    let before = conversation.machine.statistics()
    conversation.send("u")
    #expect(throws: TestGuestError.self) { try conversation.expect("waiting", seconds: 0.3) }
    #expect(conversation.machine.statistics().uptime == before.uptime)
    conversation.machine.resume()
    try conversation.expect("waiting")
    conversation.send("x.")
    try conversation.expect("got x.")
  }

  @Test("stop ends a guest that never looks up") func stop() throws {
    let conversation = try GuestConversation(try kernel(.multiboot32))
    try conversation.expect("> ")
    conversation.send("h")
    conversation.machine.stop()
    #expect(try conversation.end(seconds: 1) == .stopped)
  }
}
