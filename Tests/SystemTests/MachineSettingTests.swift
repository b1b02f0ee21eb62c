import CLinux
import KVM
import Platform
import TestGuests
import Testing

/// Settings of machines of the inventory, by the command line: discs, boot devices, autostart, hosts without /dev/pts.
@Suite(
  .serialized, .enabled(if: access(Underjack.program, X_OK) == 0, "uj is not built"),
  .enabled(if: (try? KVMSystem()) != nil, "there is no usable KVM"))
struct MachineSettingTests {
  private func wait(_ what: String, seconds: Double = 20, until fits: () throws -> Bool) throws {
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    while !(try fits()) {
      guard MonotonicClock.now < deadline else { throw TestGuestError("not in time: \(what)") }
      usleep(20_000)
    }
  }

  @Test func discsOfRunningAndStoppedMachines() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let disc = "\(uj.folder)/a.iso"
    try writeFile(disc, String(repeating: "x", count: 4096))
    try uj.run("new", "a", "--memory", "16M")
    #expect(try uj("cdrom", "a").output == "uj: a: has no CD-ROM drive\n")
    #expect(try uj("cdrom", "a", "eject").status == 1)
    try uj.run("start", "a")
    #expect(try uj("cdrom", "a", disc).output.contains("'uj set a cdrom=empty'"))
    try uj.run("stop", "-f", "a")
    try uj.run("set", "a", "cdrom=empty")
    try uj.run("start", "a")
    #expect(try uj.run("cdrom", "a") == "empty\n")
    try uj.run("cdrom", "a", disc)
    #expect(try uj.run("cdrom", "a") == "\(disc)\n")
    let missing = try uj("cdrom", "a", "/nowhere.iso")
    #expect(missing.status == 1 && missing.output == "uj: /nowhere.iso: no such file\n")
    try writeFile("\(uj.folder)/tiny", "x")
    #expect(try uj("cdrom", "a", "\(uj.folder)/tiny").output.contains("not a disc image"))
    #expect(try uj.run("cdrom", "a") == "\(disc)\n", "what was refused changed nothing")
    try uj.run("cdrom", "a", "eject")
    #expect(try uj.run("rpc", "a", "status").contains("\"cdrom\": \"empty\""))
    try uj.run("stop", "-f", "a")
    try uj.run("cdrom", "a", disc)
    #expect(try uj.run("show", "a").contains("cdrom = \"\(disc)\""))
    try uj.run("cdrom", "a", "eject")
    #expect(try uj.run("show", "a").contains("cdrom = \"empty\""))
  }

  @Test(
    .enabled(
      if: access(ConsoleRequirements.grubImage, R_OK) == 0,
      "\(ConsoleRequirements.grubImage) is missing: install grub-rescue-pc"))
  func bootDeviceOfThisStart() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("new", "a", "--memory", "64M", "--cdrom", ConsoleRequirements.grubImage)
    #expect(
      try uj("start", "a", "-B", "net").output
        == "uj: a: cannot boot from net: it has no network adapter; --net user or 'uj set a networks=user' gives it one\n"
    )
    try uj.run("start", "-B", "cdrom", "a")
    try wait("SeaBIOS boots from the CD", seconds: 60) {
      try uj("log", "a").output.contains("Booting from DVD/CD")
    }
    #expect(try uj.run("show", "a").contains("order = [\"disk\"]"))
    try uj.run("stop", "-f", "a")
  }

  @Test func serialPortsOfADefinition() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let out = "\(uj.folder)/out"
    let kernel = try TestGuest.multiboot32.path()
    try uj.run(
      "new", "a", "--memory", "32M", "--kernel", kernel, "--serial", "file:\(out)", "--serial",
      "console", "--serial", "pty", "--serial", "none")
    try uj.run("start", "a")
    try wait("the guest prints into the file") {
      try TestProcess.run(["/bin/cat", out]).output.contains("underjack test guest")
    }
    #expect(
      try uj("console", "a").output.hasSuffix(
        "uj: a: serial port 0 of a goes to the file \(out)\n"))
    let runtime = try TestProcess.run(["/usr/bin/find", "\(uj.folder)/run", "-name", "serial*"])
    let links = runtime.output.split(separator: "\n").map { $0.suffix(7) }.sorted()
    #expect(links == ["serial1", "serial2"])
    try uj.run("stop", "-f", "a")
    try uj.run("set", "a", "serial=console")
    try uj.run("start", "a")
    try wait("the guest prints on its console") {
      try uj("log", "a").output.contains("underjack test guest")
    }
  }

  @Test func autostart() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let kernel = try TestGuest.multiboot32.path()
    for name in ["a", "b", "c"] { try uj.run("new", name, "--memory", "16M", "--kernel", kernel) }
    #expect(try uj.run("autostart").isEmpty)
    try uj.run("set", "a", "autostart.enabled=true", "autostart.order=2")
    try uj.run("set", "c", "autostart.enabled=true", "autostart.delay=1")
    #expect(try uj.run("autostart", "--dry-run") == "c: after 0 s\na: after 1 s\n")
    let begin = MonotonicClock.now
    #expect(try uj.run("autostart") == "c: started\na: started\n")
    #expect(MonotonicClock.now - begin > 1_000_000_000)
    #expect(try uj.run("status", "-r").split(separator: "\n").count == 3)
    // A second time there is nothing to do; one that cannot start does not keep the others from it.
    #expect(try uj.run("autostart").isEmpty)
    try uj.run("stop", "-f", "-a")
    try uj.run("set", "c", "boot.kernel=/nowhere", "autostart.delay=0")
    let result = try uj("autostart")
    #expect(result.status == 1)
    #expect(result.output == "uj: /nowhere: kernel of c is not there\na: started\n")
  }

  @Test func unitNamesThisProgram() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let unit = try uj.run("systemd-unit")
    #expect(unit.contains("ExecStart=\(Underjack.program) host %i\n"))
    #expect(unit.contains("Environment=UNDERJACK_HOME=\(uj.folder)/home\n"))
    #expect(try uj.run("systemd-unit", "--autostart").contains("\(Underjack.program) autostart\n"))
  }

  /// nil when a process here may have a /dev/pts of its own.
  private static let cannotHidePTS: String? = {
    let result = try? TestProcess.run(
      ["/usr/bin/unshare", "-m", "/bin/mount", "-t", "tmpfs", "none", "/dev/pts"])
    return result?.status == 0 ? nil : "this user may not mount in a name space of its own"
  }()

  @Test(.enabled(if: cannotHidePTS == nil, "\(cannotHidePTS ?? "")"))
  func hostWithoutPseudoTerminals() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "a", "--memory", "32M", "--kernel", try TestGuest.multiboot32.path())
    let start = "mount -t tmpfs none /dev/pts && exec \(Underjack.program) start a"
    let result = try TestProcess.run(
      ["/usr/bin/unshare", "-m", "/bin/sh", "-c", start], environment: uj.environment)
    #expect(result.status == 0 && result.output == "a: started\n", "\(result.output)")
    let log = try uj.run("log", "--host", "a")
    #expect(
      log.split(separator: "\n").count { $0.contains("serial port 0 has no pseudo-terminal") } == 1,
      "\(log)")
    try wait("the console works all the same") {
      try uj("log", "a").output.contains("underjack test guest")
    }
    try uj.run("stop", "-f", "a")
  }
}
