import ArgumentParser
import CLinux
import Hosting
import Inventory

struct DemoVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Fetch a guest from Debian's archive, make a machine of it and show it.",
    discussion: """
      Makes the template 'demo' and the machine 'demo1' from it, starts the machine and opens the console on it. \
      Packages come by 'apt-get download', need no root, and are kept in $XDG_CACHE_HOME/underjack (by default \
      ~/.cache/underjack). Where the accelerator can run Linux the guest is Debian's cloud kernel with BusyBox, \
      elsewhere the GRUB rescue image.

      'uj delete demo1 demo' removes both again.
      """)

  @Flag(inversion: .prefixedNo, help: "Open the console when the machine runs.")
  var console = true

  func run() throws {
    let inventory = try openInventory()
    let name = try Demonstration(inventory: inventory, report: say).prepare()
    guard console else { return }
    guard isatty(0) == 1, isatty(1) == 1 else {
      say("this is no terminal: 'uj console \(name)' shows the machine")
      return
    }
    try openConsole(attach: name)
  }
}
