import ArgumentParser
import Devices
import Hosting
import Inventory

struct BalloonVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "balloon",
    abstract: "Say how much memory a running machine's guest is to keep.",
    discussion: """
      The machine needs a memory balloon ('uj set NAME balloon=true'), and the guest a driver for it; Linux has \
      virtio_balloon. The guest gives pages to its balloon until it keeps so much and no more, and their memory goes back \
      to the host at once. A guest that runs short takes pages back by itself. Without a balloon's help, free pages that the \
      guest reports go back to the host as well, and nothing has to be asked for.

      Without SIZE, prints what the guest keeps, what it is to keep, and what it says of its memory. The target holds \
      until the machine ends; memory-target in the definition is the one it starts with.

      EXAMPLES
        uj balloon web 512M
        uj balloon web
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: ArgumentHelp("What the guest is to keep.", valueName: "size"))
  var size: SizeArgument?

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    let client = try MachineClient(name, at: inventory.location)
    if let size {
      _ = try client.call("balloon.set", ["target": .unsigned(size.bytes)])
      return
    }
    guard let status = BalloonStatus(try client.call("balloon.status")) else {
      throw HostingError(.protocolViolation, "\(name): its host answered with nonsense")
    }
    for (title, value) in Self.lines(status) {
      say(title + String(repeating: " ", count: max(1, 12 - title.count)) + value)
    }
  }

  static func lines(_ status: BalloonStatus) -> [(title: String, value: String)] {
    let report = status.report
    var lines: [(title: String, value: String)] = [
      ("keeps", ByteSize.formatRounded(report.current)),
      ("target", ByteSize.formatRounded(report.target)),
      ("driver", report.hasDriver ? "serves the balloon" : "none"),
      ("given back", ByteSize.formatRounded(report.reclaimed)),
      ("reported", ByteSize.formatRounded(report.reported)),
    ]
    guard let statistics = report.statistics else { return lines }
    func add(_ title: String, _ bytes: UInt64?) {
      if let bytes { lines.append((title, ByteSize.formatRounded(bytes))) }
    }
    add("free", statistics.free)
    add("available", statistics.available)
    add("caches", statistics.caches)
    add("total", statistics.total)
    if let kills = statistics.kills { lines.append(("killed", "\(kills)")) }
    return lines
  }
}
