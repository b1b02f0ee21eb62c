import Glibc
import KVM
import Machine
import Platform
import TestGuests
import Testing

/// Machines that are saved in the middle of their work, and go on in another machine.
@Suite(
  .serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct SavedStateTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var accelerator: Accelerator
    var chip = InterruptChip.kernel
    var guest = TestGuest.multiboot32
    var testDescription: String { "\(accelerator), \(chip), \(guest)" }
  }

  private static let cases: [Case] = {
    var cases = [
      Case(accelerator: .soft), Case(accelerator: .soft, guest: .bzImage64),
    ]
    if GuestConversation.missing == nil {
      cases += [
        Case(accelerator: .kvm), Case(accelerator: .kvm, guest: .bzImage64),
      ]
    }
    // Kernels that emulate the guest's kernel mode lose interrupts now and then, without any saving too.
    if KVMSystem.probe() == .full { cases.append(Case(accelerator: .kvm, chip: .split)) }
    return cases
  }()

  private func configuration(_ what: Case) throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = what.accelerator
    configuration.interruptChip = what.chip
    configuration.memorySize = 64 << 20
    configuration.boot = .kernel(path: try what.guest.path(), initrd: nil, commandLine: "hello")
    return configuration
  }

  @Test(
    "What was typed and what was counted is there in the machine that goes on", arguments: cases)
  func goesOn(what: Case) throws {
    var configuration = try configuration(what)
    let path = try TestFolder.make("state") + "/memory.state"
    let first = try GuestConversation(configuration)
    try first.expect("> ")
    first.send("u")
    try first.expect("waiting")
    first.send("The quick")
    // The guest takes what is typed when its interrupts come.
    usleep(50_000)
    let uptime = first.machine.statistics().uptime
    _ = try first.machine.saveState(to: path, SaveOptions(ends: true)) {}
    #expect(try first.end() == .suspended)

    configuration.savedState = path
    for word in ["brown fox", "lazy dog"] {
      // More than once from one file: nothing is written to it.
      let next = try GuestConversation(configuration)
      #expect(next.machine.statistics().uptime >= uptime)
      next.send(" \(word).")
      try next.expect("got The quick \(word).")
      // Timers go on.
      next.send("t")
      try next.expect("ticks ")
      // And again while ten ticks are counted.
      next.send("t")
      usleep(20_000)
      let again = path + ".again"
      _ = try next.machine.saveState(to: again, SaveOptions(ends: true)) {}
      configuration.savedState = again
      let last = try GuestConversation(configuration)
      try last.expect("ticks ")
      last.send("p")
      #expect(try last.end() == .powerOff)
      configuration.savedState = path
    }
  }

  @Test("A guest goes on where it was after a state was taken of it, and a reset starts it anew")
  func staysAlive() throws {
    var configuration = try configuration(Case(accelerator: .soft))
    let folder = try TestFolder.make("state")
    let conversation = try GuestConversation(configuration)
    try conversation.expect("> ")
    conversation.send("u")
    try conversation.expect("waiting")
    let committed = Monitor(0)
    for round in 0..<3 {
      conversation.send("\(round)")
      _ = try conversation.machine.saveState(to: "\(folder)/\(round)", SaveOptions(isLive: true)) {
        committed.update { $0 += 1 }
      }
    }
    conversation.send(".")
    try conversation.expect("got 012.")
    #expect(committed.read({ $0 }) == 3)
    configuration.savedState = "\(folder)/1"
    let other = try GuestConversation(configuration)
    other.send("x.")
    try other.expect("got 01x.")
    other.send("x")
    try other.expect("underjack test guest")
    try other.expect("> ")
  }

  @Test("Where the file cannot be made or kept, the guest goes on and nothing is left")
  func failure()
    throws
  {
    let conversation = try GuestConversation(try configuration(Case(accelerator: .soft)))
    try conversation.expect("> ")
    #expect(throws: (any Error).self) {
      try conversation.machine.saveState(to: "/nonexistent/file", SaveOptions(ends: true)) {}
    }
    let path = try TestFolder.make("state") + "/memory.state"
    let error = #expect(throws: MachineError.self) {
      try conversation.machine.saveState(to: path, SaveOptions(ends: true)) {
        throw MachineError("no")
      }
    }
    #expect(error?.description == "no")
    #expect(access(path, F_OK) != 0)
    conversation.send("u")
    try conversation.expect("waiting")
    conversation.send("on.")
    try conversation.expect("got on.")
    conversation.machine.stop()
    #expect(throws: MachineError.self) {
      try conversation.machine.saveState(to: path, SaveOptions(isLive: true)) {}
    }
  }

  @Test("A machine that is otherwise than it was is refused, with what differs") func mismatch()
    throws
  {
    var configuration = try configuration(Case(accelerator: .soft))
    let path = try TestFolder.make("state") + "/memory.state"
    let conversation = try GuestConversation(configuration)
    try conversation.expect("> ")
    _ = try conversation.machine.saveState(to: path, SaveOptions(ends: true)) {}
    configuration.savedState = path
    let changes: [(String, (inout MachineConfiguration) -> Void)] = [
      ("memory was 64 MiB and is 128 MiB now", { $0.memorySize = 128 << 20 }),
      (
        "the number of processors was 1 (1 x 1 x 1) and is 2 (1 x 2 x 1) now",
        { $0.processorCount = 2 }
      ),
      ("the entropy device was there and is not there now", { $0.hasEntropyDevice = false }),
      ("the display was none and is vga now", { $0.display = .vga }),
      ("the CD-ROM drive was not there", { $0.opticalDrive = .init(path: nil) }),
    ]
    for (words, change) in changes {
      var other = configuration
      change(&other)
      let error = #expect(throws: MachineError.self) { _ = try GuestConversation(other) }
      #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
      #expect(error?.description.contains("\n") == false)
    }
  }
}
