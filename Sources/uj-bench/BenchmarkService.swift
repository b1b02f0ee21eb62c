import CLinux
import ConsoleUI
import Platform

/// Machines that exist only for `uj-bench ui`: their statistics change each second, and one of them prints a file.
final class BenchmarkService: MachineService {
  private var machines: [MachineSummary]
  private var events: [ServiceEvent] = []
  private var nextSample: UInt64 = 0
  private var step = 0
  private let path: String?
  private var stream: UnsafeMutablePointer<FILE>?
  private var console: ConsoleNumber?

  /// - Parameter flood: A file that the first machine prints once a key is pressed.
  init(machines count: Int, flood: String?) {
    path = flood
    machines = (0..<count).map { number in
      let name = "vm\(String(number + 10_000).dropFirst())"
      var machine = MachineSummary(
        name: name, state: number % 7 == 6 ? .stopped : .running, processors: 2, memory: 1 << 30)
      machine.tags = ["rack\(number % 20)"]
      machine.snapshotCount = number % 4
      machine.currentSnapshot = number % 4 > 0 ? "before upgrade" : nil
      machine.accelerator = "kvm: /dev/kvm works"
      machine.processIdentifier = Int32(1000 + number)
      return machine
    }
  }

  var capabilities: ServiceCapabilities { .all }
  var descriptors: [PollRequest] { [] }
  var deadline: UInt64? { !events.isEmpty || stream != nil ? 0 : nextSample }

  /// The next second's statistics.
  func sample() -> [MachineSummary] {
    step += 1
    for index in machines.indices where machines[index].state == .running {
      let wave = (step * (3 + index % 5) + index) % 40
      machines[index].processorUse = Double(wave < 20 ? wave : 40 - wave) / 10
      machines[index].processorShares = [Double(wave % 10) / 10, Double(wave % 7) / 7]
      machines[index].uptime = UInt64(step) * 1_000_000_000
      machines[index].residentMemory = UInt64(300 + wave) << 20
      machines[index].counters.exits = UInt64(step * 1000 + index)
      machines[index].counters.diskRead = UInt64(step * wave) << 12
      machines[index].diskRate = Double(wave << 12)
    }
    return machines
  }

  func process() -> [ServiceEvent] {
    let now = MonotonicClock.now
    if now >= nextSample {
      nextSample = now &+ 1_000_000_000
      events.append(
        .host(
          HostStatus(
            processors: 8, processorUse: 0.4, memory: 16 << 30, availableMemory: 9 << 30,
            accelerator: "kvm")))
      events.append(.machines(sample()))
    }
    if let stream, let console {
      var bytes = [UInt8](repeating: 0, count: 65536)
      let count = fread(&bytes, 1, bytes.count, stream)
      if count > 0 {
        events.append(.output(console, Array(bytes[..<count])))
      } else {
        fclose(stream)
        self.stream = nil
      }
    }
    defer { events.removeAll() }
    return events
  }

  func perform(_ request: MachineRequest, as number: RequestNumber) {
    events.append(.finished(number, Outcome("done")))
  }

  func attach(
    _ machine: String, _ source: ConsoleSource, as console: ConsoleNumber, size: Size
  ) {
    self.console = console
    events.append(.attached(console, size))
    events.append(.output(console, Array("\(machine) waits for a key\r\n".utf8)))
  }

  func send(_ bytes: [UInt8], to console: ConsoleNumber) {
    if stream == nil, let path { stream = fopen(path, "r") }
  }

  func sendKeys(_ names: [String], to console: ConsoleNumber) {}
  func resize(_ console: ConsoleNumber, to size: Size) {}
  func refresh(every seconds: Double) {}
  func detach(_ console: ConsoleNumber) {}

  /// Text as a busy guest prints it: plain lines, colours, and now and then a cleared screen.
  static func writeFlood(to path: String, mebibytes: Int, end: String) throws {
    guard let stream = fopen(path, "w") else { throw BenchmarkError("\(path) can not be written") }
    defer { fclose(stream) }
    var written = 0
    var number = 0
    while written < mebibytes << 20 {
      number += 1
      var line = "[\(number)] \u{1B}[32mok\u{1B}[0m  Started unit-\(number % 977).service - "
      line += "the quick brown fox jumps over the lazy dog\r\n"
      if number % 50 == 0 {
        line += "\u{1B}[1;33mwarning:\u{1B}[0m disk \(number % 9) is 93% full\r\n"
      }
      if number % 5000 == 0 { line += "\u{1B}[2J\u{1B}[H" }
      fputs(line, stream)
      written += line.utf8.count
    }
    fputs("\r\n\(end)\r\n", stream)
  }
}
