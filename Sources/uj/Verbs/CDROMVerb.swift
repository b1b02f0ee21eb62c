import ArgumentParser
import Hosting
import Inventory

struct CDROMVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cdrom",
    abstract: "Change the disc in a machine's CD-ROM drive.",
    discussion: """
      A running machine's drive is changed at once, and until it ends: its definition stays ('uj set NAME \
      cdrom=FILE' changes that). A stopped machine's definition is changed; it gets a drive if it had none.

      A guest may lock the drive, as Linux does while a disc is mounted. Then it is told that somebody wants the disc, \
      and -f takes the disc out all the same. Without FILE, prints what is in the drive.

      EXAMPLES
        uj cdrom web debian.iso
        uj cdrom web eject
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: ArgumentHelp("A disc image, or eject.", valueName: "file|eject"))
  var disc: String?
  @Flag(name: [.customShort("f"), .long], help: "Also when the guest has locked the drive.")
  var force = false

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    let client = try runningClient(name, inventory)
    guard let disc else { return try show(name, inventory, client) }
    guard disc != "eject" else {
      if let client {
        _ = try client.call("cdrom.eject", ["force": .bool(force)])
      } else if try inventory.definition(name).opticalDrive != nil {
        try save(.empty, name, inventory)
      } else {
        throw InventoryError(.refused, "\(name): has no CD-ROM drive")
      }
      return
    }
    guard !disc.isEmpty else { throw UsageFailure("name a disc image, or eject") }
    let path = InventoryLocation.absolute(disc)
    guard FileReading.exists(path) else { throw UsageFailure("\(printable(path)): no such file") }
    if let client {
      try client.insertDisc(path, force: force)
    } else {
      try save(.disc(path), name, inventory)
    }
  }

  /// nil when the machine does not run.
  private func runningClient(_ name: MachineName, _ inventory: Inventory) throws -> MachineClient? {
    guard inventory.holder(name)?.role == .host else { return nil }
    return try MachineClient(name, at: inventory.location)
  }

  private func show(
    _ name: MachineName, _ inventory: Inventory, _ client: MachineClient?
  ) throws {
    let content =
      try client.map { try $0.status().cdrom }
      ?? inventory.definition(name).opticalDrive?.text
    guard let content else { throw InventoryError(.refused, "\(name): has no CD-ROM drive") }
    say(content)
  }

  private func save(
    _ drive: MachineDefinition.OpticalDrive, _ name: MachineName, _ inventory: Inventory
  ) throws {
    // Nobody starts it between the look at it and the change.
    let lock = try inventory.lock(name, .change)
    defer { _ = lock }
    let text = try DefinitionEditor.set(
      "cdrom", to: drive.text, in: try inventory.definitionText(name),
      path: inventory.location.definition(name))
    try inventory.saveDefinition(text, of: name)
  }
}
