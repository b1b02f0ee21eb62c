import ArgumentParser
import Hosting
import Inventory

struct SecurityVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "security",
    abstract: "Say what keeps a running machine's guest in.",
    discussion: """
      Measured from /proc, thread by thread, and not as the host process says itself; of Landlock the kernel tells \
      nothing, and that line is the host's word. What a user may not see of a process that hides its memory (its \
      namespaces and descriptors) root sees.

      Then the weaknesses of this host's processors as its kernel names them, and what they mean for guests.

      EXIT STATUS
        0  every thread is filtered and has no capabilities
        1  one is not, or the machine does not run
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let name = try name.name()
    let inventory = try openInventory()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    guard let holder = inventory.holder(name), holder.role == .host else {
      throw HostingError(.notRunning, "\(name): is not running")
    }
    let report = try SecurityReport(process: holder.process)
    let said = try? MachineClient(name, at: inventory.location).status().sandbox
    let weaknesses = HostWeakness.all()
    if json {
      say(Self.json(name, report, said, weaknesses).prettyText)
    } else {
      for line in Self.lines(name, report, said) + Self.lines(weaknesses, report) { say(line) }
    }
    if !report.areAllConfined || !report.haveNoCapabilities { throw ExitStatus(status: 1) }
  }

  private static func json(
    _ name: MachineName, _ report: SecurityReport, _ said: String?, _ weaknesses: [HostWeakness]
  ) -> JSONValue {
    [
      "name": .string(name.description), "host": report.json,
      "sandbox": .optional(said, JSONValue.string),
      "hyperthreads": .optional(HostWeakness.hasHyperthreads, JSONValue.bool),
      "vulnerabilities": .array(
        weaknesses.map {
          [
            "name": .string($0.name), "text": .string($0.text), "state": .string($0.state.rawValue),
            "meaning": .optional($0.meaning, JSONValue.string),
          ]
        }),
    ]
  }

  private static func lines(
    _ name: MachineName, _ report: SecurityReport, _ said: String?
  ) -> [String] {
    let threads = report.threads
    func share(_ what: String, _ isSo: (SecurityReport.Thread) -> Bool) -> String {
      let without = threads.filter { !isSo($0) }
      guard !without.isEmpty else { return "\(what), on all \(threads.count) threads" }
      return "NOT on \(without.count) of \(threads.count) threads: "
        + Set(without.map(\.name)).sorted().joined(separator: ", ")
    }
    var lines = [
      "\(name): host process \(report.process) of user \(report.user)",
      fact("sandbox", said ?? "the host does not answer"),
      fact("privileges", share("no new ones", \.hasNoNewPrivileges)),
      fact("capabilities", share("none", { $0.capabilities == 0 })),
      fact("system calls", share("filtered", { $0.filters > 0 })),
    ]
    for count in Set(threads.map(\.filters)).sorted() where count > 0 {
      let names = Set(threads.filter { $0.filters == count }.map(\.name)).sorted()
      lines.append(
        fact("", "\(count) filter\(count == 1 ? "" : "s"): \(names.joined(separator: ", "))"))
    }
    let known = report.namespaces.filter { $0.isOwn != nil }
    let own = known.filter { $0.isOwn == true }.map(\.kind)
    let shared = known.filter { $0.isOwn == false }.map(\.kind)
    lines.append(
      fact(
        "namespaces",
        known.isEmpty
          ? "hidden from you; ask as root"
          : "own: \(own.isEmpty ? "none" : own.joined(separator: " ")); shared with you: "
            + (shared.isEmpty ? "none" : shared.joined(separator: " "))))
    lines.append(
      fact("core files", report.coreLimit == 0 ? "none are written" : "MAY be written"))
    let limit = report.descriptorLimit.map { ", at most \($0)" } ?? ""
    lines.append(
      fact(
        "open files", (report.descriptors.map { "\($0.count)" } ?? "hidden from you") + limit))
    if !report.controlGroup.isEmpty { lines.append(fact("cgroup", report.controlGroup)) }
    return lines
  }

  private static func lines(
    _ weaknesses: [HostWeakness], _ report: SecurityReport
  ) -> [String] {
    var lines = ["processors of this host"]
    let threads =
      switch HostWeakness.hasHyperthreads {
      case true?: "two run on a core"
      case false?: "one runs on a core"
      case nil: "the kernel does not say"
      }
    lines.append(fact("hyperthreads", threads))
    let cores =
      switch report.sharesNoCore {
      case true?: "on: no other machine runs beside this one's processors on a core"
      case false?: "OFF for this machine"
      case nil: "this kernel has none"
      }
    lines.append(fact("core scheduling", cores))
    let affected = weaknesses.filter { $0.state != .unaffected }
    for weakness in affected {
      lines.append(fact(weakness.name, weakness.text))
      if let meaning = weakness.meaning, weakness.state == .vulnerable {
        lines.append(fact("", "means: \(meaning)"))
      }
    }
    lines.append(
      fact("others", "\(weaknesses.count - affected.count) known ones do not affect it"))
    return lines
  }

  private static func fact(_ label: String, _ text: String) -> String {
    "  " + label + String(repeating: " ", count: max(1, 26 - label.count)) + text
  }
}
