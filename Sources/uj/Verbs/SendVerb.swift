import ArgumentParser
import CLinux
import Hosting
import Inventory
import Platform

struct SendVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "send",
    abstract: "Move a running machine to another host; it stands still for a moment only.",
    discussion: """
      Memory and disks go while the guest runs, then what it has written meanwhile, and what is left while it stands \
      still. Until the other host has all of it the machine is this one's: whatever breaks before, it goes on here. \
      Then it is the other's, and what is left here cannot be started any more: 'uj delete' removes it, and a machine \
      that comes back replaces it. Snapshots stay here.
      With --to, or a command behind --, the other side's answers are heard. In a plain pipe they are not: the machine \
      stands still here until somebody says how it ended, --finish or --take-back; --answers reads them from standard \
      input.
      --shared-disks leaves disks where they are that have a path which both hosts can reach; the receiver names them.

      EXAMPLES
        uj send web --to ssh://admin@server
        uj send web -- ssh -C admin@server uj receive
        uj send web | ssh admin@server uj receive
        uj send --finish web
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Option(help: ArgumentHelp("Where to: ssh://[user@]host[:port].", valueName: "host"))
  var to: String?
  @Option(
    name: .customLong("as"), help: ArgumentHelp("Its name there, with --to.", valueName: "name"))
  var other: NameArgument?
  @Option(help: ArgumentHelp("How long it may stand still, in milliseconds.", valueName: "ms"))
  var downtime = 100
  @Flag(help: "Disks with a path are not sent: both hosts reach them.")
  var sharedDisks = false
  @Flag(help: "Answers of 'uj receive' come on standard input.")
  var answers = false
  @Flag(help: "It runs there: end what waits here.")
  var finish = false
  @Flag(help: "It does not run there: go on here.")
  var takeBack = false
  @Argument(parsing: .postTerminator, help: "The program that leads to 'uj receive' there.")
  var command: [String] = []

  func validate() throws {
    if finish, takeBack { throw ValidationError("--finish or --take-back, not both.") }
    if to != nil, !command.isEmpty { throw ValidationError("--to, or a command, not both.") }
    if other != nil, to == nil { throw ValidationError("--as goes with --to.") }
    guard (1...600_000).contains(downtime) else {
      throw ValidationError("--downtime must be 1 to 600000 milliseconds.")
    }
  }

  func run() throws {
    let name = try name.name()
    let inventory = try openInventory()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    if finish || takeBack { return try settle(name, inventory) }
    guard inventory.holder(name)?.role == .host else {
      throw InventoryError(
        .refused, "\(name): does not run, and only running machines are sent; 'uj start \(name)'")
    }
    var words = command
    var destination = command.isEmpty ? "another host" : command.joined(separator: " ")
    if let to {
      let host = try RemoteHost(to)
      words = host.command(
        ["receive"] + (try other.map { ["--as", try $0.name().description] } ?? []))
      destination = host.text
    }
    let remote = words.isEmpty ? nil : try RemoteProgram(words)
    if remote == nil, isatty(1) == 1 {
      throw UsageFailure("a machine is no text: --to ssh://HOST, or a pipe into 'uj receive'")
    }
    try send(name, inventory, remote, destination)
  }

  private func send(
    _ name: MachineName, _ inventory: Inventory, _ remote: RemoteProgram?, _ destination: String
  ) throws {
    let input: Int32? = remote?.descriptor ?? (answers ? 0 : nil)
    let client = try MachineClient(name, at: inventory.location)
    let watcher = try MachineClient(name, at: inventory.location)
    let (descriptor, begin) = try client.takeOver(
      "move.send",
      [
        "downtime": .unsigned(downtime), "sharedDisks": .bool(sharedDisks),
        "destination": .string(destination),
        "answers": .bool(input != nil),
      ])
    var pump = StreamPump(host: descriptor, output: remote?.descriptor ?? 1, input: input)
    let isShown = isatty(2) == 1
    pump.run(begin) {
      guard isShown, let status = try? watcher.call("move.status", timeout: 1) else { return }
      write("\r\u{1b}[K\(MoveLine.text(name, status))", to: 2)
    }
    // The host process hears of it whoever else has this socket open.
    shutdown(descriptor, Int32(SHUT_RDWR))
    close(descriptor)
    if isShown { write("\r\u{1b}[K", to: 2) }
    let status = remote?.end()
    if remote == nil { close(1) }
    try report(name, inventory, watcher, destination, status)
  }

  private func report(
    _ name: MachineName, _ inventory: Inventory, _ watcher: MachineClient, _ destination: String,
    _ status: Int32?
  ) throws {
    let deadline = MonotonicClock.now &+ 10_000_000_000
    while MonotonicClock.now < deadline {
      guard let state = try? watcher.call("move.status", timeout: 2) else { break }
      switch state["phase"]?.string {
      case "done":
        let time = MoveLine.milliseconds(state)
        Self.awaitEnd(name, inventory)
        return Failure.note(
          "\(name): runs at \(destination); it stood still for \(time) ms. 'uj delete \(name)' "
            + "removes what is left here")
      case "failed":
        let reason = state["reason"]?.string ?? "nobody knows why"
        throw HostingError(.refused, "\(name): goes on here: \(printable(reason))")
      case "uncertain": return try ask(name, inventory, destination)
      default: usleep(20_000)
      }
    }
    // Its host process has ended: it was given away, or something else happened to it.
    guard inventory.movedPlace(name) != nil else {
      throw HostingError(
        .machine, "\(name): has ended and was not sent; see 'uj log --host \(name)'")
    }
    Failure.note("\(name): runs at \(destination). 'uj delete \(name)' removes what is left here")
  }

  /// Waits until the machine's host has let go of what is left here, for some seconds at most.
  private static func awaitEnd(_ name: MachineName, _ inventory: Inventory) {
    let deadline = MonotonicClock.now &+ 10_000_000_000
    while inventory.holder(name)?.role == .host, MonotonicClock.now < deadline { usleep(5000) }
  }

  /// Nobody answers: the person sees how it ended there.
  private func ask(_ name: MachineName, _ inventory: Inventory, _ destination: String) throws {
    let ways = "'uj send --finish \(name)' if it runs there, 'uj send --take-back \(name)' if not"
    guard isatty(0) == 1 else {
      throw HostingError(.machine, "\(name): was sent, and stands still here: \(ways)")
    }
    guard Question.ask("\(name): was sent, and stands still here. Does it run there?") else {
      throw HostingError(.machine, "\(name): stands still here: \(ways)")
    }
    _ = try MachineClient(name, at: inventory.location).call("move.finish")
    Self.awaitEnd(name, inventory)
  }

  /// After an end that nobody could be sure of.
  private func settle(_ name: MachineName, _ inventory: Inventory) throws {
    guard inventory.holder(name)?.role == .host else {
      guard let place = inventory.movedPlace(name) else {
        throw InventoryError(.refused, "\(name): was not sent anywhere")
      }
      if takeBack {
        try inventory.markMoved(name, to: nil, authority: .command)
        say("\(name): is here again; 'uj start \(name)' switches it on")
      } else {
        say("\(name): is at \(printable(place)); 'uj delete \(name)' removes what is left here")
      }
      return
    }
    let client = try MachineClient(name, at: inventory.location)
    _ = try client.call(finish ? "move.finish" : "move.takeBack")
    if finish { Self.awaitEnd(name, inventory) }
    say("\(name): \(finish ? "has ended here" : "goes on here")")
  }
}

/// How far a move is, in a line.
enum MoveLine {
  static func text(_ name: MachineName, _ status: JSONValue) -> String {
    func bytes(_ key: String) -> UInt64 {
      UInt64(clamping: status[key]?.integer ?? 0)
    }
    let rate = "\(ByteSize.formatRounded(bytes("rate")))/s"
    switch status["phase"]?.string {
    case "preparing": return "\(name): asks the other side"
    case "disks", "memory":
      let total = max(bytes("total"), 1)
      let share = min(100, bytes("done") * 100 / total)
      return "\(name): \(share) % of \(ByteSize.formatRounded(total)), "
        + "\(ByteSize.formatRounded(bytes("sent"))) sent"
    case "rounds":
      let throttle = bytes("throttle")
      return "\(name): round \(bytes("round")), \(ByteSize.formatRounded(bytes("left"))) written "
        + "meanwhile, \(rate)" + (throttle > 0 ? ", the guest is slowed down by \(throttle) %" : "")
    default: return "\(name): stands still"
    }
  }

  static func milliseconds(_ status: JSONValue) -> String {
    let time = status["standstillMilliseconds"]?.number ?? 0
    return "\((time * 10).rounded() / 10)"
  }
}
