import CLinux
import KVM
import Platform
import TestGuests
import Testing

/// `uj run` in a real terminal, and without one.
@Suite(
  .serialized,
  .enabled(if: ConsoleRequirements.missing == nil, "\(ConsoleRequirements.missing ?? "")"))
struct RunTests {
  /// A shell in a terminal, in which `uj run` was typed and the guest has answered.
  private func shell(_ uj: Underjack, _ options: String = "") throws -> TerminalSession {
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    let kernel = try TestGuest.multiboot32.path()
    try session.type(
      "\(Underjack.program) run --kernel \(kernel) -m 32M \(options); echo status $? "
        + "left $(stty -a | tr ' ;' '\\n\\n' | grep -cx -e -icanon -e -echo -e -isig -e -opost)")
    try session.press("Enter")
    try session.wait(for: "underjack test guest")
    return session
  }

  @Test(
    "the terminal is given back, whoever ends the run",
    arguments: [
      ("~.", 0, 0), ("C-]", 0, 0), ("p", 0, 0), ("", SIGTERM, 128 + SIGTERM),
      ("", SIGHUP, 128 + SIGHUP), ("", SIGSEGV, 128 + SIGSEGV), ("", SIGABRT, 128 + SIGABRT),
    ])
  func terminalIsGivenBack(_ keys: String, _ signal: Int32, _ status: Int32) throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try shell(uj)
    defer { session.close() }
    if signal != 0 {
      kill(try session.childIdentifier(named: "uj"), signal)
    } else if keys.hasPrefix("C-") {
      try session.type("q")
      try session.press(keys)
    } else {
      try session.press("Enter")
      try session.type(keys)
    }
    try session.wait(for: "status \(status) left 0")
  }

  @Test("a stopped run gives the terminal back for the while, and takes it again")
  func stopAndContinue() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try shell(uj)
    defer { session.close() }
    kill(try session.childIdentifier(named: "uj"), SIGTSTP)
    try session.wait("shows the shell's word for it") { $0.contains("Stopped") }
    try session.type("echo back in $((20 + 3))")
    try session.press("Enter")
    try session.wait(for: "back in 23")
    try session.type("fg")
    try session.press("Enter")
    usleep(200_000)
    try session.type("p")
    try session.wait(for: "the guest powered off")
  }

  // MARK: Without a terminal

  /// Runs a line of a shell with `$UJ` and `$K`, the kernel.
  private func script(_ uj: Underjack, _ line: String) throws -> ChildProcess.Result {
    var variables = uj.environment
    variables["UJ"] = Underjack.program
    variables["K"] = try TestGuest.multiboot32.path()
    return try TestProcess.run(
      ["/bin/sh", "-c", line], environment: variables, folder: uj.folder)
  }

  @Test func pipesAndStatus() throws {
    let uj = try Underjack()
    defer { uj.close() }
    func end(_ key: String, _ options: String = "") throws -> ChildProcess.Result {
      let run = "$UJ run --kernel $K -m 32M --no-reboot --debug-exit \(options)"
      return try script(uj, "(sleep 0.4; printf \(key)) | \(run)")
    }
    let off = try end("p", "--append 'a b' -p 2")
    #expect(off.status == 0)
    #expect(off.output.contains("a b'"))
    #expect(off.output.contains("run: the guest powered off"))
    #expect(try end("d", "--irqchip split --no-rng").status == 43)
    let reset = try end("x")
    #expect(reset.status == 0 && reset.output.contains("asked for a reset"))
    // COM1 is a file; nothing stands in it twice, and what stood there stays.
    try writeFile("\(uj.folder)/out", "kept\n")
    let quiet = try script(
      uj,
      "$UJ run --kernel $K -m 32M --serial file:out --serial none & sleep 0.4; kill $!; wait $!")
    #expect(quiet.status == 128 + SIGTERM)
    let file = try TestProcess.run(["/bin/cat", "\(uj.folder)/out"]).output
    #expect(file.hasPrefix("kept\n"))
    #expect(file.split(separator: "\n").count { $0.contains("underjack test guest") } == 1)
  }

  @Test func pseudoTerminalAndFileTogether() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let child = try ChildProcess.start(
      [
        Underjack.program, "run", "--kernel", try TestGuest.multiboot32.path(), "-m", "32M",
        "--serial", "pty", "--serial", "file:\(uj.folder)/com2", "--serial", "pty", "--serial",
        "none", "--debugcon", "\(uj.folder)/debug",
      ], environment: uj.environment)
    var text = ""
    var buffer = [UInt8](repeating: 0, count: 4096)
    while text.split(separator: "\n").count < 2 {
      let count = try buffer.withUnsafeMutableBytes {
        try child.output.descriptor.read(into: $0)
      }
      guard count > 0 else { break }
      text += String(decoding: buffer[..<count], as: UTF8.self)
    }
    let lines = text.split(separator: "\n")
    #expect(lines.count == 2 && lines[1].hasPrefix("serial port 2: /dev/pts/"), "\(text)")
    let path = lines[0].dropFirst("serial port 0: ".count)
    #expect(path.hasPrefix("/dev/pts/"))
    let device = try FileDescriptor.open(String(path), O_RDWR | O_NOCTTY | O_NONBLOCK)
    var seen = ""
    let deadline = MonotonicClock.now + 10_000_000_000
    while !seen.contains("> "), MonotonicClock.now < deadline {
      let count = buffer.withUnsafeMutableBytes { read(device.rawValue, $0.baseAddress, $0.count) }
      if count > 0 {
        seen += String(decoding: buffer[..<count], as: UTF8.self)
      } else {
        usleep(5000)
      }
    }
    #expect(seen.contains("underjack test guest"))
    _ = "p".utf8CString.withUnsafeBytes { write(device.rawValue, $0.baseAddress, 1) }
    #expect(ChildProcess.wait(for: child.identifier) == 0)
    #expect(access("\(uj.folder)/com2", F_OK) == 0 && access("\(uj.folder)/debug", F_OK) == 0)
  }

  @Test(
    "a processor that gives up: registers and bytes in one block, status 3",
    .enabled(if: hostCannotEmulateFWAIT, "this host's KVM executes every instruction"))
  func processorGivesUp() throws {
    let uj = try Underjack()
    defer { uj.close() }
    // Neither the kernel nor software beside it can add a vector from the local APIC that the kernel keeps. Into
    // protected mode, SSE on, ADDPS XMM0, [0xFEE00000].
    let program: [UInt8] = [
      0x2E, 0x66, 0x0F, 0x01, 0x16, 0x40, 0x00, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0,
      0x66,
      0xEA, 0x17, 0x00, 0xFF, 0xFF, 0x08, 0x00, 0x66, 0xB8, 0x10, 0x00, 0x8E, 0xD8, 0x0F, 0x20,
      0xE0,
      0x0D, 0x00, 0x06, 0x00, 0x00, 0x0F, 0x22, 0xE0, 0x0F, 0x20, 0xC0, 0x83, 0xE0, 0xF3, 0x0F,
      0x22,
      0xC0, 0x0F, 0x58, 0x05, 0x00, 0x00, 0xE0, 0xFE, 0xF4, 0xEB, 0xFD, 0x00, 0x00, 0x00, 0x00,
      0x00,
      0x17, 0x00, 0x48, 0x00, 0xFF, 0xFF, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0,
      0xFF, 0xFF, 0x00, 0x00, 0x00, 0x9B, 0xCF, 0x00, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x93, 0xCF,
      0x00,
    ]
    var image = program + [UInt8](repeating: 0, count: 65536 - program.count)
    // At the reset vector, 16 bytes below the end: a jump to the image's start.
    image.replaceSubrange(65520..<65523, with: [0xE9, 0x0D, 0x00])
    let file = try FileDescriptor.open("\(uj.folder)/firmware", O_WRONLY | O_CREAT, mode: 0o600)
    _ = try image.withUnsafeBytes { try file.write($0) }
    let result = try uj(
      "run", "--accel", "kvm", "--firmware", "\(uj.folder)/firmware", "-m", "16M")
    #expect(result.status == 3)
    #expect(result.output.contains("RIP=00000000ffff0031"))
    #expect(result.output.contains("0f 58 05 00 00 e0 fe"))
    #expect(!result.output.contains("run:"))
  }

  @Test func optionsOverrideADefinitionForOneRun() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let kernel = try TestGuest.multiboot32.path()
    try uj.run("new", "a", "-m", "32M", "--kernel", kernel, "--append", "lasting")
    let again = try script(uj, "(sleep 0.4; printf p) | $UJ run a -m 64M --append brief")
    #expect(again.status == 0)
    #expect(again.output.contains("memory 4000000") && again.output.contains("brief'"))
    #expect(try uj.run("show", "a").contains("memory = \"32M\""))
    let board = try uj.run(
      "run", "a", "--dry-run", "--cpus", "sockets=2,cores=2", "--cdrom", "empty")
    #expect(board.contains("machine a\n") && board.contains("processors: 4"))
    #expect(board.contains("COM1 goes to this terminal"))
    #expect(try uj.run("status", "a").contains("stopped"))
  }
}

/// Nested hosts without hardware support emulate kernel mode, with gaps.
private let hostCannotEmulateFWAIT: Bool = {
  if case .emulatesSupervisorMode = KVMSystem.probe() { return true }
  return false
}()
