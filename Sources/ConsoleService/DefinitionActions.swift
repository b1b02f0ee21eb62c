import ConsoleUI
import Hosting
import Inventory
import Processor

// Changing definitions and the disc in the drive.

extension MachineActions {
  /// A definition's values by the keys that `uj set` takes.
  func settings(of name: MachineName) throws -> [String: String] {
    let definition = try inventory.definition(name)
    var values: [String: String] = [
      "memory": Quantity.short(definition.memory),
      "processors": "\(definition.processors)",
      "accelerator": definition.accelerator.rawValue,
      "boot.order": definition.bootOrder.map(\.rawValue).joined(separator: ","),
      "serial": definition.serialPorts.map(\.text).joined(separator: ","),
      "tags": definition.tags.joined(separator: ","), "notes": definition.notes,
      "autostart.enabled": definition.autostart.isEnabled ? "true" : "false",
      "cpu": definition.processorModel.rawValue, "boot.append": definition.commandLine,
    ]
    values["cdrom"] = definition.opticalDrive?.text
    values["boot.kernel"] = definition.kernel
    values["boot.initrd"] = definition.initrd
    // Exactly what is written where a size is not round.
    if Quantity.bytes(values["memory"] ?? "") != definition.memory {
      values["memory"] = "\(definition.memory >> 20)M"
    }
    return values
  }

  /// Changes keys one after the other; nothing is saved unless all are good.
  func change(_ name: MachineName, _ changes: [SettingChange]) throws -> Outcome {
    let old = try inventory.definitionText(name)
    var text = old
    for change in changes {
      text = try DefinitionEditor.set(
        change.key, to: DefinitionEditor.resolved(change.value, of: change.key), in: text,
        path: inventory.location.definition(name))
    }
    try inventory.saveDefinition(text, of: name)
    let keys = changes.map(\.key).joined(separator: ", ")
    let isRunning = inventory.holder(name)?.role == .host
    return Outcome(
      "\(name): \(keys) changed" + (isRunning ? "; counts from its next start" : ""),
      undo: .restoreDefinition(name.description, text: old))
  }

  func insertDisc(_ name: MachineName, _ file: String, _ force: Bool) throws -> Outcome {
    let path = InventoryLocation.absolute(expanded(file))
    guard FileReading.exists(path) else {
      throw InventoryError(.notFound, "\(printable(path)): no such file")
    }
    let short = MachineRequest.file(path)
    if inventory.holder(name)?.role == .host {
      try MachineClient(name, at: inventory.location).insertDisc(path, force: force)
      return Outcome(
        "\(short) is in the drive of \(name)",
        undo: .ejectDisc(name.description, force: false))
    }
    return try saveDrive(.disc(path), name, "\(short) is in the drive of \(name)")
  }

  func ejectDisc(_ name: MachineName, _ force: Bool) throws -> Outcome {
    if inventory.holder(name)?.role == .host {
      let client = try MachineClient(name, at: inventory.location)
      let disc = try client.status().cdrom
      _ = try client.call("cdrom.eject", ["force": .bool(force)])
      let undo = disc.flatMap { path -> MachineRequest? in
        path == "empty" ? nil : .insertDisc(name.description, path: path, force: false)
      }
      return Outcome("the drive of \(name) is empty", undo: undo)
    }
    guard try inventory.definition(name).opticalDrive != nil else {
      throw InventoryError(.refused, "\(name): has no CD-ROM drive")
    }
    return try saveDrive(.empty, name, "the drive of \(name) is empty")
  }

  private func saveDrive(
    _ drive: MachineDefinition.OpticalDrive, _ name: MachineName, _ done: String
  ) throws -> Outcome {
    // Nobody starts it between the look at it and the change.
    let lock = try inventory.lock(name, .change)
    defer { _ = lock }
    let old = try inventory.definitionText(name)
    let text = try DefinitionEditor.set(
      "cdrom", to: drive.text, in: old, path: inventory.location.definition(name))
    try inventory.saveDefinition(text, of: name)
    return Outcome(done, undo: .restoreDefinition(name.description, text: old))
  }

  /// `~/` as in a shell.
  func expanded(_ path: String) -> String {
    guard path.hasPrefix("~/"), let home = InventoryLocation.environmentVariable("HOME") else {
      return path
    }
    return home + path.dropFirst()
  }
}
