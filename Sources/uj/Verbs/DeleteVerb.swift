import ArgumentParser
import CLinux
import Hosting
import Inventory

struct DeleteVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete",
    abstract: "Delete stopped machines with their disks and snapshots.",
    discussion:
      "A machine that others grew from is protected; so are disk files outside its folder.")

  @Argument(help: "Machines to delete.")
  var names: [NameArgument]
  @Flag(name: [.customShort("y"), .long], help: "Do not ask.")
  var yes = false

  func run() throws {
    let inventory = try openInventory()
    try forEachMachine(names) { name in
      guard inventory.exists(name) else {
        throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
      }
      guard yes || Question.ask("Delete \(name) with its disks and snapshots?") else {
        throw UsageFailure(
          isatty(0) == 1 ? "\(name): kept" : "\(name): kept; say -y where nobody can be asked")
      }
      try inventory.delete(name)
    }
  }
}

struct RenameVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rename", abstract: "Give a stopped machine another name.")

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: "Its new name.")
  var newName: NameArgument

  func run() throws {
    try openInventory().rename(try name.name(), to: try newName.name())
  }
}
