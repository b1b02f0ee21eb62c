import ArgumentParser
import CLinux
import Hosting
import Inventory
import Platform

struct StopVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stop",
    abstract: "Ask machines to power down, or cut their power.",
    discussion: """
      Without -f the power button is pressed and the guest decides. With -f the machine ends at once: what the guest \
      has flushed to its disks is safe, as after a power cut. A host process that does not answer is killed.
      """)

  @Argument(help: "Machines to stop.")
  var names: [NameArgument] = []
  @Flag(name: [.customShort("f"), .long], help: "Cut the power.")
  var force = false
  @Flag(name: [.customShort("a"), .long], help: "Stop all running machines.")
  var all = false
  @Flag(name: [.customShort("w"), .long], help: "Wait until they are off.")
  var wait = false
  @Option(
    name: .long, help: ArgumentHelp("With -w: give up after so long.", valueName: "seconds"))
  var timeout: Double = 120

  func validate() throws {
    guard all != !names.isEmpty else {
      throw ValidationError("Name the machines to stop, or say -a for all.")
    }
  }

  func run() throws {
    let inventory = try openInventory()
    var targets = names
    if all {
      targets = try inventory.names()
        .filter { inventory.holder($0)?.role == .host }
        .compactMap { NameArgument(argument: $0.description) }
    }
    var asked: [MachineName] = []
    var failure: ExitStatus?
    do {
      try forEachMachine(targets) { name in
        try ask(name, inventory)
        asked.append(name)
      }
    } catch let error as ExitStatus {
      failure = error
    }
    if wait || force {
      let deadline = MonotonicClock.now + UInt64(max(0, min(timeout, 1e6)) * 1e9)
      for name in asked where !waitForEnd(name, inventory, deadline) {
        Failure.print(
          UsageFailure("\(name): is still running; 'uj stop -f \(name)' cuts its power"))
        failure = ExitStatus(status: 1)
      }
    }
    if let failure { throw failure }
  }

  private func ask(_ name: MachineName, _ inventory: Inventory) throws {
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    guard let holder = inventory.holder(name), holder.role == .host else {
      throw HostingError(.notRunning, "\(name): is not running")
    }
    guard let problem = call(name, inventory) else {
      if !force, !wait { say("\(name): asked to power down") }
      return
    }
    guard force, problem.kind != .refused else { throw problem }
    // As vmctl: first politely, ten seconds later not.
    kill(holder.process, SIGTERM)
    if waitForEnd(name, inventory, MonotonicClock.now + 10_000_000_000) { return }
    kill(holder.process, SIGKILL)
  }

  private func call(_ name: MachineName, _ inventory: Inventory) -> HostingError? {
    do throws(HostingError) {
      let client = try MachineClient(name, at: inventory.location)
      _ = try client.call("stop", ["force": .bool(force)], timeout: 3)
      return nil
    } catch {
      return error
    }
  }

  private func waitForEnd(
    _ name: MachineName, _ inventory: Inventory, _ deadline: UInt64
  ) -> Bool {
    while inventory.holder(name)?.role == .host {
      if MonotonicClock.now >= deadline { return false }
      usleep(5000)
    }
    return true
  }
}
