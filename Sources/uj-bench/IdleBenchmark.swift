import ArgumentParser
import CLinux
import Platform

/// `uj-bench idle`: what a machine that does nothing costs, beside QEMU.
struct IdleBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "idle",
    abstract: "CPU and memory of a machine that waits in firmware and of a halted one, beside QEMU."
  )

  @Option(help: "Seconds to watch.") var seconds = 10
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  private static let qemu = "/usr/bin/qemu-system-x86_64"

  func validate() throws {
    guard seconds > 0 else { throw ValidationError("give a number of seconds above 0") }
  }

  func run() throws {
    print("idle for \(seconds) s: CPU % of one core, memory beside the guest's MiB (Pss)")
    let ours = [uj, "run", "--accel", "kvm", "--memory", "256M", "--serial", "stdio"]
    let theirs = [
      Self.qemu, "-machine", "pc,accel=kvm,graphics=off", "-nodefaults", "-display", "none", "-m",
      "256", "-serial", "stdio",
    ]
    try compare("firmware that waits", until: "No bootable device", ours, theirs)
    let folder = try TemporaryFolder()
    let kernel = try folder.write("halt", HaltingGuest.kernel)
    try compare(
      "halted guest", until: HaltingGuest.text, ours + ["--kernel", kernel],
      theirs + ["-kernel", kernel])
  }

  private func compare(
    _ name: String, until text: String, _ ours: [String], _ theirs: [String]
  ) throws {
    print("  \(name)")
    try show("uj", ours, until: text)
    if access(Self.qemu, X_OK) == 0 {
      try show("qemu", theirs, until: text)
    } else {
      print("    qemu  not installed (qemu-system-x86)")
    }
  }

  private func show(_ name: String, _ arguments: [String], until text: String) throws {
    let usage = try measure(arguments, until: text)
    print(
      "    \(column(name, 4, right: false))\(column(decimal(usage.processor), 8)) %"
        + "\(column(decimal(usage.memory, 1), 8)) MiB")
  }

  private func measure(
    _ arguments: [String], until text: String
  ) throws -> (processor: Double, memory: Double) {
    let child = try ChildProcess.start(arguments)
    defer {
      kill(child.identifier, SIGKILL)
      _ = ChildProcess.wait(for: child.identifier)
    }
    var seen = ""
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !seen.contains(text) {
      let count = try buffer.withUnsafeMutableBytes { try child.output.descriptor.read(into: $0) }
      guard count > 0 else { throw BenchmarkError("\(arguments[0]) ended: \(seen.suffix(300))") }
      seen += String(decoding: buffer[..<count], as: UTF8.self)
    }
    sleep(1)
    let before = try ProcessUsage(of: child.identifier)
    sleep(UInt32(seconds))
    let after = try ProcessUsage(of: child.identifier)
    return (
      100 * (after.processorSeconds - before.processorSeconds) / Double(seconds),
      after.memoryBesideGuest
    )
  }
}

/// What a process has used, out of /proc.
struct ProcessUsage {
  /// User and system time, seconds.
  var processorSeconds: Double
  /// Pss of all mappings but those of guest memory, MiB.
  var memoryBesideGuest: Double

  init(of process: pid_t) throws {
    let stat = try readWholeFile("/proc/\(process)/stat")
    let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
      throw BenchmarkError("/proc/\(process)/stat has an unknown form")
    }
    processorSeconds = (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    memoryBesideGuest = Self.memoryBesideGuest(try readWholeFile("/proc/\(process)/smaps"))
  }

  /// Guest memory is a memfd of ours, or the one anonymous mapping of 256 MiB that QEMU makes.
  private static func memoryBesideGuest(_ maps: String) -> Double {
    var kibibytes = 0
    var isGuest = false
    for line in maps.split(separator: "\n") {
      let words = line.split(separator: " ", omittingEmptySubsequences: true)
      if let range = words.first, range.contains("-"), words.count >= 5 {
        let ends = range.split(separator: "-").compactMap { UInt64($0, radix: 16) }
        let isWhole = ends.count == 2 && ends[1] - ends[0] >= 256 << 20
        isGuest = line.contains("memfd:guest-memory") || isWhole
      } else if words.first == "Pss:", !isGuest, words.count > 1 {
        kibibytes += Int(words[1]) ?? 0
      }
    }
    return Double(kibibytes) / 1024
  }
}

/// The text of a file in /proc.
func readWholeFile(_ path: String) throws -> String {
  let file = try FileDescriptor.open(path, O_RDONLY)
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
    bytes += buffer[..<count]
  }
}
