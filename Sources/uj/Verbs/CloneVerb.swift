import ArgumentParser
import Hosting
import Inventory

struct CloneVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clone",
    abstract: "Make machines from another, without starting them.",
    discussion: """
      Their disks grow from the other's: that takes milliseconds and no space. 'uj start -t' makes one and starts it.

      EXAMPLES
        uj clone debian web1 web2 web3
        uj clone web1 trial --snapshot before
      """)

  @Argument(help: "A template, or any machine that does not run.")
  var template: NameArgument
  @Argument(help: "Names of the new machines.")
  var names: [NameArgument]
  @Option(help: "Grow from this snapshot; its machine may run.")
  var snapshot: String?

  func validate() throws {
    guard !names.isEmpty else { throw ValidationError("Name the new machine.") }
  }

  func run() throws {
    let inventory = try openInventory()
    let template = try template.name()
    let commands = SnapshotCommands(inventory)
    try inventory.checkInstance(of: template, changing: [])
    try forEachMachine(names) { name in
      if let snapshot {
        try commands.branch(template, snapshot, as: name)
      } else {
        try inventory.clone(template, as: name)
      }
    }
  }
}
