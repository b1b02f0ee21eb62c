import Glibc
import Platform
import TestGuests
import Testing

/// A new user's first minutes with the console in a real terminal, at small and large sizes and on terminals of several
/// types. Each step's screen is compared with what was written here by hand.
@Suite(
  .enabled(if: TerminalSession.missingTool == nil, "tmux is missing: install tmux"), .serialized)
struct FirstSessionTests {
  struct Place: Sendable, CustomStringConvertible {
    var columns: Int
    var rows: Int
    var type: String
    var description: String { "\(columns)x\(rows) \(type)" }
    /// Terminals of these types have no Unicode here.
    var isPlain: Bool { type == "linux" || type == "vt100" }
  }

  private func makeLab() throws -> Underjack {
    let uj = try Underjack()
    try uj.run(
      "new", "lab", "--memory", "32M", "--kernel", TestGuest.multiboot32.path(), "--disk", "16M",
      "--append", "in the lab", "--template")
    return uj
  }

  @Test(
    "the first ten minutes: key, template, attach, snapshot, break, roll back and forward, stop all"
  )
  func firstTenMinutes() throws {
    let uj = try makeLab()
    defer { uj.close() }
    unlink(uj.configuration)
    let console = try TerminalSession(
      Underjack.program, columns: 80, rows: 24, environment: uj.environment,
      terminal: "xterm-256color")
    defer { console.close() }
    let start = try console.wait(for: "lab")
    #expect(start.contains("NAME↑") && start.contains("◆ template"))
    #expect(start.contains("no machines"))

    try console.press("t")
    try console.wait(for: "New machine from lab")
    try console.type("first")
    try console.press("Enter")
    try console.wait(for: "first made from lab")
    try console.press("s")
    try console.wait(for: "▶ running")
    try console.press("Enter")
    // The first console asks for the key that leads back.
    try console.wait(for: "How to leave a console")
    try console.press("C-o")
    try console.wait(for: "detach: ^O d")
    try console.wait(for: "in the lab'")
    try console.type("wA")
    try console.wait(for: "wrote A status 0", seconds: 30)
    try console.press("C-o", "d")
    try console.wait(for: "detached from first; it runs on")
    #expect(try uj.run("status").contains("running"))

    func stop() throws {
      try console.press("F")
      try console.wait("asks with Cancel first") {
        $0.contains("Force off first?") && $0.contains("[ Cancel ]")
      }
      try console.press("Tab", "Enter")
      try console.wait(for: "stopped")
    }
    func talk(_ keys: String, until text: String) throws {
      try console.press("s")
      try console.wait(for: "▶ running")
      try console.press("Enter")
      try console.wait(for: "in the lab'")
      try console.type(keys)
      try console.wait(for: text, seconds: 30)
      try console.press("C-o", "d")
      try console.wait(for: "detached from first")
      try stop()
    }
    try stop()
    try console.press("S")
    try console.wait(for: "Take a snapshot of first")
    try console.type("good")
    try console.press("Enter")
    try console.wait(for: "snapshot 'good' of first taken")
    try talk("wB", until: "wrote B status 0")

    try console.press("m")
    try console.wait("shows where one stands") {
      $0.contains("SNAPSHOTS OF first") && $0.contains("good  ◀ you are here")
        && $0.contains("[●]")
    }
    try console.press("g", "R")
    try console.wait(for: "before rollback")
    try console.press("q")
    try talk("r", until: "read A status 0")
    try console.press("]")
    try console.wait(for: "stands on")
    try talk("r", until: "read B status 0")

    // What happened can be read.
    try console.press("2")
    try console.wait("tells what happened") {
      $0.contains("EVENTS") && $0.contains("snapshot 'good' of first taken")
    }
    try console.press("q", "s")
    try console.wait(for: "▶ running")
    try console.press("X")
    try console.wait(for: "Power down first?")
    try console.press("n", ":")
    try console.type("stop -fa")
    try console.press("Enter")
    try console.wait(for: "Force off")
    try console.press("Tab", "Enter")
    try console.wait(for: "stopped")
    try console.press("q")
    try console.wait("is the shell's again") { !$0.contains("NAME") }
  }

