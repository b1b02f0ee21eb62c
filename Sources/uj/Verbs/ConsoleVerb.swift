import ArgumentParser
import Hosting
import Inventory

struct ConsoleVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "console",
    abstract: "Attach this terminal to a machine's serial port.",
    discussion: """
      What the port printed before is shown first. Any number of consoles may be attached at once. At the start of a \
      line, ~. leaves (as does Ctrl-] anywhere), ~# sends a break, ~~ sends a ~, ~? helps.
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Option(help: "Serial port, from 0.")
  var port = 0
  @Flag(help: "Only watch.")
  var readOnly = false
  @Flag(name: .customLong("no-replay"), help: "Do not show what was printed before.")
  var withoutReplay = false

  func run() throws {
    try attachConsole(
      try name.name(), try openInventory(), port: port, isReadOnly: readOnly,
      replays: !withoutReplay)
  }
}
