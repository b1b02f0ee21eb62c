import Glibc
import Platform
import TestGuests
import Testing

/// A new user's first ten minutes with a real guest, from an empty inventory to 'stop all', by keys alone: demonstration,
/// log in, detach, snapshot, break, roll back, roll forward, branch, a second machine from the template.
///
/// The expectations are what a person would look for on each screen, at every size and on every type of terminal.
@Suite(
  .serialized,
  .enabled(if: access(Underjack.program, X_OK) == 0, "uj is not built"),
  .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
  .enabled(if: LinuxGuest.missing == nil, "\(LinuxGuest.missing ?? "")"))
struct DemoSessionTests {
  typealias Place = FirstSessionTests.Place

  /// The terminal of one user, and what this user does in it again and again.
  private struct User {
    let console: TerminalSession

    /// Waits for a screen with all of `texts` and none of `absent`.
    func sees(_ texts: String..., without absent: String..., seconds: Double = 30) throws {
      try console.wait("shows \(texts) without \(absent)", seconds: seconds) { screen in
        texts.allSatisfy { screen.contains($0) } && !absent.contains { screen.contains($0) }
      }
    }

    func press(_ keys: String...) throws { for key in keys { try console.press(key) } }

    /// A line into a field or to the guest's shell.
    func enter(_ line: String) throws {
      try console.type(line)
      try console.press("Enter")
    }

    /// The selected machine is started and its shell is there.
    func startsAndAttaches() throws {
      try press("s")
      try sees("running", "1 on")
      try press("Enter")
      try sees("detach: ^] d", seconds: 60)
      // A prompt may be that of the run before, and a kernel that opens its line drops what came before.
      let deadline = MonotonicClock.now + 120_000_000_000
      repeat {
        try enter("clear; echo up$((40 + 2))")
        let answers = try? console.wait("answers", seconds: 2) { $0.contains("up42") }
        if answers != nil { return }
      } while MonotonicClock.now < deadline
      throw TestGuestError("the guest's shell does not answer")
    }

    func detaches() throws {
      try press("C-]", "d")
      try sees("NAME", without: "detach: ^] d")
    }

    func forcesOff() throws {
      try press("F")
      try sees("Force off", "[ Cancel ]")
      try press("Tab", "Enter")
      try sees("stopped", "0 on")
    }
  }

  @Test(
    "empty inventory to 'stop all'",
    arguments: [
      Place(columns: 80, rows: 24, type: "xterm-256color"),
      Place(columns: 200, rows: 60, type: "xterm-256color"),
      Place(columns: 80, rows: 24, type: "screen-256color"),
      Place(columns: 80, rows: 24, type: "linux"), Place(columns: 80, rows: 24, type: "vt100"),
    ])
  func firstTenMinutes(place: Place) throws {
    let uj = try Underjack()
    defer { uj.close() }
    unlink(uj.configuration)
    let console = try TerminalSession(
      "sh -c '\(Underjack.program); echo status $?'", columns: place.columns, rows: place.rows,
      environment: uj.environment, terminal: place.type)
    defer { console.close() }
    let user = User(console: console)

    try user.sees("No machine is defined yet.", "run the demonstration", "d Demo")
    try user.press("d")
    try user.sees("How to leave a console", "Press the key you want now", seconds: 120)
    try user.press("C-]")
    try user.sees("d leaves a console from now on", "detach: ^] d")
    try user.sees("Enter 'help' for a list", "/ #", seconds: 120)

    try user.enter("echo root::0:0:root:/:/bin/sh >/etc/passwd; exec login")
    try user.sees("demo login:")
    try user.enter("root")
    try user.sees("root login on 'ttyS0'")
    try user.enter("clear; echo precious | dd of=/dev/vda conv=sync 2>/dev/null; sync; echo ok $?")
    try user.sees("ok 0")
    try user.detaches()
    try user.sees("demo1", "running", "1 machine, 1 on", "template")

    try user.press("S")
    try user.sees("Take a snapshot of demo1")
    try user.enter("good")
    try user.sees("snapshot 'good' of demo1 taken while it runs")
    try user.press("Enter")
    try user.enter("clear; dd if=/dev/zero of=/dev/vda count=8 2>/dev/null; sync; echo broken $?")
    try user.sees("broken 0", "detach: ^] d")
    try user.detaches()

    try user.press("m")
    try user.sees("SNAPSHOTS OF demo1", "good", "you are here", "[")
    try user.press("R")
    try user.sees("Cut the power of demo1 and roll it to 'good'?", "[ Cancel ]")
    try user.press("Tab", "Enter")
    try user.sees("demo1 stands on 'good'; what was there is kept", "before rollback to good")
    try user.press("b")
    try user.sees("New machine from 'good'", "nothing is copied", "demo1-1")
    try user.press("C-u")
    try user.enter("branch")
    try user.sees("branch", without: "New machine from")
    try user.press("q")
    try user.sees("NAME", "branch", "2 machines, 0 on", without: "SNAPSHOTS OF")

    func reads(_ name: String, _ expected: String) throws {
      try select(name, console)
      try user.startsAndAttaches()
      try user.enter("clear; test $(head -c 8 /dev/vda | tr '\\0' 0) = \(expected); echo same $?")
      try user.sees("same 0")
      try user.detaches()
      try user.forcesOff()
    }
    try reads("demo1", "precious")
    try user.press("]")
    try user.sees("demo1 stands on 'before rollback to good'", "0 on")
    try reads("demo1", "00000000")
    try reads("branch", "precious")

    try select("demo", console)
    try user.press("t")
    try user.sees("New machine from demo")
    try user.press("C-u")
    try user.enter("second")
    try user.sees("second made from demo", "3 machines")
    try user.press("s")
    try user.sees("1 on")
    try user.press(":")
    try user.enter("start demo1")
    try user.sees("2 on")
    try user.press(":")
    try user.enter("stop -fa")
    try user.sees("Force off", "[ Cancel ]")
    try user.press("Tab", "Enter")
    try user.sees("3 machines, 0 on")
    if place.isPlain {
      #expect(try console.screen().unicodeScalars.allSatisfy { $0.isASCII })
    }
    try user.press("q")
    try user.sees("status 0")
  }

  /// Moves the selection to the row of `name`.
  private func select(_ name: String, _ console: TerminalSession) throws {
    try console.press("g")
    for _ in 0..<10 {
      usleep(80_000)
      // The selection's mark, and perhaps the one of news on the console, stand before the name.
      let row = try console.screen().split(separator: "\n").first {
        $0.hasPrefix("▌") || $0.hasPrefix(">")
      }
      let words = row?.drop { !$0.isLetter }.split(separator: " ")
      if words?.first == name[...] { return }
      try console.press("j")
    }
    throw TestGuestError("no row of \(name) in\n\(try console.screen())")
  }
}
