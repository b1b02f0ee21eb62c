import ArgumentParser
import CLinux
import NetworkGuests
import Platform

/// `uj-bench net`: streams between guest and host and the round trip, beside QEMU with the same guest, accelerator and
/// back end.
struct NetworkBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "net",
    abstract: "Guest to host and back: TCP throughput and round trip, beside QEMU, interleaved.",
    discussion: """
      The guest is Debian's cloud kernel with this host's iperf3 in it. A tap must exist, be up, belong to the user and \
      have the address 10.9.0.1/24.
      """)

  enum Accelerator: String, ExpressibleByArgument {
    case soft, kvm
    /// QEMU's word.
    var theirs: String { self == .soft ? "tcg" : "kvm" }
  }

  @Option(help: "Rounds; the median counts.") var rounds = 3
  @Option(help: "Seconds of each stream.") var seconds = 5
  @Option(help: "soft or kvm; QEMU gets tcg or kvm.") var accel = Accelerator.soft
  @Option(help: "An existing tap instead of the user network.") var tap: String?
  @Option(help: "The adapter: virtio or e1000.") var model = "virtio"
  @Flag(
    help: "Round trips at a real-time priority (root, chrt): other work does not count.")
  var realTime = false
  @Option(help: "No comparison: a flood both ways for so many seconds, and what memory it costs.")
  var flood: Int?
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  /// Round trips that do not count, and those that do: the first find no translated code, ours or QEMU's.
  private static let warmUp = 100
  private static let pings = 300
  private static let iperf = "/usr/bin/iperf3"
  private static let qemu = "/usr/bin/qemu-system-x86_64"

  func validate() throws {
    guard rounds > 0, seconds > 0, ["virtio", "e1000"].contains(model) else {
      throw ValidationError("give numbers above 0, and a model that there is")
    }
  }

  private var host: String { tap == nil ? "10.0.2.2" : "10.9.0.1" }

  func run() throws {
    guard access(Self.iperf, X_OK) == 0 else {
      throw BenchmarkError("\(Self.iperf) is missing: install iperf3")
    }
    var template = Array("/tmp/uj-bench-net-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchmarkError("no temporary folder") }
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let port = 40_000 + Int(getpid() % 10_000)
    let servers = try (0..<2).map {
      try ChildProcess.start([
        Self.iperf, "-s", "-p", "\(port + $0)", "-B", tap == nil ? "127.0.0.1" : host,
      ])
    }
    defer {
      for server in servers {
        kill(server.identifier, SIGKILL)
        _ = ChildProcess.wait(for: server.identifier)
      }
    }
    let guest = try NetworkGuest(
      model == "e1000" ? .full : .cloud, programs: [Self.iperf], script: script(port), in: folder)
    if let flood { return try measureFlood(guest, flood) }
    try compare(guest)
  }

  /// What the guest does.
  private func script(_ port: Int) -> String {
    let address = tap == nil ? "" : "ip addr add 10.9.0.2/24 dev eth0; sleep 1\n"
    let client = "iperf3 -c \(host) -f m"
    guard let flood else {
      return address + """
        echo "UP $(\(client) -p \(port) -t \(seconds) | grep receiver)"
        echo "DOWN $(\(client) -p \(port) -t \(seconds) -R | grep receiver)"
        ping -c \(Self.warmUp) -i 0.01 \(host) > /dev/null
        ping -c \(Self.pings) -i 0.01 \(host) > /tmp/pings
        echo "TRIP $(grep -o 'time=[0-9.]*' /tmp/pings | cut -d = -f 2 | tr '\\n' ' ')"
        echo BENCH-DONE
        """
    }
    return address + """
      \(client) -p \(port) -t \(flood) --bidir > /dev/null &
      iperf3 -c \(host) -u -b 0 -l 1400 -p \(port + 1) -t \(flood) > /dev/null &
      wait
      echo BENCH-DONE
      """
  }

  private func ours(_ guest: NetworkGuest) -> [String] {
    var network = tap.map { "tap:\($0)" } ?? "user"
    if model != "virtio" { network += ",model=\(model)" }
    return [
      uj, "run", "--accel", accel.rawValue, "--memory", "256M", "--kernel", guest.kernel,
      "--initrd", guest.initrd, "--append", append, "--net", network,
    ]
  }

  private func theirs(_ guest: NetworkGuest) -> [String] {
    let network = tap.map { "tap,id=n,ifname=\($0),script=no,downscript=no" } ?? "user,id=n"
    let device = model == "virtio" ? "virtio-net-pci" : "e1000"
    return [
      Self.qemu, "-machine", "pc,accel=\(accel.theirs)", "-nodefaults", "-display", "none", "-m",
      "256", "-serial", "stdio", "-no-reboot", "-kernel", guest.kernel, "-initrd", guest.initrd,
      "-append", append, "-netdev", network, "-device", "\(device),netdev=n",
    ]
  }

  private var append: String { "console=ttyS0 quiet" + (tap == nil ? "" : " nodhcp") }

  // MARK: Beside QEMU

  private struct Figures {
    var up = Measurement(name: "guest to host, Mbit/s")
    var down = Measurement(name: "host to guest, Mbit/s")
    var trip = Measurement(name: "round trip, ms: median")
    var least = Measurement(name: "least")
    var mean = Measurement(name: "mean")
  }

  private func compare(_ guest: NetworkGuest) throws {
    var (ours, theirs) = (Figures(), Figures())
    let hasQEMU = access(Self.qemu, X_OK) == 0
    for _ in 0..<rounds {
      try measure(self.ours(guest), into: &ours)
      if hasQEMU { try measure(self.theirs(guest), into: &theirs) }
    }
    let back = tap.map { "tap \($0)" } ?? "user network"
    print("\(back), \(model), \(accel.rawValue) and \(accel.theirs), median of \(rounds)")
    print(column("", 24, right: false) + column("uj", 10) + column("qemu", 10) + column("ratio", 8))
    for (mine, other) in [
      (ours.up, theirs.up), (ours.down, theirs.down), (ours.trip, theirs.trip),
      (ours.least, theirs.least), (ours.mean, theirs.mean),
    ] {
      print(
        column(mine.name, 24, right: false) + column(decimal(mine.median, 3), 10)
          + column(decimal(other.median, 3), 10)
          + column(decimal(mine.median / other.median), 8))
    }
    if !hasQEMU { print("qemu is not installed (qemu-system-x86)") }
  }

  private func measure(_ arguments: [String], into figures: inout Figures) throws {
    let text = try output(of: arguments, limit: 300 + 4 * Double(seconds))
    func number(_ line: String, before unit: String) throws -> Double {
      let words =
        text.split(whereSeparator: \.isNewline).first { $0.hasPrefix(line) }?
        .split(separator: " ") ?? []
      guard let place = words.firstIndex(of: Substring(unit)), place > 0,
        let value = Double(words[place - 1])
      else { throw BenchmarkError("\(arguments[0]): no figure in: \(text.suffix(400))") }
      return value
    }
    figures.up.values.append(try number("UP", before: "Mbits/sec"))
    figures.down.values.append(try number("DOWN", before: "Mbits/sec"))
    let trips =
      text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("TRIP") }?
      .split(separator: " ").compactMap { Double($0) }.sorted() ?? []
    guard let least = trips.first, trips.count > Self.pings / 2 else {
      throw BenchmarkError("\(arguments[0]): no round trips in: \(text.suffix(400))")
    }
    figures.trip.values.append(trips[trips.count / 2])
    figures.least.values.append(least)
    figures.mean.values.append(trips.reduce(0, +) / Double(trips.count))
  }

  /// What a machine prints up to the end of the guest's script.
  private func output(of arguments: [String], limit: Double) throws -> String {
    let child = try ChildProcess.start(arguments)
    defer {
      kill(child.identifier, SIGTERM)
      _ = ChildProcess.wait(for: child.identifier)
    }
    var text = try read(child, until: "DOWN", limit: limit) {}
    if realTime {
      _ = try ChildProcess.run([
        "/usr/bin/chrt", "--all-tasks", "--fifo", "--pid", "1", "\(child.identifier)",
      ])
    }
    text += try read(child, until: "BENCH-DONE", limit: limit) {}
    return text
  }

  private func read(
    _ child: ChildProcess.Running, until mark: String, limit: Double, _ meanwhile: () -> Void
  ) throws -> String {
    let end = MonotonicClock.now + UInt64(limit * 1e9)
    var seen = ""
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while !seen.contains(mark) {
      guard MonotonicClock.now < end else {
        throw BenchmarkError("the guest did not end in \(limit) s: \(seen.suffix(400))")
      }
      var ready = pollfd(fd: child.output.rawValue, events: Int16(POLLIN), revents: 0)
      if poll(&ready, 1, 1000) > 0 {
        let count = try buffer.withUnsafeMutableBytes {
          try child.output.descriptor.read(into: $0)
        }
        guard count > 0 else { throw BenchmarkError("it ended: \(seen.suffix(400))") }
        seen += String(decoding: buffer[..<count], as: UTF8.self)
      }
      meanwhile()
    }
    return seen
  }

  // MARK: Flood

  private func measureFlood(_ guest: NetworkGuest, _ length: Int) throws {
    let child = try ChildProcess.start(ours(guest))
    defer {
      kill(child.identifier, SIGTERM)
      _ = ChildProcess.wait(for: child.identifier)
    }
    let begin = MonotonicClock.now
    var samples: [(second: Int, size: Int)] = []
    _ = try read(child, until: "BENCH-DONE", limit: 300 + Double(length)) {
      let second = Int((MonotonicClock.now - begin) / 1_000_000_000)
      if second >= (samples.last?.second ?? 0) + max(length / 10, 1) {
        samples.append((second, Self.ownMemory(of: child.identifier)))
      }
    }
    samples.append(
      (Int((MonotonicClock.now - begin) / 1_000_000_000), Self.ownMemory(of: child.identifier)))
    for sample in samples { print("  \(sample.second) s: \(sample.size) KiB of its own") }
    guard let last = samples.last, samples.count > 3 else { return }
    let growth = last.size - samples[2].size
    print("growth from \(samples[2].second) s to \(last.second) s: \(growth) KiB")
    guard growth < 8 << 10 else { throw BenchmarkError("it grows under a flood") }
  }

  /// Anonymous memory, KiB: the guest's RAM is a file's and does not count.
  private static func ownMemory(of process: pid_t) -> Int {
    let result = try? ChildProcess.run(["/bin/grep", "RssAnon", "/proc/\(process)/status"])
    return Int(result?.output.filter(\.isNumber) ?? "") ?? 0
  }
}
