import Glibc
import KVM
import Platform
import TestGuests
import Testing

/// What the tests here need of the machine that they run on.
enum ConsoleRequirements {
  /// nil: everything is there; else what is not.
  static let missing: String? = {
    if let tool = TerminalSession.missingTool ?? TestGuest.missingTool { return tool }
    do {
      _ = try KVMSystem()
      return nil
    } catch {
      return "\(error)"
    }
  }()

  static let grubImage = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
}

/// `uj` as a person uses it: in a real terminal, with real guests, by keys.
@Suite(
  .serialized,
  .enabled(if: ConsoleRequirements.missing == nil, "\(ConsoleRequirements.missing ?? "")"))
struct ConsoleTests {
  private func openConsole(_ uj: Underjack, columns: Int = 100, rows: Int = 30) throws
    -> TerminalSession
  {
    try TerminalSession(
      Underjack.program, columns: columns, rows: rows, environment: uj.environment)
  }

  /// Makes machine `name` from the selected template by `t`; returns the milliseconds to the message.
  private func makeFromTemplate(_ console: TerminalSession, _ name: String) throws -> UInt64 {
    try console.press("t")
    try console.wait(for: "New machine from")
    try console.press("C-u")
    try console.type(name)
    try console.wait(for: name)
    let start = MonotonicClock.now
    try console.press("Enter")
    try console.wait(for: "\(name) made from")
    return (MonotonicClock.now - start) / 1_000_000
  }

  @Test(
    "a first session: nothing defined, a machine from the GRUB template, its prompt in the pane",
    .enabled(
      if: access(ConsoleRequirements.grubImage, R_OK) == 0,
      "\(ConsoleRequirements.grubImage) is missing: install grub-rescue-pc"))
  func grubSession() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let console = try openConsole(uj)
    defer { console.close() }
    try console.wait("is empty and says how to begin") { $0.contains("demo") }

    try uj.run(
      "new", "rescue", "--memory", "64M", "--import", "raw:\(ConsoleRequirements.grubImage)",
      "--template")
    try console.wait(for: "template")
    #expect(try makeFromTemplate(console, "a") < 1000)
    try console.press("s")
    try console.wait(for: "running")
    try console.press("Enter")
    try console.wait(for: "GNU GRUB", seconds: 240)
    try console.press("c")
    try console.wait(for: "grub>", seconds: 120)
    try console.type("ls")
    try console.press("Enter")
    try console.wait(for: "(hd0", seconds: 60)
    try console.type("help")
    try console.press("Enter")
    try console.wait(for: "zfsinfo", seconds: 60)
    try console.press("C-]", "d")
    try console.wait(for: "detached from a")

    // The console dies; the machine does not.
    kill(try console.processIdentifier(), SIGKILL)
    console.close()
    #expect(try uj.run("status").contains("running"))
    let again = try openConsole(uj)
    defer { again.close() }
    try again.wait(for: "running")
    try again.press("Enter")
    try again.wait("shows what was printed before") { $0.contains("grub>") || $0.contains("hd0") }
    try again.press("C-]", "d")
    try again.press("F")
    try again.wait(for: "Force off a?")
    try again.press("Tab", "Enter")
    try again.wait(for: "stopped")
    try again.press("q")
    for layer in try layers(of: uj) { try expectClean(layer) }
  }

  @Test("roll back brings the old bytes, roll forward the new ones; keys reach a kernel of our own")
  func rollBackAndForward() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "lab", "--memory", "32M", "--kernel", TestGuest.multiboot32.path(), "--disk", "16M",
      "--append", "in the lab", "--template")
    let console = try openConsole(uj)
    defer { console.close() }
    try console.wait(for: "lab")
    #expect(try makeFromTemplate(console, "b") < 1000)

    func talk(_ keys: [String], until text: String) throws {
      try console.press("s")
      try console.wait(for: "running")
      try console.press("Enter")
      try console.wait(for: "in the lab'")
      for key in keys { try console.type(key) }
      try console.wait(for: text, seconds: 30)
      try console.press("C-]", "d")
      try console.wait(for: "detached from b")
      try console.press("F")
      try console.wait(for: "Force off b?")
      try console.press("Tab", "Enter")
      try console.wait(for: "stopped")
    }

    try talk(["w", "A"], until: "wrote A status 0")
    try console.press("S")
    try console.wait(for: "Take a snapshot of b")
    try console.press("C-u")
    try console.type("before")
    try console.press("Enter")
    try console.wait(for: "snapshot 'before' of b taken")
    try talk(["w", "B"], until: "wrote B status 0")
    try talk(["r"], until: "read B status 0")

    try console.press("m")
    try console.wait(for: "SNAPSHOTS OF b")
    try console.wait(for: "before")
    try console.press("g", "R")
    // Nothing is asked, because nothing is lost: the state that was left stands in the tree as a node of its own.
    try console.wait(for: "○ before rollback to before")
    try console.press("q")
    try talk(["r"], until: "read A status 0")

    try uj.run("snapshot", "forward", "b")
    try talk(["r"], until: "read B status 0")
    let files = try layers(of: uj)
    #expect(files.count >= 3)
    for layer in files { try expectClean(layer) }
  }

  @Test("the terminal is given back after q, and after a fatal signal")
  func terminalIsRestored() throws {
    let uj = try Underjack()
    defer { uj.close() }
    for signal in [nil, SIGTERM, SIGSEGV] {
      let session = try TerminalSession("/bin/sh", environment: uj.environment)
      defer { session.close() }
      try session.type(
        "\(Underjack.program); stty -a | tr ' ' '\\n' | grep -cx -e -icanon -e -echo")
      try session.press("Enter")
      try session.wait(for: "Underjack")
      if let signal {
        kill(try session.childIdentifier(named: "uj"), signal)
      } else {
        try session.press("q")
      }
      try session.wait("counts no terminal mode that was left") {
        $0.split(separator: "\n").contains { $0.trimmingSpaces == "0" }
      }
      #expect(!(try session.screen().contains("NAME")))
    }
  }

  /// All layers of all disks of the inventory.
  private func layers(of uj: Underjack) throws -> [String] {
    let found = try TestProcess.run(["/usr/bin/find", "\(uj.folder)/home", "-name", "*.qcow2"])
    return found.output.split(separator: "\n").map(String.init)
  }

  private func expectClean(_ image: String) throws {
    guard access("/usr/bin/qemu-img", X_OK) == 0 else { return }
    let check = try TestProcess.run(["/usr/bin/qemu-img", "check", image])
    #expect(check.status == 0, "\(image): \(check.output)")
  }
}

extension Substring {
  fileprivate var trimmingSpaces: Substring {
    drop { $0 == " " }.prefix { $0 != " " }
  }
}
