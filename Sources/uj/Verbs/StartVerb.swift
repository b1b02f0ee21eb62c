import ArgumentParser
import Hosting
import Inventory

struct StartVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "start",
    abstract: "Start machines, or make one from a template and start it.",
    discussion: """
      Each machine runs in a process of its own that needs neither this terminal nor the console. With -t, NAME is a \
      new machine whose disks grow from the template's: that takes milliseconds and no space.

      A machine that was suspended goes on where it was; --discard-state switches it on anew.

      Options override the definition for this start only. With -t, all but --boot become the new machine's own. \
      --serial takes console, pty, file:PATH or none ('uj new --help').

      EXAMPLES
        uj start web db
        uj start -t debian web1 -c -m 2G
        uj start -B cdrom -r rescue.iso web
      """)

  @Argument(help: "Machines to start.")
  var names: [NameArgument]
  @Option(
    name: [.customShort("t"), .long],
    help: "Make NAME from this machine first; one marked as template, or any that is stopped.")
  var template: String?
  @Flag(name: [.customShort("c"), .long], help: "Attach this terminal to its console.")
  var console = false
  @Flag(
    help:
      "The host process keeps your rights while the guest runs; 'uj status' and the console say so."
  )
  var noSandbox = false
  @Flag(help: "Switch a suspended machine on anew: its saved memory is gone.")
  var discardState = false
  @Option(
    name: [.customShort("d"), .long],
    help: ArgumentHelp(
      "One more disk: FILE[,format=raw|qcow2][,readonly][,serial=TEXT]. May be repeated.",
      valueName: "file"))
  var disk: [DiskArgument] = []
  @OptionGroup(title: "Machine")
  var options: MachineOptions

  func validate() throws {
    guard !names.isEmpty else { throw ValidationError("Name the machine to start.") }
    if console, names.count > 1 { throw ValidationError("-c takes one machine.") }
  }

  func run() throws {
    let inventory = try openInventory()
    let template = try template.map { try MachineName($0) }
    var lasting = try options.overrides()
    lasting.serialPorts = try options.serialTargets()?.targets
    // The boot device is never a lasting wish.
    lasting.bootOrder = nil
    let forThisStart =
      template == nil ? options.hostArguments : options.boot.map { ["--boot=\($0)"] } ?? []
    let disks = try disk.map { try $0.externalDisk(inventory) }
    if let template {
      try inventory.checkInstance(
        of: template, changing: lasting.settings + (disks.isEmpty ? [] : [.disk]))
    }
    let extraDisks = template == nil ? disk.compactMap(\.hostArgument) : []
    try forEachMachine(names) { name in
      if let template {
        try inventory.clone(template, as: name) { (definition) throws(InventoryError) in
          try lasting.apply(to: &definition)
          try DefinitionOverrides.add(disks, to: &definition)
        }
      }
      let isSuspended = !discardState && inventory.isSuspended(name)
      let discard =
        (discardState ? ["--discard-state"] : []) + (noSandbox ? ["--no-sandbox"] : [])
      try HostProcess.spawn(name, inventory) { name in
        ["uj", "host", "--report"] + discard + forThisStart + extraDisks + [name.description]
      }
      if console { return try attachConsole(name, inventory) }
      let status = try? MachineClient(name, at: inventory.location).status()
      let terminal = status?.serialDevices.first.map { ", tty \($0)" } ?? ""
      say("\(name): \(isSuspended ? "goes on" : "started")\(terminal)")
    }
  }
}
