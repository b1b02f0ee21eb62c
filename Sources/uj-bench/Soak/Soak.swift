import CLinux
import DeviceFuzzing
import Hosting
import Platform
import Synchronization

/// The run of `uj-bench soak`: what all its workers share.
final class Soak: Sendable {
  let uj: String
  let folder: String
  let environment: [String: String]
  /// Set while the disk is full, and some seconds after: what is refused then is no fault.
  let isFull = Atomic<Bool>(false)
  let isOver = Atomic<Bool>(false)

  struct Shared {
    var records: [String: SoakRecord] = [:]
    var busy: Set<String> = []
    var done: [String: Int] = [:]
    var faults: [String] = []
    var clients: [pid_t] = []
    var generator: SeededGenerator
    var nextName = 1
  }
  let shared: Mutex<Shared>

  init(uj: String, folder: String, seed: UInt64) {
    self.uj = uj
    self.folder = folder
    environment = [
      "UNDERJACK_HOME": "\(folder)/home", "UNDERJACK_RUNTIME": "\(folder)/run",
      "SWIFT_BACKTRACE": "enable=no",
    ]
    shared = Mutex(Shared(generator: SeededGenerator(seed: seed)))
  }

  func logPath(_ name: String) -> String { "\(folder)/home/machines/\(name)/log/serial0.log" }

  func random(_ range: ClosedRange<Int>) -> Int {
    shared.withLock { Int.random(in: range, using: &$0.generator) }
  }

  func fault(_ text: String) {
    let line = String(text.prefix(2000))
    say("FAULT \(line)")
    shared.withLock { $0.faults.append(line) }
    usleep(500_000)
  }

  func count(_ what: String) { shared.withLock { $0.done[what, default: 0] += 1 } }

  /// Runs a verb. Refusals are faults, unless the disk is full.
  @discardableResult
  func verb(_ arguments: String..., mayFail: Bool = false) -> (succeeded: Bool, output: String) {
    if let name = arguments.first(where: isMachine) {
      record(name) { $0.remember(arguments.joined(separator: " ")) }
    }
    let full = isFull.load(ordering: .acquiring)
    do {
      let result = try ChildProcess.run([uj] + arguments, environment: environment, seconds: 180)
      let succeeded = result.status == 0
      // Only what a verb may end with: a crash is a fault at any time.
      if !succeeded, result.status > 64 || !(mayFail || full || isFull.load(ordering: .acquiring)) {
        fault(
          "uj \(arguments.joined(separator: " ")): status \(result.status): \(result.output)"
            + story(of: arguments.first(where: isMachine)))
      }
      return (succeeded, result.output)
    } catch {
      fault("uj \(arguments.joined(separator: " ")): \(error)")
      return (false, "")
    }
  }

  /// What was done to a machine before, and what its host says.
  private func story(of name: String?) -> String {
    guard let name else { return "" }
    let verbs = record(name) { $0.history }.joined(separator: "; ")
    let log = try? ChildProcess.run([
      "/usr/bin/tail", "-n", "4", "\(folder)/home/machines/\(name)/log/host.log",
    ]).output
    return "\n  after: \(verbs)\n  its host: \(log ?? "-")"
  }

  private func isMachine(_ name: String) -> Bool {
    shared.withLock { $0.records[name] != nil }
  }

  /// Changes or reads a machine's record.
  func record<Result>(_ name: String, _ body: (inout SoakRecord) -> Result) -> Result {
    shared.withLock { body(&$0.records[name, default: SoakRecord()]) }
  }

  /// Reads on in a machine's log; what it should not have printed becomes a fault.
  func follow(_ name: String) {
    let path = logPath(name)
    let (new, known) = record(name) { record in
      let known = record.faults.count
      record.follow(path)
      return (record.faults, known)
    }
    for text in new[known...] {
      fault("\(name): \(text)\(story(of: name))")
    }
  }

  /// The host process of a machine; nil: none.
  func host(of name: String) -> pid_t? {
    let output = verb("status", name, "--json", mayFail: true).output
    guard let status = try? JSONValue(parsing: output),
      let number = status.array?.first?["process"]?.integer, number > 1
    else { return nil }
    return pid_t(number)
  }

  /// Waits until a machine's guest prints a sign of life that it had not printed before.
  func waitForSign(_ name: String, seconds: Int = 180) {
    let before = record(name) { $0.signs }
    let limit = MonotonicClock.now + UInt64(seconds) * 1_000_000_000
    while MonotonicClock.now < limit {
      follow(name)
      if record(name, { $0.signs }) > before { return }
      usleep(200_000)
    }
    if !isFull.load(ordering: .acquiring) {
      fault("\(name): no sign of life in \(seconds) s\(story(of: name))")
    }
  }

  /// A machine that nobody works on, taken by the caller until `release`.
  func take() -> String? {
    shared.withLock { shared in
      let free = shared.records.keys.filter { !shared.busy.contains($0) }.sorted()
      guard let name = free.randomElement(using: &shared.generator) else { return nil }
      shared.busy.insert(name)
      return name
    }
  }

  func release(_ name: String) { _ = shared.withLock { $0.busy.remove(name) } }
}

/// A line that is seen at once, also by who reads through a pipe.
func say(_ text: String) {
  let bytes = Array((text + "\n").utf8)
  bytes.withUnsafeBytes { _ = write(1, $0.baseAddress, $0.count) }
}
