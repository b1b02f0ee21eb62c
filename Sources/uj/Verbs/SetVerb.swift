import ArgumentParser
import Hosting
import Inventory

struct SetVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set",
    abstract: "Change settings of a machine; comments in its file stay.",
    discussion: """
      Keys are those of machine.toml: memory=1G, processors=2, boot.order=cdrom,disk, template=true, \
      disk.disk0.serial=ABC. An empty value takes the default. A running machine takes the change at its next start.
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: ArgumentHelp("What to change.", valueName: "key=value"))
  var changes: [String]

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    var text = try inventory.definitionText(name)
    for change in changes {
      guard let equals = change.firstIndex(of: "=") else {
        throw UsageFailure("\(change): expected KEY=VALUE")
      }
      text = try DefinitionEditor.set(
        String(change[..<equals]), to: String(change[change.index(after: equals)...]), in: text,
        path: inventory.location.definition(name))
    }
    try inventory.saveDefinition(text, of: name)
    if inventory.holder(name)?.role == .host {
      Failure.note("\(name): is running; the change counts from its next start")
    }
  }
}
