import ArgumentParser
import Hosting
import Inventory

struct RewindVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rewind",
    abstract: "Take a machine back in time, memory included.",
    discussion: """
      The machine goes on from the youngest snapshot with memory that it grew from and that is at least so old. With \
      'uj set NAME "autosnap=every 30s keep 20"' the clock takes them. What is left is kept as a snapshot of its own: \
      'uj snapshot forward' returns to it.
      """)
  @Argument(help: "The machine.") var name: NameArgument
  @Argument(help: "How far: 90s, 2m, 1h30m.") var time: String

  func validate() throws {
    guard Autosnap.seconds(time) != nil else {
      throw ValidationError("\(time): expected a time such as 90s, 2m or 1h30m.")
    }
  }

  func run() throws {
    let name = try name.name()
    let inventory = try openInventory()
    let target = try inventory.rewindTarget(name, seconds: Autosnap.seconds(time) ?? 0)
    let result = try SnapshotCommands(inventory).roll(name, .back(target.identifier), force: true)
    SnapshotVerb.report(name, result)
  }
}
