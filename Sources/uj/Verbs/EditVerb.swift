import ArgumentParser
import CLinux
import Hosting
import Inventory

struct EditVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edit",
    abstract:
      "Edit a machine's definition with $VISUAL or $EDITOR; it is checked before it is saved."
  )

  @Argument(help: "The machine.")
  var name: NameArgument

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    let path = inventory.location.definition(name)
    let draft = path + ".\(getpid()).edit.toml"
    let original = try inventory.definitionText(name)
    try FileChanges().write(original, to: draft)
    while true {
      try runEditor(draft)
      let text = try FileReading.text(draft) ?? ""
      if text == original {
        unlink(draft)
        return Failure.note("\(name): nothing was changed")
      }
      guard let problem = save(text, draft, name, inventory) else {
        unlink(draft)
        return
      }
      Failure.print(problem)
      guard Question.ask("Edit again?") else {
        throw UsageFailure("\(name): not changed; your draft is \(draft)")
      }
    }
  }

  /// What is wrong with the text, with the draft's own lines; nil when it was saved.
  private func save(
    _ text: String, _ draft: String, _ name: MachineName, _ inventory: Inventory
  ) -> InventoryError? {
    do throws(InventoryError) {
      _ = try MachineDefinition(text: text, path: draft)
      try inventory.saveDefinition(text, of: name)
      return nil
    } catch {
      return error
    }
  }

  private func runEditor(_ path: String) throws {
    let editor =
      InventoryLocation.environmentVariable("VISUAL")
      ?? InventoryLocation.environmentVariable("EDITOR") ?? "vi"
    // As git and crontab do: the variable may hold arguments, the path must not be taken apart.
    let status = Question.runShell("\(editor) \"$0\"", path)
    guard status == 0 else { throw UsageFailure("\(editor): ended with status \(status)") }
  }
}
