import ArgumentParser
import CLinux
import Glibc
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
      column("", 10, right: false) + column("by the clock", 28) + column("of processor time", 28))
    print(
      column("", 10, right: false)
        + (0..<2).map { _ in column("uj soft", 10) + column("TCG", 10) + column("ratio", 8) }
        .joined() + column("MIPS", 8))
    for name in [GuestTimes.shell] + SoftBenchmarkGuest.loops {
      guard let time = ours.processor[name] else { continue }
      let instructions = ours.instructions[name] ?? 0
      print(
        column(name, 10, right: false) + columns(ours.seconds[name], theirs?.seconds[name])
          + columns(time, theirs?.processor[name])
          + column(instructions > 0 ? decimal(instructions / time / 1e6, 0) : "", 8))
    }
    if theirs == nil { print("qemu-system-x86_64 is not installed (qemu-system-x86)") }
  }

  private func columns(_ ours: Double?, _ theirs: Double?) -> String {
    var ratio = "-"
    if let ours, let theirs { ratio = decimal(ours / theirs) }
    return column(ours.map { decimal($0, 3) } ?? "-", 10)
      + column(theirs.map { decimal($0, 3) } ?? "-", 10) + column(ratio, 8)
  }
}

/// What a guest's marks on the console tell, by the host's clock and by the processor time of the monitor.
struct GuestTimes {
  static let shell = "shell"
  var seconds: [String: Double] = [:]
  /// Of all threads of the process: what else the host does counts less.
  var processor: [String: Double] = [:]
  /// Where the guest knows how many it executed.
  var instructions: [String: Double] = [:]

  mutating func merge(_ other: GuestTimes) {
    seconds.merge(other.seconds) { min($0, $1) }
    processor.merge(other.processor) { min($0, $1) }
    instructions.merge(other.instructions) { $1 }
  }

  /// Seconds that a process has used; 0 if it is gone.
  private static func processorTime(of process: pid_t) -> Double {
    var clock = clockid_t()
    var time = timespec()
    guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else {
      return 0
    }
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
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
    var begun: [String: (clock: UInt64, processor: Double)] = [:]
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
        case SoftBenchmarkGuest.readyText:
          times.seconds[shell] = Double(now - start) / 1e9
          times.processor[shell] = processorTime(of: child.identifier)
        case "BEGIN" where words.count > 1:
          begun[words[1]] = (now, processorTime(of: child.identifier))
        case "END" where words.count > 2:
          guard let begin = begun[words[1]] else { continue }
          times.seconds[words[1]] = Double(now - begin.clock) / 1e9
          times.processor[words[1]] = processorTime(of: child.identifier) - begin.processor
          times.instructions[words[1]] = Double(words[2]) ?? 0
        case "ALL-DONE": return times
        default: break
        }
      }
    }
  }
}
