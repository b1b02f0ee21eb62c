import CLinux
import Hosting
import Platform
import TestGuests
import Testing

/// GRUB and memtest86+ seen and used on the display, by the command line. On the software processor, so that every host
/// shows the same.
@Suite(
  .serialized, .enabled(if: access(Underjack.program, X_OK) == 0, "uj is not built"),
  .enabled(
    if: access("/usr/share/seabios/vgabios-stdvga.bin", R_OK) == 0, "install the package seabios"))
struct DisplayTests {
  private func wait(
    _ uj: Underjack, for text: String, seconds: Double, _ what: String
  ) throws -> String {
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    var screen = ""
    while MonotonicClock.now < deadline {
      screen = try uj("screen", "a").output
      if screen.contains(text) { return screen }
      usleep(200_000)
    }
    throw TestGuestError("not in time: \(what); the screen is:\n\(screen)")
  }

  @Test(
    .enabled(
      if: access(ConsoleRequirements.grubImage, R_OK) == 0,
      "\(ConsoleRequirements.grubImage) is missing: install grub-rescue-pc"))
  func grubIsUsedByKeys() throws {
    let uj = try Underjack()
    defer { uj.close() }
    #expect(try uj("screen", "a").output == "uj: a: no such machine; 'uj status' lists them\n")
    try uj.run(
      "new", "a", "--memory", "64M", "--accel", "soft", "--cdrom", ConsoleRequirements.grubImage,
      "--boot", "cdrom", "--display", "vga", "--serial", "none")
    try uj.run("start", "a")
    _ = try wait(uj, for: "SeaBIOS (version", seconds: 60, "the BIOS's banner")
    _ = try wait(uj, for: "*GNU/Linux", seconds: 120, "GRUB's menu")
    try uj.run("send-key", "a", "c")
    _ = try wait(uj, for: "grub>", seconds: 30, "GRUB's prompt")
    try uj.run("send-key", "a", "--text", "ls", "enter")
    let screen = try wait(uj, for: "(cd) (cd,msdos1)", seconds: 30, "the answer to ls")
    #expect(screen.contains("grub> ls"))
    try uj.run("send-key", "a", "--text", "echo \"It's {Shift} & ~co~\"\n")
    _ = try wait(uj, for: "\nIt's {Shift} & ~co~", seconds: 30, "shifted keys")
    // Editing keys: the first word becomes echo.
    try uj.run("send-key", "a", "--text", "ho arrows", "home", "e", "c", "enter")
    _ = try wait(uj, for: "\narrows", seconds: 30, "Home and insertion")
    try uj.run("send-key", "a", "ctrl-alt-del")
    _ = try wait(uj, for: "*GNU/Linux", seconds: 120, "the menu after a warm start")
    #expect(try uj("send-key", "a", "hyper-x").output.contains("no key \"hyper-x\""))
    #expect(try uj("send-key", "a").status == 1)
  }

  @Test(.enabled(if: LinuxGuest.missing == nil, "\(LinuxGuest.missing ?? "")"))
  func linuxUsesItsOwnTextConsole() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let files = try LinuxGuest.prepared.get()
    try uj.run(
      "new", "a", "--memory", "256M", "--accel", "soft", "--kernel", files.kernel, "--initrd",
      files.initrd, "--append", "console=tty0", "--display", "vga", "--serial", "none")
    try uj.run("start", "a")
    _ = try wait(uj, for: "\n/ #", seconds: 240, "a shell on the screen")
    try uj.run("send-key", "a", "--text", "echo $((6*7)) | md5sum\n")
    _ = try wait(uj, for: "50a2fabfdd276f573ff97ace8b11c5f4", seconds: 60, "the shell's answer")
    #expect(try uj.run("rpc", "a", "display.read").contains("\"cursor\""))
  }

  /// The memory test, out of Debian's package.
  private static let memoryTest: Result<String, TestGuestError> = {
    do {
      let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
      return .success(try cache.unpacked("memtest86+") + "/boot/memtest86+x64.bin")
    } catch {
      return .failure(TestGuestError("\(error)"))
    }
  }()
  private static let noMemoryTest: String? = {
    if case .failure(let error) = memoryTest { "\(error)" } else { nil }
  }()

  @Test(.enabled(if: noMemoryTest == nil, "\(noMemoryTest ?? "")"))
  func memoryTestDrawsItsScreen() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "a", "--memory", "32M", "--accel", "soft", "--kernel", try Self.memoryTest.get(),
      "--display", "vga", "--serial", "none")
    try uj.run("start", "a")
    let screen = try wait(uj, for: "Memtest86+ v", seconds: 60, "the title")
    #expect(screen.contains("CLK/Temp"))
    let colored = try uj.run("screen", "-c", "a")
    #expect(colored.contains("48;2;0;0;170"), "it draws on blue")
    // Its menu of settings opens by a key.
    try uj.run("send-key", "a", "f1")
    _ = try wait(uj, for: "Settings:", seconds: 60, "the menu")
  }

  // MARK: In the console's display pane

  /// The console on machine `a`, with its display pane open.
  private func pane(_ uj: Underjack) throws -> TerminalSession {
    let console = try TerminalSession(
      Underjack.program, columns: 100, rows: 32, environment: uj.environment)
    try console.wait(for: "stopped")
    try console.press("s")
    try console.wait(for: "running")
    try console.press("V")
    try console.wait(for: "detach: ^] d")
    return console
  }

  @Test(
    "GRUB in the display pane",
    .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
    .enabled(
      if: access(ConsoleRequirements.grubImage, R_OK) == 0,
      "\(ConsoleRequirements.grubImage) is missing: install grub-rescue-pc"))
  func grubInThePane() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "a", "--memory", "64M", "--accel", "soft", "--cdrom", ConsoleRequirements.grubImage,
      "--boot", "cdrom", "--display", "vga", "--serial", "none")
    let console = try pane(uj)
    defer { console.close() }
    try console.wait(for: "*GNU/Linux", seconds: 120)
    try console.press("Down", "c")
    try console.wait(for: "grub>", seconds: 30)
    try console.type("echo \"In {the} pane\"")
    try console.press("Home", "Right", "Right", "Right", "Right")
    try console.type(" -n")
    try console.wait(for: "grub> echo -n \"In {the} pane\"", seconds: 30)
    try console.press("Enter")
    try console.wait(for: "\nIn {the} pane", seconds: 30)
    try console.type("lsx")
    try console.press("BSpace", "Enter")
    try console.wait(for: "(cd) (cd,msdos1)", seconds: 30)
    try console.press("C-]", "d")
    try console.wait(for: "NAME")
  }

  @Test(
    "memtest86+ in the display pane",
    .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
    .enabled(if: noMemoryTest == nil, "\(noMemoryTest ?? "")"))
  func memoryTestInThePane() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "a", "--memory", "32M", "--accel", "soft", "--kernel", try Self.memoryTest.get(),
      "--display", "vga", "--serial", "none")
    let console = try pane(uj)
    defer { console.close() }
    try console.wait("draws its frame") {
      $0.contains("Memtest86+ v") && $0.contains("CLK/Temp") && $0.contains("<F1> Configuration")
    }
    try console.press("F1")
    try console.wait(for: "Settings:", seconds: 60)
    try console.press("F1")
    try console.wait(for: "Test Selection:", seconds: 60)
    try console.press("F10", "F10")
    try console.wait("has its frame back", seconds: 60) { !$0.contains("Settings:") }
  }
}
