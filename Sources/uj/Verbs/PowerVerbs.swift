import ArgumentParser
import Hosting
import Inventory

/// Verbs that are one call to the hosts of running machines.
private func callEach(_ names: [NameArgument], _ method: String) throws {
  let inventory = try openInventory()
  try forEachMachine(names) { name in
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    _ = try MachineClient(name, at: inventory.location).call(method)
  }
}

struct PauseVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Stop the time of running machines.")
  @Argument(help: "Machines to pause.") var names: [NameArgument]
  func run() throws { try callEach(names, "pause") }
}

struct UnpauseVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unpause", abstract: "Let paused machines go on.")
  @Argument(help: "Machines to let go on.") var names: [NameArgument]
  func run() throws { try callEach(names, "unpause") }
}

struct ResetVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reset", abstract: "Press the reset button.")
  @Argument(help: "Machines to reset.") var names: [NameArgument]
  func run() throws { try callEach(names, "reset") }
}
