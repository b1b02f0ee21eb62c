import ArgumentParser
import CLinux
import Hosting
import Inventory

struct SnapshotVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot",
    abstract: "Take snapshots of a machine's disks, and roll back and forward.",
    discussion: """
      Snapshots form a tree. Rolling back keeps the state that is left as a snapshot of its own first (unless nothing \
      was written), so that 'forward' always returns to it. SNAPSHOT is a name, an id or its beginning.

      A snapshot of a machine that runs is what a power cut at that moment would leave: all disks at one instant, what \
      the guest has flushed is in it, and its file systems repair themselves as after any crash. With --memory its memory is kept too, of the same instant: \
      going to such a snapshot leaves the machine suspended there, and 'uj start' goes on from it.
      """,
    subcommands: [
      Take.self, List.self, Tree.self, RollBack.self, Forward.self, Branch.self, Rename.self,
      Difference.self, Delete.self, Prune.self, Merge.self,
    ])

  struct Take: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "take", abstract: "Keep the present state.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "The snapshot's name; made up when left out.") var title: String?
    @Flag(help: "Keep the running machine's memory and devices too; it stands still meanwhile.")
    var memory = false

    func run() throws {
      let taken = try SnapshotCommands(try openInventory())
        .take(try machine.name(), title: title, memory: memory)
      say("\(taken.identifier) \(taken.name)")
      if let held = taken.heldMilliseconds {
        let time = "\((held * 10).rounded() / 10) ms"
        Failure.note(
          memory
            ? "taken with its memory; it stood still for \(time)"
            : "taken while it runs (crash-consistent); its disks rested for \(time)")
      }
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "list", abstract: "List snapshots, oldest first.")
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
        let memory = snapshot.memory == nil ? "" : "  (with memory)"
        say("\(mark) \(snapshot.identifier)  \(time)  \(snapshot.name)\(memory)")
      }
    }

    private static func json(_ snapshot: Snapshot, _ tree: SnapshotTree) -> JSONValue {
      [
        "id": .string(snapshot.identifier), "name": .string(snapshot.name),
        "parent": .optional(snapshot.parent, JSONValue.string),
        "created": .integer(snapshot.created), "automatic": .bool(snapshot.isAutomatic),
        "current": .bool(snapshot.identifier == tree.position),
        "memory": .bool(snapshot.memory != nil), "checkpoint": .bool(snapshot.isCheckpoint),
      ]
    }
  }

  struct Tree: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "tree",
      abstract: "Draw the tree; the present state grew from the one marked.")
    @Argument(help: "The machine.") var machine: NameArgument

    func run() throws {
      for row in try openInventory().snapshots(try machine.name()).rows() {
        let mark = row.isPosition ? "  <- you are here" : ""
        let snapshot = row.snapshot
        var facts = [snapshot.identifier, SnapshotVerb.time(snapshot.created)]
        if snapshot.memory != nil { facts.append("with memory") }
        if snapshot.isCheckpoint { facts.append("by the clock") }
        say("\(row.branch)\(snapshot.name)  (\(facts.joined(separator: ", ")))\(mark)")
      }
    }
  }

  struct Branch: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "branch",
      abstract: "Make a new machine that grows from a snapshot.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "Where to grow from.") var snapshot: String
    @Argument(help: "Name of the new machine.") var name: NameArgument
    @Flag(
      help:
        "The new machine goes on in the snapshot's memory; the guest keeps its network addresses.")
    var memory = false

    func run() throws {
      let name = try name.name()
      try SnapshotCommands(try openInventory())
        .branch(try machine.name(), snapshot, as: name, memory: memory)
      say("\(name): made; 'uj start -c \(name)' \(memory ? "goes on there" : "starts it")")
    }
  }

  struct Rename: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "rename", abstract: "Give a snapshot another name.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "The snapshot.") var snapshot: String
    @Argument(help: "Its new name.") var title: String

    func run() throws {
      try SnapshotCommands(try openInventory()).rename(try machine.name(), snapshot, to: title)
    }
  }

  static func time(_ seconds: Int64) -> String {
    var value = time_t(seconds)
    var local = tm()
    localtime_r(&value, &local)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%d %H:%M:%S", &local)
    return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
}
