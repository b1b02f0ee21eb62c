import ArgumentParser
import Hosting
import Inventory
import Machine
import Platform

struct TraceVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace",
    abstract: "Count why a running machine's guest is left, and how long that takes.",
    discussion: """
      One line for each kind of exit and place: a port, or a page of memory-mapped registers, with the device there; other \
      kinds have no place. COUNT is what came since the line before, and its rate. MEAN, HALF, 99% and LONGEST are the times \
      from the exit until it was served, by this process, without the way into the guest and back; HALF and 99% are rounded \
      up to powers of two, LONGEST is since the first trace of the run. The software processor does not leave the guest for \
      an access: it is counted all the same.

      Without --duration a table comes each second until it is interrupted or the machine ends; with it, one table at the \
      end. With --json a line for each table: an array of objects with kind, place, device, count, nanoseconds, longest and \
      buckets, of which the i-th counts exits that took less than 2^i nanoseconds and not less than half of that.

      Nothing is counted, and nothing paid for, while nobody looks: counting ends ten seconds after the last look.

      EXAMPLES
        uj trace web
        uj trace web --duration 10 --json

      EXIT STATUS
        0  done, or the machine has ended meanwhile
        1  the machine does not run
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Flag(help: "As JSON.")
  var json = false
  @Option(help: ArgumentHelp("Count for so long, at most a day, then end.", valueName: "s"))
  var duration: Double?
  @Option(help: ArgumentHelp("Lines of a table at most.", valueName: "n"))
  var lines = 20

  func validate() throws {
    guard duration.map({ (0.1...86400).contains($0) }) ?? true else {
      throw ValidationError("--duration is 0.1 to 86400 seconds.")
    }
    guard (1...1000).contains(lines) else { throw ValidationError("--lines is 1 to 1000.") }
  }

  func run() throws {
    let name = try name.name()
    let inventory = try openInventory()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    let client = try MachineClient(name, at: inventory.location)
    var begin = MonotonicClock.now
    var earlier = try read(client, name)
    let end = duration.map { begin &+ UInt64($0 * 1e9) }
    while true {
      let now = MonotonicClock.now
      let rest = end.map { $0 > now ? $0 - now : 0 } ?? .max
      MonotonicClock.sleep(min(rest, 1_000_000_000))
      let later: TraceReport
      do throws(HostingError) {
        later = try read(client, name)
      } catch {
        // It has ended: what it did last nobody can tell any more.
        if error.kind == .disconnected { return }
        throw error
      }
      let isLast = end.map { MonotonicClock.now >= $0 } ?? false
      // For one table at the end the looks in between only keep the counting on.
      guard isLast || end == nil else { continue }
      show(later.since(earlier), seconds: Double(MonotonicClock.now &- begin) / 1e9)
      if isLast { return }
      earlier = later
      begin = MonotonicClock.now
    }
  }

  private func read(
    _ client: MachineClient, _ name: MachineName
  ) throws(HostingError) -> TraceReport {
    guard let report = TraceReport(try client.call("trace.read")) else {
      throw HostingError(.protocolViolation, "\(name): its host answered with nonsense")
    }
    return report
  }

  private func show(_ report: TraceReport, seconds: Double) {
    if json { return say(report.json.text) }
    let total = report.rows.reduce(UInt64(0)) { $0 &+ $1.count }
    var rows = [["COUNT", "/S", "MEAN", "HALF", "99%", "LONGEST", "KIND", "PLACE", "DEVICE"]]
    for row in report.rows.prefix(lines) {
      rows.append([
        "\(row.count)", "\(Int64((Double(row.count) / max(seconds, 0.001)).rounded()))",
        StatsPage.duration(row.nanoseconds / max(row.count, 1)),
        row.quantile(0.5).map(StatsPage.duration) ?? "-",
        row.quantile(0.99).map(StatsPage.duration) ?? "-", StatsPage.duration(row.longest),
        row.kind.rawValue, row.placeText, row.device,
      ])
    }
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    for row in rows {
      let cells = row.enumerated().map { index, cell in
        let blanks = String(repeating: " ", count: widths[index] - cell.count)
        return index < 6 ? blanks + cell : cell + blanks
      }
      say(cells.joined(separator: " "))
    }
    let tenths = Int((seconds * 10).rounded())
    say("\(total) exits in \(tenths / 10).\(tenths % 10) s")
  }
}
