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

struct SuspendVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "suspend",
    abstract: "Save running machines to disk and end them; 'uj start' goes on from there.",
    discussion: """
      Memory, processors and devices are written into the machine's folder, what the guest has written to its disks is \
      made durable, and the host process ends. 'uj start' goes on where the guest stood, as if no time had passed; \
      'uj start --discard-state' switches the machine on anew. A machine whose memory, processors or devices have been \
      changed meanwhile is refused, with what differs. 'pause' keeps the guest in memory.
      """)
  @Argument(help: "Machines to suspend.") var names: [NameArgument]

  func validate() throws {
    guard !names.isEmpty else { throw ValidationError("Name the machine to suspend.") }
  }

  func run() throws {
    let inventory = try openInventory()
    let commands = SnapshotCommands(inventory)
    try forEachMachine(names) { name in
      guard inventory.exists(name) else {
        throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
      }
      let size = try commands.suspend(name)
      say("\(name): suspended, \(ByteSize.formatRounded(size)) on disk")
    }
  }
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
