import CLinux
import Glibc
import Platform
import TestGuests
import Testing

private let missing: String? = {
  guard access(Underjack.program, X_OK) == 0 else { return "uj is not built" }
  guard getuid() == 0 else { return "it takes root to become another user" }
  return access("/usr/bin/setpriv", X_OK) == 0 ? nil : "setpriv is missing: install util-linux"
}()

/// What users may do to each other's machines.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct OwnerTests {
  private let uj: Underjack
  private let environment: [String: String]

  init() throws {
    uj = try Underjack()
    // Folders that others may pass, as an administrator makes them for machines that are shared.
    chmod(uj.folder, 0o711)
    mkdir("\(uj.folder)/shared", 0o755)
    environment = uj.environment.merging(
      ["UNDERJACK_RUNTIME": "\(uj.folder)/shared", "HOME": "/nonexistent"]
    ) { $1 }
    _ = try TestProcess.run(["/bin/cp", Underjack.program, "\(uj.folder)/uj"])
    chmod("\(uj.folder)/uj", 0o755)
  }

  @discardableResult
  private func own(_ arguments: String...) throws -> ChildProcess.Result {
    try TestProcess.run(["\(uj.folder)/uj"] + arguments, environment: environment)
  }

  private func asUser(_ number: Int, _ arguments: String...) throws -> ChildProcess.Result {
    try TestProcess.run(
      [
        "/usr/bin/setpriv", "--reuid=\(number)", "--regid=\(number)", "--clear-groups",
        "\(uj.folder)/uj",
      ] + arguments, environment: environment)
  }

  @Test func whoOwnsMayStopAndReadsNoFiles() throws {
    defer { _ = try? own("stop", "-f", "-a") }
    for name in ["mine", "theirs"] {
      let made = try own("new", name, "--memory", "64M", "--accel", "soft")
      #expect(made.status == 0, "\(made.output)")
    }
    try own("set", "theirs", "owner=nobody", "cdrom=empty")
    let started = try own("start", "mine", "theirs")
    #expect(started.status == 0, "\(started.output)")
    let nobody = 65534
    // A folder that others may pass opens no machine by itself.
    #expect(try asUser(nobody, "rpc", "mine", "status").output.contains("Permission denied"))
    #expect(
      try asUser(12345, "rpc", "theirs", "status").output.contains("belongs to another user"))
    #expect(try asUser(nobody, "rpc", "theirs", "status").output.contains("\"accelerator\""))
    #expect(try asUser(nobody, "rpc", "theirs", "pause").status == 0)
    for (method, parameters) in [
      ("cdrom.insert", "{\"path\": \"/etc/shadow\"}"), ("snapshot.take", "{}"),
      ("snapshot.freeze", "{\"snapshot\": \"x\"}"),
      ("network.forward", "{\"adapter\": 0, \"forward\": \"2222:22\"}"),
    ] {
      let refused = try asUser(nobody, "rpc", "theirs", method, parameters)
      #expect(refused.status != 0)
      #expect(
        refused.output.contains("\(method): is for the machine's user only"), "\(refused.output)")
    }
    #expect(try own("rpc", "theirs", "cdrom.insert", "{\"path\": \"/bin/sh\"}").status == 0)
    #expect(try asUser(nobody, "rpc", "theirs", "stop", "{\"force\": true}").status == 0)
  }

  /// What counts is what the kernel says of the process that asks: its group, or one of its others.
  @Test func whoIsInTheGroupMayStop() throws {
    defer { _ = try? own("stop", "-f", "-a") }
    let made = try own("new", "ours", "--memory", "64M", "--accel", "soft")
    #expect(made.status == 0, "\(made.output)")
    let group = 54_321
    try own("set", "ours", "group=\(group)")
    let started = try own("start", "ours")
    #expect(started.status == 0, "\(started.output)")
    func asMember(_ own: Int, _ others: String) throws -> ChildProcess.Result {
      try TestProcess.run(
        [
          "/usr/bin/setpriv", "--reuid=12345", "--regid=\(own)", "--groups=\(others)",
          "\(uj.folder)/uj", "rpc", "ours", "status",
        ], environment: environment)
    }
    #expect(try asMember(12345, "12345,\(group)").output.contains("\"accelerator\""))
    #expect(try asMember(group, "12345").output.contains("\"accelerator\""))
    // The socket's mode keeps strangers out, before anybody asks.
    #expect(try asMember(12345, "12346").output.contains("Permission denied"))
  }
}
