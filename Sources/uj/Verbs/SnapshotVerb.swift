import ArgumentParser
import CLinux
import Hosting
import Inventory

struct SnapshotVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot",
    abstract: "Take snapshots of a stopped machine's disks, and roll back and forward.",
    discussion: """
      Snapshots form a tree. Rolling back keeps the state that is left as a snapshot of its own first (unless nothing \
      was written), so that 'forward' always returns to it. SNAPSHOT is a name, an id or its beginning.
      """,
    subcommands: [
      Take.self, List.self, Tree.self, RollBack.self, Forward.self, Branch.self, Rename.self,
      Delete.self,
    ])

  struct Take: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Keep the present state.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "The snapshot's name; made up when left out.") var title: String?

    func run() throws {
      let snapshot = try openInventory().takeSnapshot(try machine.name(), title: title)
      say("\(snapshot.identifier) \(snapshot.name)")
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List snapshots, oldest first.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Flag(help: "As JSON, one array.") var json = false

    func run() throws {
      let tree = try openInventory().snapshots(try machine.name())
      if json {
        return say(JSONValue.array(tree.snapshots.map { Self.json($0, tree) }).prettyText)
      }
      for snapshot in tree.snapshots {
        let mark = snapshot.identifier == tree.position ? "*" : " "
        let time = SnapshotVerb.time(snapshot.created)
        say("\(mark) \(snapshot.identifier)  \(time)  \(snapshot.name)")
      }
    }

    private static func json(_ snapshot: Snapshot, _ tree: SnapshotTree) -> JSONValue {
      [
        "id": .string(snapshot.identifier), "name": .string(snapshot.name),
        "parent": .optional(snapshot.parent, JSONValue.string),
        "created": .integer(snapshot.created), "automatic": .bool(snapshot.isAutomatic),
        "current": .bool(snapshot.identifier == tree.position),
      ]
    }
  }

  struct Tree: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Draw the tree; the present state grew from the one marked.")
    @Argument(help: "The machine.") var machine: NameArgument

    func run() throws {
      for row in try openInventory().snapshots(try machine.name()).rows() {
        let mark = row.isPosition ? "  <- you are here" : ""
        say("\(row.branch)\(row.snapshot.name)  (\(row.snapshot.identifier))\(mark)")
      }
    }
  }

  struct RollBack: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rollback", abstract: "Go back to a snapshot; what is left is kept.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "Where to go.") var snapshot: String

    func run() throws {
      let result = try openInventory().rollBack(try machine.name(), to: snapshot)
      SnapshotVerb.report(result)
    }
  }

  struct Forward: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Return to the state that rolling back has left.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "Which way, where there are several.") var snapshot: String?

    func run() throws {
      let result = try openInventory().rollForward(try machine.name(), to: snapshot)
      SnapshotVerb.report(result)
    }
  }

  struct Branch: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a new machine that grows from a snapshot.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "Where to grow from.") var snapshot: String
    @Argument(help: "Name of the new machine.") var name: NameArgument

    func run() throws {
      let name = try name.name()
      try openInventory().clone(try machine.name(), at: snapshot, as: name)
      say("\(name): made; 'uj start -c \(name)' starts it")
    }
  }

  struct Rename: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Give a snapshot another name.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "The snapshot.") var snapshot: String
    @Argument(help: "Its new name.") var title: String

    func run() throws {
      try openInventory().renameSnapshot(try machine.name(), snapshot, to: title)
    }
  }

  struct Delete: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Delete a snapshot that nothing grew from.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "What to delete.") var snapshot: String

    func run() throws {
      try openInventory().deleteSnapshot(try machine.name(), snapshot)
    }
  }

  fileprivate static func report(_ result: (target: Snapshot, kept: Snapshot?)) {
    say("now at \(result.target.name) (\(result.target.identifier))")
    if let kept = result.kept {
      say("what was left is kept as \(kept.identifier), '\(kept.name)'")
    }
  }

  fileprivate static func time(_ seconds: Int64) -> String {
    var value = time_t(seconds)
    var local = tm()
    localtime_r(&value, &local)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%d %H:%M:%S", &local)
    return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
}
