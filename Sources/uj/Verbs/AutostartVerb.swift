import ArgumentParser
import CLinux
import Hosting
import Inventory

struct AutostartVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "autostart",
    abstract: "Start all machines that want to be started with the computer.",
    discussion: """
      Those whose definition says autostart.enabled, by autostart.order and then by name; after each one \
      autostart.delay seconds pass. Machines that run already are left alone. Goes on after a machine that does not \
      start, and then ends with status 1. 'uj systemd-unit --autostart' prints the unit that calls this.

      EXAMPLES
        uj set web autostart.enabled=true autostart.order=10 autostart.delay=5
        uj autostart --dry-run
      """)

  @Flag(help: "Print what would be started, and when.")
  var dryRun = false

  func run() throws {
    let inventory = try openInventory()
    let queue = try AutostartQueue(inventory)
    var failed = !queue.problems.isEmpty
    for problem in queue.problems { Failure.print(problem) }
    if dryRun {
      var seconds = 0
      for entry in queue.entries {
        say("\(entry.name): after \(seconds) s")
        seconds += entry.delay
      }
    } else {
      for (index, entry) in queue.entries.enumerated() {
        do {
          try HostProcess.spawn(entry.name, inventory)
          say("\(entry.name): started")
        } catch {
          Failure.print(error)
          failed = true
          continue
        }
        if index < queue.entries.count - 1 { sleep(UInt32(clamping: entry.delay)) }
      }
    }
    if failed { throw ExitStatus(status: 1) }
  }
}
