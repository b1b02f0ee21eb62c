import ArgumentParser
import Hosting
import Inventory
import Machine

struct ShowVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a machine's definition, disks and last run.")

  @Argument(help: "The machine.")
  var name: NameArgument

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    say("# \(inventory.location.definition(name))")
    write(try inventory.definitionText(name))
    let definition = try inventory.definition(name)
    let disks = try inventory.resolvedDisks(name)
    let state = try inventory.state(name)
    say("")
    for disk in disks {
      let size = (try? inventory.images.size(disk.path, format: disk.format))
        .map(ByteSize.formatRounded)
      let layers = state.disk(disk.name)?.parents.count ?? 0
      let base = state.disk(disk.name)?.base.map { ", grows from \(printable($0))" } ?? ""
      say(
        "# \(disk.name): \(size ?? "unreadable"), \(layers) layers, \(printable(disk.path))\(base)")
    }
    if definition.cloudInit != nil {
      say("# cloud-init: \(printable(inventory.location.seed(name))), made at the start")
    }
    var board = MachineConfiguration(name: name.description)
    board.complete(name, definition, at: inventory.location)
    if let socket = board.socketDevice {
      say("# vsock: CID \(socket.contextIdentifier), \(printable(socket.path))")
    }
    if !state.snapshots.isEmpty {
      let position = state.position.flatMap { state.snapshot($0)?.name } ?? "none"
      say("# snapshots: \(state.snapshots.count), the present state grew from \(position)")
    }
    let clones = try inventory.dependents(of: name).map(\.description)
    if !clones.isEmpty { say("# grown from it: \(clones.joined(separator: ", "))") }
    if let reason = inventory.crashReason(name), inventory.holder(name)?.role != .host {
      say("# last run: \(reason)")
    }
  }
}
