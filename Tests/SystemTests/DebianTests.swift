import CLinux
import Glibc
import Platform
import TestGuests
import Testing

private let missing: String? = {
  guard getenv("UNDERJACK_LONG_TESTS") != nil else { return "UNDERJACK_LONG_TESTS is not set" }
  guard access(Underjack.program, X_OK) == 0 else { return "uj is not built" }
  return access("/usr/bin/mmdebstrap", X_OK) == 0 ? nil : "mmdebstrap is missing: install it"
}()

/// A whole Debian on the software processor: built, started, broken, and rolled back.
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

  @Test func brokenAndRolledBack() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("template", "build", "debian", "--size", "4G")
    try uj.run("start", "-t", "debian", "web1", "--accel", "soft")
    var line = try login(uj, "web1")
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
