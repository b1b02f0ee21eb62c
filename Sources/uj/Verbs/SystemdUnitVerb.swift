import ArgumentParser
import CLinux
import Hosting
import Inventory

struct SystemdUnitVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "systemd-unit",
    abstract: "Print a systemd unit that runs machines.",
    discussion: """
      A template unit for the user's service manager: each instance is the host process of one machine. With \
      --autostart, a unit that calls 'uj autostart' at boot. Neither is installed; the first lines of the unit say how.

      EXAMPLES
        uj systemd-unit > ~/.config/systemd/user/uj@.service
        uj systemd-unit --autostart > ~/.config/systemd/user/uj-autostart.service
      """)

  @Flag(help: "The unit for all machines with autostart.enabled.")
  var autostart = false

  func run() throws {
    let unit = SystemdUnit(
      program: HostProcess.runningProgram(),
      home: InventoryLocation.environmentVariable("UNDERJACK_HOME"))
    write(autostart ? unit.autostart : unit.machine)
  }
}
