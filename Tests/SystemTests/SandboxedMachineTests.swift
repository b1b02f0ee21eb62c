import Glibc
import Platform
import TestGuests
import Testing

private let missing: String? =
  access(Underjack.program, X_OK) != 0 ? "uj is not built" : nil

/// A machine in its sandbox goes on doing everything, and what holds is measured from outside.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct SandboxedMachineTests {
  private let uj: Underjack

  init() throws { uj = try Underjack() }

  private func log(_ machine: String) throws -> String { try uj.run("log", "--host", machine) }

  @Test func everythingGoesOnInTheSandbox() throws {
    defer { _ = try? uj("stop", "-f", "-a") }
    try uj.run("new", "s", "--memory", "64M", "--accel", "soft", "-d", "16M", "--cdrom", "empty")
    try uj.run("start", "s")
    let report = try uj("security", "s", "--json")
    #expect(report.status == 0, "\(report.output)")
    #expect(
      report.output.contains("\"confined\" : true") || report.output.contains("\"confined\": true"))
    let text = try uj.run("security", "s")
    #expect(text.contains("2 filters: cpu0"), "\(text)")
    #expect(text.contains("core files                none are written"))
    // A file that the host could not open itself.
    let disc = "\(uj.folder)/disc.iso"
    try writeFile(disc, String(repeating: "x", count: 4096))
    try uj.run("cdrom", "s", disc)
    #expect(try uj.run("cdrom", "s").contains(disc))
    try uj.run("snapshot", "take", "s", "one")
    try uj.run("snapshot", "take", "s", "two", "--memory")
    try uj.run("reset", "s")
    try uj.run("snapshot", "branch", "s", "one", "plain")
    try uj.run("snapshot", "branch", "s", "two", "warm", "--memory")
    try uj.run("snapshot", "delete", "s", "one")
    try uj.run("start", "plain", "warm")
    try uj.run("suspend", "s")
    try uj.run("start", "s")
    try uj.run("snapshot", "rollback", "-f", "s", "two")
    #expect(try uj.run("status").contains("running"))
    for machine in ["s", "plain", "warm"] {
      let log = try log(machine)
      #expect(log.contains("sandbox: no new privileges"))
      #expect(!log.contains("refused"), "\(log)")
    }
  }

  @Test func withoutItIsSaid() throws {
    defer { _ = try? uj("stop", "-f", "-a") }
    try uj.run("new", "bare", "--memory", "64M", "--accel", "soft")
    try uj.run("start", "--no-sandbox", "bare")
    #expect(try uj.run("status", "bare").contains("(no sandbox)"))
    let report = try uj("security", "bare")
    #expect(report.status == 1)
    #expect(report.output.contains("NOT on "), "\(report.output)")
  }

  /// A process in the foreground confines itself too.
  @Test func runConfinesItself() throws {
    let guest = "\(uj.folder)/none.img"
    try writeFile(guest, String(repeating: "\0", count: 1 << 16))
    let result = try TestProcess.run([
      "/usr/bin/timeout", "-s", "TERM", "2", Underjack.program, "run", "--accel", "soft", "--disk",
      "raw:\(guest)", "--serial", "file:\(uj.folder)/out",
    ])
    #expect(!result.output.contains("refused"), "\(result.output)")
    #expect(result.status == 124 || result.status == 143, "\(result.output)")
  }
}
