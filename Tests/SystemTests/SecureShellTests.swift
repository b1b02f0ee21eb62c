import Glibc
import Hosting
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let reason = NetworkedMachine.missing { return reason }
  if access("/usr/bin/ssh", X_OK) != 0 { return "ssh is missing: install openssh-client" }
  return access(NetworkedMachine.dropbear, X_OK) == 0
    ? nil : "dropbear is missing: install dropbear-bin"
}()

/// `uj ssh` to a guest with a server of its own.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct SecureShellTests {
  private static let careless = [
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "BatchMode=yes", "-o", "ConnectTimeout=20",
  ]

  private func start(_ machine: NetworkedMachine) throws {
    // No password, keys made at the first connection.
    _ = try machine.run("mkdir -p /etc/dropbear; dropbear -R -B")
    try #require(try machine.run("netstat -ltn").contains(":22 "))
  }

  @Test("uj ssh makes a forward, takes it again, and leaves what is behind the name to ssh")
  func userNetwork() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(uj, "shell", networks: ["user"])
    try start(machine)
    #expect(try machine.status()?["forwards"]?.array?.count == 0)
    let words = ["ssh", "shell", "-l", "root"] + Self.careless
    let text = try uj.run(words + ["cat /proc/version; echo to the guest > /tmp/word"])
    #expect(text.contains("Linux version"), "\(text)")
    #expect(try machine.run("cat /tmp/word").contains("to the guest"))
    let forwards = try machine.status()?["forwards"]?.array ?? []
    #expect(forwards.count == 1, "\(forwards)")
    // What the guest's command ends with is what uj ends with.
    let second = try ChildProcess.run(
      [Underjack.program] + words + ["exit 7"], environment: uj.environment)
    #expect(second.status == 7, "\(second.output)")
    #expect(try machine.status()?["forwards"]?.array?.count == 1)
  }
}
