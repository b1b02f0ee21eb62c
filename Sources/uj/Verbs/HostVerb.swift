import ArgumentParser
import CLinux
import Hosting
import Inventory
import Machine

struct HostVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "host",
    abstract: "Be the host process of a machine, in the foreground.",
    discussion: """
      'uj start' runs this detached; a service manager may run it as it is ('uj systemd-unit'). SIGTERM ends the \
      machine at once, with its disks flushed. Options override the definition for this run only. Exit status 0 after \
      a clean end, 1 after a fault.
      """,
    shouldDisplay: false)

  @Argument(help: "The machine.")
  var name: NameArgument
  @OptionGroup(title: "Machine")
  var options: MachineOptions
  @Option(help: "One more disk, for this run only, as for 'uj start -d'.")
  var disk: [DiskArgument] = []
  @Flag(help: "Give up nothing: the process keeps the user's rights while a guest runs in it.")
  var noSandbox = false
  @Flag(help: .hidden)
  var report = false
  @Flag(help: .hidden)
  var received = false
  @Flag(help: "Switch a suspended machine on anew: its saved memory is gone.")
  var discardState = false

  func run() throws {
    let end: MachineHost.End
    do {
      HostSignals.prepare()
      if received, !HostProcess.awaitGo() { return }
      let name = try name.name()
      let inventory = try openInventory()
      var overrides = try options.overrides()
      overrides.serialPorts = try options.serialTargets()?.targets
      overrides.disks = try disk.map { try $0.externalDisk(inventory) }
      var plan = try HostPlan(
        name, inventory, overrides: overrides, discardsState: discardState)
      plan.isSandboxed = !noSandbox
      // Its memory was compared with its checksums as it came.
      if received {
        plan.configuration.verifiesSavedState = false
        plan.onExecuting = { HostProcess.reportExecuting() }
      }
      let host = try MachineHost(plan, parts: .standard)
      try host.handleSignals()
      try host.reportsCrashes()
      if report { HostProcess.report(nil) }
      end = host.run()
    } catch  where Failure.isOurs(error) {
      if report { HostProcess.report("\(error)") }
      throw error
    }
    if !end.isClean { throw ExitStatus(status: 1) }
  }
}
