import CLinux
import Glibc
import Platform
import TestGuests
import Testing

private let missing: String? = {
  guard access(Underjack.program, X_OK) == 0 else { return "uj is not built" }
  guard access("/usr/bin/cu", X_OK) == 0 else { return "cu is missing: install cu" }
  // cu gives root's rights away before it opens the line, so the machine must be another user's.
  guard getuid() != 0 || access("/usr/bin/setpriv", X_OK) == 0 else {
    return "setpriv is missing: install util-linux"
  }
  return LinuxGuest.missing
}()

/// Programs for serial lines, that know nothing of virtual machines, at the link to a port's terminal.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct SerialToolTests {
  @Test func cuTalksToAGuestAndGetsEveryByte() throws {
    let guest = try LinuxGuest.prepared.get()
    let uj = try Underjack()
    // All of it is done by a user without rights, as most of those who use cu are.
    let user =
      getuid() == 0 ? ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : []
    let program = "\(uj.folder)/uj"
    for (from, to) in [
      (Underjack.program, program), (guest.kernel, "\(uj.folder)/kernel"),
      (guest.initrd, "\(uj.folder)/initrd"),
    ] {
      _ = try TestProcess.run(["/bin/cp", from, to])
      chmod(to, 0o755)
    }
    if getuid() == 0 { _ = try TestProcess.run(["/bin/chown", "-R", "65534", uj.folder]) }
    let environment = uj.environment.merging(["HOME": uj.folder]) { $1 }
    func run(_ arguments: String...) throws -> String {
      let result = try TestProcess.run(user + [program] + arguments, environment: environment)
      guard result.status == 0 else { throw TestGuestError(result.output) }
      return result.output
    }
    defer { _ = try? run("stop", "-f", "-a") }
    _ = try run(
      "new", "line", "--memory", "128M", "--accel", "soft", "--kernel", "\(uj.folder)/kernel",
      "--initrd", "\(uj.folder)/initrd", "--append", "console=ttyS0 quiet")
    _ = try run("start", "line")
    let link = try TestProcess.run(["/usr/bin/find", "\(uj.folder)/run", "-name", "serial0"]).output
      .trimmed
    let output = "\(uj.folder)/output"
    let terminal = try TerminalSession(
      "sh -c '\(user.joined(separator: " ")) cu -l \(link) | tee \(output); echo cu has ended; sleep 600'",
      environment: environment)
    defer { terminal.close() }
    try terminal.wait(for: "/ #", seconds: 120)
    let lines = 20_000
    try terminal.type(
      "i=0; while [ $i -lt \(lines) ]; do echo $i; i=$((i+1)); done; echo FLOOD\"\"END")
    try terminal.press("Enter")
    try terminal.wait(for: "FLOODEND", seconds: 180)
    let received = String(decoding: try readBytes(output), as: UTF8.self)
    let numbers = received.split(whereSeparator: \.isNewline).compactMap { Int($0) }
    #expect(numbers == Array(0..<lines))
    // Its escape ends cu and not the machine.
    try terminal.press("Enter")
    try terminal.type("~.")
    try terminal.wait(for: "cu has ended")
    #expect(try run("status", "line").contains("running"))
  }
}

extension String {
  fileprivate var trimmed: String {
    String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
  }
}
