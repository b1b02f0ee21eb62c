import ArgumentParser
import CLinux
import Hosting
import Inventory

struct WaitVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wait",
    abstract: "Wait until machines are off.",
    discussion: "Ends with status 1 when one of them crashed.")

  @Argument(help: "Machines to wait for.")
  var names: [NameArgument]

  func run() throws {
    let inventory = try openInventory()
    try forEachMachine(names) { name in
      guard inventory.exists(name) else {
        throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
      }
      // The connection ends with the host; the lock is the last word.
      if let client = try? MachineClient(name, at: inventory.location),
        (try? client.call("events.subscribe")) != nil
      {
        while (try? client.nextNotification(timeout: 1e6)) != nil {}
      }
      while inventory.holder(name)?.role == .host { usleep(20_000) }
      if let reason = inventory.crashReason(name) {
        throw HostingError(.machine, "\(name): \(reason)")
      }
    }
  }
}
