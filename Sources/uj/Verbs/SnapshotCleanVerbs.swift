import ArgumentParser
import CLinux
import Hosting
import Inventory

extension SnapshotVerb {
  struct Delete: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "delete",
      abstract: "Delete a snapshot; what grew from it keeps all its data.",
      discussion: """
        The snapshot is gone at once; then its layers are merged with those that rest on them, which moves data. That \
        may be cut off at any point, by Ctrl-C as by a power cut, and loses nothing: 'uj snapshot merge' goes on, and \
        starting the machine or any other change of it interrupts it. Layers under a machine that runs are merged when \
        it is off.
        """)
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "What to delete.") var snapshot: String
    @Flag(help: "Merge in a process of its own and return at once.") var background = false

    func run() throws {
      let name = try machine.name()
      let commands = SnapshotCommands(try openInventory())
      let gone = try commands.delete(name, snapshot)
      say("\(gone): deleted")
      try SnapshotVerb.merge(name, commands, inBackground: background)
    }
  }

  struct Merge: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "merge",
      abstract: "Merge the layers that deleted snapshots have left.")
    @Argument(help: "The machine.") var machine: NameArgument

    func run() throws {
      let name = try machine.name()
      let commands = SnapshotCommands(try openInventory())
      guard !commands.isRunning(name) else {
        throw UsageFailure("\(name): is running; its layers are merged when it is off")
      }
      try SnapshotVerb.merge(name, commands, inBackground: false)
    }
  }

  /// Gives back the space of what was deleted.
  fileprivate static func merge(
    _ name: MachineName, _ commands: SnapshotCommands, inBackground: Bool
  ) throws {
    let inventory = commands.inventory
    let count = try inventory.mergeableLayers(name)
    guard count > 0 else { return }
    guard !commands.isRunning(name) else {
      Failure.note("its data are merged by 'uj snapshot merge \(name)' when the machine is off")
      return
    }
    if inBackground {
      return try HostProcess.detach(["snapshot", "merge", name.description], for: name, inventory)
    }
    do {
      try DiskProgressBar.run("merging layers of \(name)") { progress in
        let report = try inventory.mergeLayers(name, progress: LayerProgress(progress))
        for line in report.postponed { Failure.note("not merged now: \(line)") }
        if report.hasMadeWay {
          Failure.note("made way for another command; 'uj snapshot merge \(name)' goes on")
        }
      }
    } catch let error as ExitStatus {
      Failure.note("interrupted; nothing is lost, and 'uj snapshot merge \(name)' goes on")
      throw error
    }
  }

  struct Prune: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "prune",
      abstract: "Delete the snapshots that the machine's rule does not keep.",
      discussion: """
        The rule is the table [keep] of machine.toml, such as

          [keep]
          last = 5
          hourly = 24
          daily = 7
          weekly = 4
          monthly = 12

        A snapshot stays when any part wants it: the newest so many, and the newest of each of so many hours, days, \
        weeks and months that have one. The snapshot that the present state grew from always stays, and so do those \
        that 'forward' leads to. Options replace the rule for this time.
        """)
    @Argument(help: "The machine.") var machine: NameArgument
    @Flag(help: "Only say what would go, and why the others stay.") var dryRun = false
    @Option(help: "Keep the newest so many.") var last: Int?
    @Option(help: "Keep the newest of so many hours.") var hourly: Int?
    @Option(help: "Keep the newest of so many days.") var daily: Int?
    @Option(help: "Keep the newest of so many weeks.") var weekly: Int?
    @Option(help: "Keep the newest of so many months.") var monthly: Int?

    func validate() throws {
      for value in [last, hourly, daily, weekly, monthly].compactMap({ $0 })
      where !(0...RetentionRule.limit).contains(value) {
        throw ValidationError("Numbers of snapshots are 0 to \(RetentionRule.limit).")
      }
    }

    private var rule: RetentionRule? {
      guard [last, hourly, daily, weekly, monthly].contains(where: { $0 != nil }) else {
        return nil
      }
      var rule = RetentionRule()
      rule.last = last ?? 0
      rule.hourly = hourly ?? 0
      rule.daily = daily ?? 0
      rule.weekly = weekly ?? 0
      rule.monthly = monthly ?? 0
      return rule
    }

    func run() throws {
      let name = try machine.name()
      let commands = SnapshotCommands(try openInventory())
      if dryRun { return try show(name, commands.inventory) }
      let count = try commands.prune(name, rule: rule)
      say("\(name): \(count) snapshot\(count == 1 ? "" : "s") deleted")
      if count > 0 { try SnapshotVerb.merge(name, commands, inBackground: false) }
    }

    private func show(_ name: MachineName, _ inventory: Inventory) throws {
      let plan = try inventory.prunePlan(name, rule: rule)
      for snapshot in try inventory.snapshots(name).snapshots {
        let reason = plan.staying[snapshot.identifier]
        say(
          "\(reason == nil ? "delete" : "keep  ") \(snapshot.identifier)  "
            + "\(SnapshotVerb.time(snapshot.created))  \(snapshot.name)"
            + (reason.map { "  (\($0))" } ?? ""))
      }
    }
  }

  struct Difference: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "diff",
      abstract: "Say how much of each disk differs between two snapshots, or a snapshot and now.")
    @Argument(help: "The machine.") var machine: NameArgument
    @Argument(help: "The one.") var first: String
    @Argument(help: "The other; left out: the present state.") var second: String?
    @Flag(help: "List the places, in bytes from the disk's begin.") var ranges = false
    @Flag(help: "As JSON.") var json = false

    func run() throws {
      let name = try machine.name()
      let inventory = try openInventory()
      var changes: [Inventory.DiskChange] = []
      try DiskProgressBar.run("comparing") { progress in
        changes = try inventory.difference(
          name, from: first, to: second, progress: LayerProgress(progress))
      }
      if json { return say(JSONValue.array(changes.map(Self.json)).prettyText) }
      for change in changes {
        guard change.isComparable else {
          say("\(change.disk): is in one of the two only")
          continue
        }
        let count = change.ranges.count
        say(
          change.ranges.isEmpty
            ? "\(change.disk): the same"
            : "\(change.disk): \(readableSize(change.byteCount)) differ in \(count) "
              + "place\(count == 1 ? "" : "s")")
        guard ranges else { continue }
        for range in change.ranges {
          say("  \(range.lowerBound) +\(range.upperBound - range.lowerBound)")
        }
      }
    }

    private static func json(_ change: Inventory.DiskChange) -> JSONValue {
      [
        "disk": .string(change.disk), "comparable": .bool(change.isComparable),
        "bytes": .unsigned(change.byteCount),
        "ranges": .array(
          change.ranges.map { range in
            [
              "offset": .unsigned(range.lowerBound),
              "count": .unsigned(range.upperBound - range.lowerBound),
            ]
          }),
      ]
    }
  }
}
