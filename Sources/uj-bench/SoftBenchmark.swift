import ArgumentParser
import CLinux
import Platform

/// `uj-bench soft`: the software processor beside QEMU's TCG with one thread, the same kernel, initramfs and memory.
struct SoftBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soft",
    abstract: "The software processor beside QEMU TCG: boot to a shell, and guest loops.")

  @Option(help: "A Linux bzImage, for example from the package linux-image-cloud-amd64.")
  var kernel: String
  @Option(help: "A static BusyBox.") var busybox = "/bin/busybox"
  @Option(help: "More words for the kernel's command line.") var append = ""
  @Option(help: "Rounds; the minimum counts.") var rounds = 1
  @Option(help: "Seconds after which a guest is given up.") var limit = 600.0
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  private static let memory = "256M"

  func run() throws {
    let guest = try SoftBenchmarkGuest(busybox: busybox)
    defer { guest.remove() }
    let line = "console=ttyS0 quiet panic=-1" + (append.isEmpty ? "" : " " + append)
    let qemu = "/usr/bin/qemu-system-x86_64"
    let hasQEMU = access(qemu, X_OK) == 0
    var ours = GuestTimes()
    var theirs = GuestTimes()
    for _ in 0..<rounds {
      ours.merge(
        try GuestTimes.measure(
          [
            uj, "run", "--accel", "soft", "--memory", Self.memory, "--serial", "stdio", "--kernel",
            kernel, "--initrd", guest.initramfs, "--append", line,
          ], limit: limit))
      guard hasQEMU else { continue }
      theirs.merge(
        try GuestTimes.measure(
          [
            qemu, "-machine", "pc", "-accel", "tcg,thread=single", "-nodefaults", "-display",
            "none", "-m", Self.memory, "-serial", "stdio", "-no-reboot", "-kernel", kernel,
            "-initrd", guest.initramfs, "-append", line,
          ], limit: limit))
    }
    report(ours, hasQEMU ? theirs : nil)
  }

  private func report(_ ours: GuestTimes, _ theirs: GuestTimes?) {
    print("seconds, minimum of \(rounds); a ratio under 1 is faster than TCG")
    print(
      column("", 10, right: false) + column("uj soft", 10) + column("TCG", 10) + column("ratio", 8)
        + column("MIPS", 8))
    for name in [GuestTimes.shell] + SoftBenchmarkGuest.loops {
      guard let time = ours.seconds[name] else { continue }
      let other = theirs?.seconds[name]
      let instructions = ours.instructions[name] ?? 0
      print(
        column(name, 10, right: false) + column(decimal(time, 3), 10)
          + column(other.map { decimal($0, 3) } ?? "-", 10)
          + column(other.map { decimal(time / $0) } ?? "-", 8)
          + column(instructions > 0 ? decimal(instructions / time / 1e6, 0) : "", 8))
    }
    if theirs == nil { print("qemu-system-x86_64 is not installed (qemu-system-x86)") }
  }
}

/// What a guest's marks on the console tell, by the host's clock.
struct GuestTimes {
  static let shell = "shell"
  var seconds: [String: Double] = [:]
  /// Where the guest knows how many it executed.
  var instructions: [String: Double] = [:]

  mutating func merge(_ other: GuestTimes) {
    seconds.merge(other.seconds) { min($0, $1) }
    instructions.merge(other.instructions) { $1 }
  }

  /// Runs a program whose standard output is the guest's console, until the guest has done everything.
  static func measure(_ arguments: [String], limit: Double) throws -> GuestTimes {
    let start = MonotonicClock.now
    let child = try ChildProcess.start(arguments)
    defer {
      kill(child.identifier, SIGKILL)
      _ = ChildProcess.wait(for: child.identifier)
    }
    var times = GuestTimes()
    var begun: [String: UInt64] = [:]
    var line: [UInt8] = []
    var last = ""
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let passed = Double(MonotonicClock.now - start) / 1e9
      var ready = pollfd(fd: child.output.rawValue, events: Int16(POLLIN), revents: 0)
      guard passed < limit, poll(&ready, 1, Int32((limit - passed) * 1000)) > 0 else {
        throw BenchmarkError("\(arguments[0]) was not done within \(limit) s; last: \(last)")
      }
      let count = try buffer.withUnsafeMutableBytes { try child.output.descriptor.read(into: $0) }
      let now = MonotonicClock.now
      guard count > 0 else { throw BenchmarkError("\(arguments[0]) ended; last: \(last)") }
      for byte in buffer[..<count] {
        guard byte == 10 || byte == 13 else {
          if line.count < 1024 { line.append(byte) }
          continue
        }
        let text = String(decoding: line, as: UTF8.self)
        line = []
        if text.isEmpty { continue }
        last = text
        let words = text.split(separator: " ").map(String.init)
        switch words.first {
        case SoftBenchmarkGuest.readyText: times.seconds[shell] = Double(now - start) / 1e9
        case "BEGIN" where words.count > 1: begun[words[1]] = now
        case "END" where words.count > 2:
          guard let begin = begun[words[1]] else { continue }
          times.seconds[words[1]] = Double(now - begin) / 1e9
          times.instructions[words[1]] = Double(words[2]) ?? 0
        case "ALL-DONE": return times
        default: break
        }
      }
    }
  }
}