  /// The views of the console, without a guest that has to boot.
  @Test(
    "every view on terminals of every kind",
    arguments: [
      Place(columns: 80, rows: 24, type: "screen-256color"),
      Place(columns: 80, rows: 24, type: "linux"), Place(columns: 80, rows: 24, type: "vt100"),
      Place(columns: 200, rows: 60, type: "xterm-256color"),
      Place(columns: 200, rows: 60, type: "vt100"),
    ])
  func everyView(place: Place) throws {
    let uj = try makeLab()
    defer { uj.close() }
    try uj.run("new", "box", "--memory", "64M", "--disk", "1G")
    mkdir("\(uj.folder)/home/machines/bad", 0o700)
    try writeFile("\(uj.folder)/home/machines/bad/machine.toml", "memory = \"lots\"\n")
    let console = try TerminalSession(
      Underjack.program, columns: place.columns, rows: place.rows, environment: uj.environment,
      terminal: place.type)
    defer { console.close() }
    let list = try console.wait("lists three") { $0.contains("lab") && $0.contains("box") }
    #expect(list.contains("! broken") && list.contains("memory must be a size"))
    #expect(list.contains(place.isPlain ? "# template" : "◆ template"))
    #expect(list.contains("1 Machines") == (place.columns >= 120))
    try console.press("?")
    try console.wait(for: "attach to the serial console")
    // Not Escape and a key at once: that is the key with Alt.
    try console.press("q", "j", "S")
    try console.wait(for: "Take a snapshot of box")
    try console.press("Enter")
    try console.wait(for: "of box taken")
    try console.press("m")
    try console.wait("draws tree and time") { $0.contains("you are here") && $0.contains("TIME") }
    try console.press("q", "e")
    try console.wait(for: "Edit box")
    try console.press("C-c", "3")
    try console.wait(for: "box: disk0")
    try console.press("4")
    try console.wait(for: "Machines run with")
    try console.press("5")
    try console.wait(for: "Console key")
    try console.press("1", ":")
    try console.type("rename box crate")
    try console.press("Enter")
    try console.wait(for: "box is now crate")
    try console.press("u")
    try console.wait(for: "crate is now box")
    if place.isPlain {
      let screen = try console.screen()
      #expect(screen.unicodeScalars.allSatisfy { $0.isASCII })
    }
    try console.press("q")
  }

  @Test("terminals that can not be used get a line and status 1")
  func terminalsThatCanNotBeUsed() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    defer { session.close() }
    try session.type("TERM=dumb \(Underjack.program); echo status $?")
    try session.press("Enter")
    let screen = try session.wait(for: "status 1")
    #expect(screen.contains("can not move its cursor") && screen.contains("uj status"))
    let piped = try uj()
    #expect(piped.status == 1)
    #expect(piped.output.contains("uj status"))
  }

  @Test("a tiny terminal, and a storm of sizes")
  func stormOfSizes() throws {
    let uj = try makeLab()
    defer { uj.close() }
    let console = try TerminalSession(
      Underjack.program, columns: 80, rows: 24, environment: uj.environment)
    defer { console.close() }
    try console.wait(for: "lab")
    try console.resize(columns: 20, rows: 5)
    try console.wait("fits into 20x5") { $0.hasPrefix(" Underjack") && $0.contains("lab") }
    for (columns, rows) in [(10, 3), (200, 60), (37, 11), (1, 1), (81, 25), (20, 5)] {
      try console.resize(columns: columns, rows: rows)
    }
    try console.resize(columns: 100, rows: 30)
    try console.wait("is whole again") { $0.contains("q Quit") && $0.contains("◆ template") }
    try console.press("q")
  }
}
