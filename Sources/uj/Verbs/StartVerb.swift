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
      """)

  @Argument(help: "Machines to start.")
  var names: [NameArgument]
  @Option(
    name: [.customShort("t"), .long],
    help: "Make NAME from this machine first; one marked as template, or any that is stopped.")
  var template: String?
  @Flag(name: [.customShort("c"), .long], help: "Attach this terminal to its console.")
  var console = false
  @Option(name: [.customShort("m"), .long], help: "With -t: memory of the new machine.")
  var memory: SizeArgument?
  @Option(name: [.customShort("p"), .long], help: "With -t: processors of the new machine.")
  var cpus: Int?

  func validate() throws {
    guard !names.isEmpty else { throw ValidationError("Name the machine to start.") }
    if console, names.count > 1 { throw ValidationError("-c takes one machine.") }
    if template == nil, memory != nil || cpus != nil {
      throw ValidationError("-m and -p need -t; 'uj set' changes an existing machine.")
    }
    if let cpus, !(1...MachineDefinition.processorLimit).contains(cpus) {
      throw ValidationError("-p takes 1 to \(MachineDefinition.processorLimit).")
    }
    if let memory, memory.bytes == 0 || memory.bytes % (1 << 20) != 0 {
      throw ValidationError("-m takes a multiple of 1M.")
    }
  }

  func run() throws {
    let inventory = try openInventory()
    let template = try template.map { try MachineName($0) }
    try forEachMachine(names) { name in
      if let template {
        try inventory.clone(template, as: name) { definition in
          if let memory { definition.memory = memory.bytes }
          if let cpus { definition.processors = cpus }
        }
      }
      try HostProcess.spawn(name, inventory)
      if console { return try attachConsole(name, inventory) }
      let status = try? MachineClient(name, at: inventory.location).status()
      let terminal = status?.serialDevices.first.map { ", tty \($0)" } ?? ""
      say("\(name): started\(terminal)")
    }
  }
}
