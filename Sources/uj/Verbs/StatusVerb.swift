import ArgumentParser
import CLinux
import Hosting
import Inventory

struct StatusVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "List machines and what they do.",
    discussion: """
      MAXMEM is the memory of the definition, CURMEM what of it the guest has touched, CPU the share of one processor \
      that the guest used in the last second, TTY the pseudo-terminal of the first serial port. Broken and crashed \
      machines say why.
      """,
    aliases: ["list", "stat"])

  @Argument(help: "Only these machines.")
  var names: [NameArgument] = []
  @Flag(name: [.customShort("r"), .long], help: "Only running ones.")
  var running = false
  @Flag(help: "As JSON, one array.")
  var json = false

  func run() throws {
    let inventory = try openInventory()
    let wanted = try names.map { try $0.name() }
    for name in wanted where !inventory.exists(name) {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    var statuses = try StatusSurvey(inventory).statuses(of: wanted.isEmpty ? nil : wanted)
    if running { statuses.removeAll { !$0.state.isAlive } }
    if json { return say(JSONValue.array(statuses.map(\.json)).prettyText) }
    say(Self.table(statuses))
  }

  static func table(_ statuses: [MachineStatus]) -> String {
    var rows = [["PID", "VCPUS", "MAXMEM", "CURMEM", "CPU", "UPTIME", "TTY", "STATE", "NAME"]]
    for status in statuses {
      rows.append([
        status.process.map { "\($0)" } ?? "-",
        status.processors > 0 ? "\(status.processors)" : "-",
        status.memory > 0 ? ByteSize.formatRounded(status.memory) : "-",
        status.residentMemory.map(ByteSize.formatRounded) ?? "-",
        status.processorUse.map { "\(Int(($0 * 100).rounded()))%" } ?? "-",
        status.uptime.map(duration) ?? "-",
        status.serialDevices.first.map { $0.hasPrefix("/dev/") ? String($0.dropFirst(5)) : $0 }
          ?? "-",
        status.state == .unresponsive ? "not answering" : status.state.rawValue,
        status.name + (status.problem.map { "  (\($0))" } ?? "")
          + (status.isUnconfined ? "  (no sandbox)" : "")
          // A problem names its report itself.
          + (status.problem == nil
            ? status.crashReport.map { "  (crash report: \($0))" } ?? "" : ""),
      ])
    }
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      row.enumerated().map { index, cell in
        if index == row.count - 1 { return cell }
        let blanks = String(repeating: " ", count: widths[index] - cell.count)
        // Numbers to the right, words to the left.
        return index < 6 ? blanks + cell : cell + blanks
      }.joined(separator: " ")
    }.joined(separator: "\n")
  }

  /// `1d02h`, `3h05m`, `4m07s`, `12s`.
  static func duration(_ nanoseconds: UInt64) -> String {
    let seconds = nanoseconds / 1_000_000_000
    func two(_ value: UInt64) -> String { value < 10 ? "0\(value)" : "\(value)" }
    switch seconds {
    case 0..<60: return "\(seconds)s"
    case 60..<3600: return "\(seconds / 60)m\(two(seconds % 60))s"
    case 3600..<86400: return "\(seconds / 3600)h\(two(seconds / 60 % 60))m"
    default: return "\(seconds / 86400)d\(two(seconds / 3600 % 24))h"
    }
  }
}
