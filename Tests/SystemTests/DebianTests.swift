import CLinux
import Glibc
import Platform
import TestGuests
import Testing

private let missing: String? = {
  guard getenv("UNDERJACK_LONG_TESTS") != nil else { return "UNDERJACK_LONG_TESTS is not set" }
  guard access(Underjack.program, X_OK) == 0 else { return "uj is not built" }
  for program in ["mmdebstrap", "ssh", "ssh-keygen"]
  where access("/usr/bin/\(program)", X_OK) != 0 {
    return "\(program) is missing: install mmdebstrap and openssh-client"
  }
  return nil
}()

/// A whole Debian on the software processor: built, started, on the network, broken, and rolled back.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct DebianTests {
  /// With other work on the host a boot takes this long at most.
  private static let boot: Double = 1500

  private func login(_ uj: Underjack, _ machine: String) throws -> GuestLine {
    let line = try GuestLine(uj, machine)
    try line.wait(for: "\(machine) login:", seconds: Self.boot)
    try line.type("root")
    try line.wait(for: "root@\(machine)", seconds: 300)
    // Nothing but the commands' own output from here on.
    try line.type("export PS1='' TERM=dumb; bind 'set enable-bracketed-paste off' 2>/dev/null")
    _ = try line.run("dmesg -n 1", seconds: 120)
    return line
  }

  /// Bytes that go each way through the user network.
  private static let size = 200 << 20

  private func sum(_ path: String) throws -> String {
    String(try TestProcess.run(["/usr/bin/md5sum", path]).output.prefix(32))
  }

  /// Says how long it took.
  private func timed<Result>(_ what: String, _ work: () throws -> Result) rethrows -> Result {
    let begin = MonotonicClock.now
    defer { print("\(what): \(NetworkedMachine.seconds(since: begin)) s") }
    return try work()
  }

  /// Its address and name server come by DHCP, apt fetches a file of the host's, and gives it back.
  private func useNetwork(_ uj: Underjack, _ line: GuestLine) throws {
    let address = try line.run(
      "for i in $(seq 60); do ip -4 addr show up | grep 10.0.2 && break; sleep 1; done",
      seconds: 240)
    #expect(address.contains("inet 10.0.2.15/24"), "\(address)")
    #expect(try line.run("cat /run/systemd/resolve/resolv.conf", seconds: 60).contains("10.0.2.3"))
    #expect(try uj.run("status", "--json", "web1").contains("10.0.2.15"))

    let original = "\(uj.folder)/original"
    let copy = "\(uj.folder)/copy"
    _ = try TestProcess.run([
      "/usr/bin/dd", "if=/dev/urandom", "of=\(original)", "bs=1M", "count=\(Self.size >> 20)",
    ])
    let sum = try sum(original)
    let giver = try LoopbackServer(.give(original))
    let fetched = try timed("\(Self.size >> 20) MB to Debian's apt") {
      try line.run(
        "/usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file"
          + " http://10.0.2.2:\(giver.port)/file /root/copy; md5sum /root/copy", seconds: 900)
    }
    #expect(fetched.contains(sum), "\(fetched)")
    let taker = try LoopbackServer(.take(copy))
    try timed("\(Self.size >> 20) MB from Debian") {
      _ = try line.run("cat /root/copy > /dev/tcp/10.0.2.2/\(taker.port)", seconds: 900)
    }
    #expect(taker.finish() == Self.size)
    #expect(try self.sum(copy) == sum)
    _ = try line.run("rm /root/copy", seconds: 120)
  }

  /// By ssh(1) through a forward, and by `uj ssh`.
  private func useSecureShell(_ uj: Underjack, key: String) throws {
    let options = [
      "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
      "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
    ]
    let port = try LoopbackServer.freePort()
    try uj.run("network", "web1", "forward", "\(port):22")
    let result = try timed("ssh through a forward") {
      try TestProcess.run(
        ["/usr/bin/ssh", "-p", "\(port)"] + options + ["root@127.0.0.1", "hostname; exit 7"])
    }
    #expect(result.output.contains("web1"), "\(result.output)")
    #expect(result.status == 7)
    try uj.run("network", "web1", "unforward", "\(port):22")
    // Which makes a forward of its own.
    let text = try timed("uj ssh") {
      try uj.run(["ssh", "web1", "-l", "root"] + options + ["cat /proc/version; id -un"])
    }
    #expect(text.contains("Debian"), "\(text)")
    #expect(text.contains("root"), "\(text)")
    #expect(try uj.run("network", "web1").contains(":22"))
  }

  /// Debian's cloud-init finds the seed of `[cloud-init]` and does what it says.
  @Test("cloud-init gives it a host name, an account with a key, and a file") func seed() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let key = "\(uj.folder)/key"
    _ = try TestProcess.run(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    let publicKey = try TestProcess.run(["/bin/cat", "\(key).pub"]).output
      .split(whereSeparator: \.isNewline).joined()
    let own = "\(uj.folder)/own"
    try writeFile(
      own,
      """
      #cloud-config
      write_files:
        - path: /etc/proof
          content: from write_files
      runcmd:
        - "echo SEED-IS-THROUGH > /dev/ttyS0"

      """)
    try uj.run("template", "build", "debian", "--size", "4G", "--include", "cloud-init")
    try uj.run("clone", "debian", "web1")
    try uj.run(
      "set", "web1", "accelerator=soft", "cloud-init.hostname=seeded", "cloud-init.user=alice",
      "cloud-init.ssh-authorized-keys=\(publicKey)", "cloud-init.user-data=\(own)")
    try uj.run("start", "web1")
    let line = try GuestLine(uj, "web1")
    try line.wait(for: "SEED-IS-THROUGH", seconds: Self.boot)
    let options = [
      "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
      "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
    ]
    // The account with its key, the name and the file; nothing of it failed.
    let text = try uj.run(
      ["ssh", "web1", "-l", "alice"] + options
        + ["id -un; hostname; cat /etc/proof; echo; cloud-init status --wait"])
    #expect(text.contains("alice\n"), "\(text)")
    #expect(text.contains("seeded\n"), "\(text)")
    #expect(text.contains("from write_files\n"), "\(text)")
    #expect(text.contains("status: done"), "\(text)")
    try uj.run("stop", "-w", "--timeout", "600", "web1")
  }

  @Test("networked, broken and rolled back") func wholeLife() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let key = "\(uj.folder)/key"
    _ = try TestProcess.run(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    try uj.run("template", "build", "debian", "--size", "4G", "--ssh-key", "\(key).pub")
    try uj.run("start", "-t", "debian", "web1", "--accel", "soft")
    var line = try login(uj, "web1")
    try useNetwork(uj, line)
    try useSecureShell(uj, key: key)
    _ = try line.run("echo precious > /root/file; sync", seconds: 300)
    #expect(try uj.run("snapshot", "take", "web1", "before").contains("crash-consistent"))
    try line.type("rm -rf /usr; echo GO\"\"NE")
    try line.wait(for: "GONE", seconds: 900)
    // ext4 commits its journal every five seconds, and nothing can call sync(1) any more.
    sleep(20)

    #expect(try uj.run("snapshot", "rollback", "-f", "web1", "before").contains("started again"))
    line = try login(uj, "web1")
    #expect(try line.run("cat /root/file", seconds: 120).contains("precious"))
    #expect(try line.run("ls /usr/bin | wc -l", seconds: 120).contains { $0.isNumber })

    #expect(try uj.run("snapshot", "forward", "-f", "web1").contains("started again"))
    line = try GuestLine(uj, "web1")
    // Without /usr there is no init: the initial RAM disk says so and offers its shell.
    try line.wait(for: "(initramfs)", seconds: Self.boot)
    try uj.run("stop", "-f", "web1")

    try uj.run("snapshot", "branch", "web1", "before", "web2")
    try uj.run("start", "web2")
    line = try login(uj, "web2")
    #expect(try line.run("cat /root/file", seconds: 120).contains("precious"))
    #expect(try line.run("hostname", seconds: 120).contains("web2"))
    // It heeds the power button.
    try uj.run("stop", "-w", "--timeout", "600", "web2")
  }
}
