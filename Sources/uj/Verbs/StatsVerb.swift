import ArgumentParser
import CLinux
import Glibc
import Hosting
import Inventory
import Platform

struct StatsVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Say what running machines have done since their start.",
    discussion: """
      CPU time of the guest's processors and of the host process beside them, exits, instructions (the software processor \
      counts them, KVM does not), memory, what disks, networks and consoles have moved, and how long requests of disks \
      took. Latencies are ends of buckets: half, and 99 of 100 requests took at most so long.

      With --watch once an --interval, with rates since the time before; with --json one line each time.

      --prometheus prints all machines of the inventory, or those named, in Prometheus' text format. --output replaces a \
      file in one step, for the textfile collector of node_exporter (name it .prom); with --watch again and again. --listen \
      serves GET /metrics on a Unix socket that only you can connect to, until it is interrupted.

      All metrics begin with underjack_; their labels are machine, processor, disk, operation, adapter, address, port. A \
      machine that does not run has underjack_machine_up 0 and its state.

      EXAMPLES
        uj stats web
        uj stats web --json --watch
        uj stats --prometheus --output /var/lib/node_exporter/underjack.prom
        uj stats --prometheus --listen /run/user/1000/underjack-metrics.sock
        curl --unix-socket /run/user/1000/underjack-metrics.sock http://localhost/metrics

      EXIT STATUS
        0  done, or ended by a signal while it watched or listened
        1  a machine is not there or does not run, or a file cannot be written
      """)

  @Argument(help: "Only these machines; without names all that run.")
  var names: [NameArgument] = []
  @Flag(help: "As JSON: one object for each machine.")
  var json = false
  @Flag(help: "Again and again.")
  var watch = false
  @Option(help: ArgumentHelp("Seconds from one time to the next, 0.1 to 3600.", valueName: "s"))
  var interval = 1.0
  @Flag(help: "As Prometheus' text format.")
  var prometheus = false
  @Option(help: ArgumentHelp("Serve the metrics on a Unix socket.", valueName: "path"))
  var listen: String?
  @Option(help: ArgumentHelp("Write the metrics to a file, in one step.", valueName: "file"))
  var output: String?

  func validate() throws {
    guard (0.1...3600).contains(interval) else {
      throw ValidationError("--interval is 0.1 to 3600 seconds.")
    }
    if prometheus {
      guard !json else { throw ValidationError("--json and --prometheus exclude each other.") }
      guard listen == nil || (output == nil && !watch) else {
        throw ValidationError("--listen goes with neither --output nor --watch.")
      }
    } else if listen != nil || output != nil {
      throw ValidationError("--listen and --output go with --prometheus.")
    }
  }

  func run() throws {
    let inventory = try openInventory()
    let wanted = try names.map { try $0.name() }
    for name in wanted where !inventory.exists(name) {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    if let listen { return try serve(InventoryLocation.absolute(listen), inventory, wanted) }
    var earlier: [String: (figures: MachineFigures, time: UInt64)] = [:]
    repeat {
      if prometheus {
        try put(try metrics(inventory, wanted), inventory)
      } else {
        try printFigures(inventory, wanted, &earlier)
      }
      if watch { MonotonicClock.sleep(UInt64(interval * 1e9)) }
    } while watch
  }

  // MARK: Prometheus

  private func metrics(_ inventory: Inventory, _ names: [MachineName]) throws -> String {
    let machines = try StatusSurvey(inventory).figures(of: names.isEmpty ? nil : names)
    return MachineMetrics(machines, version: UnderjackVersion.text).text
  }

  private func put(_ text: String, _ inventory: Inventory) throws {
    guard let output else { return write(text) }
    // The collector is another user.
    try FileChanges().write(text, to: InventoryLocation.absolute(output), mode: 0o644)
  }

  private func serve(_ path: String, _ inventory: Inventory, _ names: [MachineName]) throws {
    let signals = try EndingSignals()
    let socket = try MetricsSocket(path) {
      do {
        return try metrics(inventory, names)
      } catch {
        Failure.print(error)
        return ""
      }
    }
    Failure.note("serving metrics at \(path)")
    socket.run { signals.haveCome }
  }

  // MARK: For people and programs

  private func printFigures(
    _ inventory: Inventory, _ names: [MachineName],
    _ earlier: inout [String: (figures: MachineFigures, time: UInt64)]
  ) throws {
    let machines = try StatusSurvey(inventory).figures(of: names.isEmpty ? nil : names)
    for (status, figures) in machines {
      guard let figures else {
        guard !names.isEmpty else { continue }
        guard status.state.isAlive else {
          throw HostingError(.notRunning, "\(status.name): is not running")
        }
        throw HostingError(
          .timeout, "\(status.name): \(status.problem ?? "its host process does not answer")")
      }
      let now = MonotonicClock.now
      if json {
        say(watch ? figures.json.text : figures.json.prettyText)
      } else {
        let before = earlier[status.name]
        let page = StatsPage(
          figures, since: before?.figures,
          seconds: before.map { Double(now &- $0.time) / 1e9 } ?? 0)
        say(page.text)
      }
      earlier[status.name] = (figures, now)
    }
  }
}

/// SIGINT and SIGTERM, taken instead of dying of them: something is to be put away first.
struct EndingSignals {
  private let descriptor: SharedDescriptor

  init() throws {
    var set = sigset_t()
    sigemptyset(&set)
    for number in [SIGINT, SIGTERM] { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    descriptor = SharedDescriptor(
      FileDescriptor(
        owning: try systemCall("signalfd") {
          signalfd(-1, &set, Int32(SFD_CLOEXEC) | Int32(SFD_NONBLOCK))
        }))
  }

  var haveCome: Bool {
    var request = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) > 0
  }
}
