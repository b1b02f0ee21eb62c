import ArgumentParser
import Hosting
import Inventory

extension SnapshotVerb {
  struct RollBack: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rollback", abstract: "Go back to a snapshot; what is left is kept.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "Where to go.") var snapshot: String
    @Flag(
      name: [.customShort("f"), .long],
      help: "Cut the power of a machine that runs, roll it, and start it again.")
    var force = false

    func run() throws {
      let name = try machine.name()
      SnapshotVerb.report(
        name,
        try SnapshotCommands(try openInventory()).roll(name, .back(snapshot), force: force))
    }
  }

  struct Forward: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "forward",
      abstract: "Return to the state that rolling back has left.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "Which way, where there are several.") var snapshot: String?
    @Flag(
      name: [.customShort("f"), .long],
      help: "Cut the power of a machine that runs, roll it, and start it again.")
    var force = false

    func run() throws {
      let name = try machine.name()
      SnapshotVerb.report(
        name,
        try SnapshotCommands(try openInventory()).roll(name, .forward(snapshot), force: force))
    }
  }

  static func report(_ name: MachineName, _ result: SnapshotCommands.Rolled) {
    say("now at \(result.target.name) (\(result.target.identifier))")
    if let kept = result.kept {
      say("what was left is kept as \(kept.identifier), '\(kept.name)'")
    }
    if result.isRestarted, result.target.memory != nil {
      return say("\(name): goes on from there")
    }
    if result.target.memory != nil { say("\(name): suspended there; 'uj start \(name)' goes on") }
    if result.isRestarted { say("\(name): started again") }
  }
}
