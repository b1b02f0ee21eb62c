import ArgumentParser
import CLinux
import ConsoleService
import ConsoleUI
import Glibc
import Platform
import VirtualTerminal

/// `uj-bench ui`: how quick the console is with a thousand machines, and with a guest that prints at full speed, beside
/// tmux. Everything is measured in pseudo-terminals of 200 by 60 and 80 by 24.
struct UIBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ui",
    abstract: "Frames, start, keys and CPU of the console with 1,000 machines; a flood beside tmux."
  )

  @Option(help: "Machines in the list.") var machines = 1000
  @Option(help: "Seconds to watch the list.") var seconds = 10
  @Option(help: "Mebibytes that the guest prints in the flood.") var flood = 64
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")
  @Option(help: "What to measure: frames, list, start, flood, with commas.")
  var what = "frames,list,start,flood"
  @Option(help: .hidden) var child: String?
  @Option(help: .hidden) var file: String?

  static let marker = "THE-END-OF-THE-FLOOD"

  private var parts: [Substring] { what.split(separator: ",") }

  func run() throws {
    if let child {
      let service = BenchmarkService(machines: child == "flood" ? 1 : machines, flood: file)
      var options = ConsoleUI.Options()
      if child == "flood" { options.attach = "vm0000" }
      throw ExitCode(ConsoleUI.run(service: service, files: .inventory, options: options))
    }
    if parts.contains("frames") { measureFrames() }
    let folder = try TemporaryFolder()
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", folder.path]) }
    // Nobody is asked for a key here.
    mkdir(folder.path + "/config", 0o700)
    mkdir(folder.path + "/config/underjack", 0o700)
    let settings = fopen(folder.path + "/config/underjack/config.toml", "w")
    fputs("prefix = \"C-]\"\n", settings)
    if let settings { fclose(settings) }
    if parts.contains("list") { try measureList(folder) }
    if parts.contains("start") { try measureStart(folder) }
    if parts.contains("flood") { try measureFlood(folder) }
  }

  // MARK: Frames

  /// What one second's statistics cost: the model takes them and the screen is drawn.
  private func measureFrames() {
    let service = BenchmarkService(machines: machines, flood: nil)
    var model = Model(
      size: Size(columns: 200, rows: 60), theme: ThemeLibrary.fallback, depth: .palette)
    var takes = Measurement(name: "take")
    var frames = Measurement(name: "draw")
    var now: UInt64 = 1_000_000_000
    for _ in 0..<100 {
      now += 1_000_000_000
      model.advance(to: now, wallClock: 1_700_000_000)
      let new = service.sample()
      let start = Self.processorTime
      _ = model.handle(.service(.machines(new)))
      let taken = Self.processorTime
      let canvas = Screen.draw(model)
      let drawn = Self.processorTime
      precondition(canvas.size.rows == 60)
      takes.values.append((taken - start) * 1000)
      frames.values.append((drawn - taken) * 1000)
    }
    print("\(machines) machines, 200x60, milliseconds of processor time, median (largest)")
    print("  statistics taken   \(decimal(takes.median)) (\(decimal(takes.values.max() ?? 0)))")
    print("  frame drawn        \(decimal(frames.median)) (\(decimal(frames.values.max() ?? 0)))")
  }

  /// Seconds that this thread has used: what others do on the host does not count.
  private static var processorTime: Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  // MARK: The list

  private func measureList(_ folder: TemporaryFolder) throws {
    let start = MonotonicClock.now
    let terminal = try BenchmarkTerminal(
      [besideThisProgram("uj-bench"), "ui", "--child", "list", "--machines", "\(machines)"],
      columns: 200, rows: 60, folder: folder.path)
    defer { terminal.close() }
    try terminal.wait(seconds: 20) { $0.contains("vm0000") }
    let first = Double(MonotonicClock.now - start) / 1e6
    usleep(1_500_000)
    terminal.drain()
    let before = try ProcessUsage(of: terminal.process)
    let bytesBefore = terminal.byteCount
    terminal.watch(seconds: Double(seconds))
    let after = try ProcessUsage(of: terminal.process)
    let share = 100 * (after.processorSeconds - before.processorSeconds) / Double(seconds)
    var keys = Measurement(name: "key")
    for step in 0..<40 {
      let name = "vm00\(step + 1 < 10 ? "0" : "")\(step + 1)"
      keys.values.append(
        try terminal.time(pressing: [0x6A]) { text in
          text.contains("▌ \(name)") || text.contains("> \(name)")
        })
    }
    print("  first screen       \(decimal(first)) ms after the start")
    print("  CPU                \(decimal(share)) % of a core, with statistics each second")
    print("  output             \((terminal.byteCount - bytesBefore) / seconds) bytes a second")
    print(
      "  key to screen      \(decimal(keys.median)) ms (\(decimal(keys.values.max() ?? 0))), of \(keys.values.count)"
    )
  }

  /// The real program with as many definitions on disk, none of them running.
  private func measureStart(_ folder: TemporaryFolder) throws {
    guard access(uj, X_OK) == 0 else { return print("  uj is not built beside this program") }
    let home = folder.path + "/home/machines"
    mkdir(folder.path + "/home", 0o700)
    mkdir(home, 0o700)
    for number in 0..<machines {
      let path = "\(home)/vm\(String(number + 10_000).dropFirst())"
      mkdir(path, 0o700)
      let stream = fopen(path + "/machine.toml", "w")
      fputs("memory = \"256M\"\nprocessors = 2\n[boot]\nkernel = \"/boot/vmlinuz\"\n", stream)
      if let stream { fclose(stream) }
    }
    let start = MonotonicClock.now
    let terminal = try BenchmarkTerminal([uj], columns: 200, rows: 60, folder: folder.path)
    defer { terminal.close() }
    try terminal.wait(seconds: 20) { $0.contains("Underjack") }
    let first = Double(MonotonicClock.now - start) / 1e6
    try terminal.wait(seconds: 60) { $0.contains("vm0000") }
    let list = Double(MonotonicClock.now - start) / 1e6
    terminal.watch(seconds: 2)
    let before = try ProcessUsage(of: terminal.process)
    terminal.watch(seconds: Double(seconds))
    let after = try ProcessUsage(of: terminal.process)
    let share = 100 * (after.processorSeconds - before.processorSeconds) / Double(seconds)
    print("uj itself with \(machines) definitions on disk, none running")
    print("  first screen       \(decimal(first)) ms after the start; the list \(decimal(list)) ms")
    print("  CPU                \(decimal(share)) % of a core")
  }

  // MARK: The flood

  private func measureFlood(_ folder: TemporaryFolder) throws {
    let path = folder.path + "/flood"
    try BenchmarkService.writeFlood(to: path, mebibytes: flood, end: Self.marker)
    let terminal = try BenchmarkTerminal(
      [besideThisProgram("uj-bench"), "ui", "--child", "flood", "--file", path], columns: 80,
      rows: 24, folder: folder.path)
    defer { terminal.close() }
    try terminal.wait(seconds: 20) { $0.contains("vm0000") }
    let before = try ProcessUsage(of: terminal.process)
    let start = MonotonicClock.now
    // Any key of the guest lets the flood begin.
    terminal.press([0x67])
    var keys = Measurement(name: "key")
    while !terminal.text.contains(Self.marker), keys.values.count < 200 {
      keys.values.append(
        try terminal.time(pressing: [0x1D]) {
          $0.contains("d detach") || $0.contains(Self.marker)
        })
      _ = try terminal.time(pressing: [0x1B]) {
        !$0.contains("d detach") || $0.contains(Self.marker)
      }
    }
    try terminal.wait(seconds: 300) { $0.contains(Self.marker) }
    let seconds = Double(MonotonicClock.now - start) / 1e9
    let ours = try ProcessUsage(of: terminal.process).processorSeconds - before.processorSeconds
    print("a guest that prints \(flood) MiB at full speed, 80x24")
    print("  uj    CPU \(decimal(ours)) s in \(decimal(seconds)) s")
    print(
      "        key to screen \(decimal(keys.median)) ms (\(decimal(keys.values.max() ?? 0))), of \(keys.values.count)"
    )
    guard access("/usr/bin/tmux", X_OK) == 0 else { return print("  tmux  is not installed") }
    let theirs = try measureTmux(path, folder)
    print("  tmux  CPU \(decimal(theirs)) s, server and client")
    print("  ratio \(decimal(ours / theirs))")
  }

  private func measureTmux(_ path: String, _ folder: TemporaryFolder) throws -> Double {
    let socket = folder.path + "/tmux"
    let terminal = try BenchmarkTerminal(
      [
        "/usr/bin/tmux", "-S", socket, "-f", "/dev/null", "-u", "new-session",
        "echo vm0000; read x; cat \(path); sleep 100",
      ], columns: 80, rows: 24, folder: folder.path)
    defer {
      terminal.close()
      _ = try? ChildProcess.run(["/usr/bin/tmux", "-S", socket, "kill-server"])
    }
    try terminal.wait(seconds: 20) { $0.contains("vm0000") }
    let answer = try ChildProcess.run(
      ["/usr/bin/tmux", "-S", socket, "display-message", "-p", "#{pid}"])
    let server = pid_t(answer.output.filter(\.isNumber)) ?? 0
    func used() throws -> Double {
      try ProcessUsage(of: server).processorSeconds
        + ProcessUsage(of: terminal.process).processorSeconds
    }
    let before = try used()
    terminal.press([0x0D])
    try terminal.wait(seconds: 300) { $0.contains(Self.marker) }
    return try used() - before
  }
}
