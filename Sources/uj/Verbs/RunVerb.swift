import ArgumentParser
import CLinux
import Hosting
import Inventory
import Machine
import Platform

struct RunVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run a machine in the foreground, its first serial port on this terminal.",
    discussion: """
      With NAME, the machine of that name; without, one made from the options, of which nothing stays. ~. at the start \
      of a line or Ctrl-] ends it at once. Exit status: 0 when the guest powered off or was ended here, the guest's \
      own with --debug-exit, 3 when a processor gave up.

      EXAMPLES
        uj run --disk grub-rescue.img
        uj run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0' --memory 512M
      """)

  @Argument(help: "A machine of the inventory.")
  var name: NameArgument?
  @Option(name: [.customShort("b"), .long], help: "Kernel: multiboot, bzImage or ELF with PVH.")
  var kernel: String?
  @Option(help: "Initial RAM disk of the kernel.")
  var initrd: String?
  @Option(help: "Command line of the kernel.")
  var append = ""
  @Option(help: "'bios' for the installed SeaBIOS, or an image file.")
  var firmware = "bios"
  @Option(
    name: [.customShort("d"), .long],
    help: ArgumentHelp(
      "FILE[,format=raw|qcow2][,readonly][,serial=TEXT]. May be repeated.", valueName: "disk"))
  var disk: [DiskArgument] = []
  @Option(name: [.customShort("m"), .long], help: "Memory.")
  var memory = SizeArgument(argument: "256M")!
  @Option(name: [.customShort("p"), .long], help: "Number of processors.")
  var cpus = 1
  @Option(help: "Who runs the guest: auto, kvm or soft.")
  var accel = "auto"
  @Option(help: "Where serial ports go: stdio or none. May be repeated; one stdio.")
  var serial: [String] = ["stdio"]
  @Option(help: ArgumentHelp("What the firmware reports at port 0x402.", valueName: "file"))
  var debugcon: String?
  @Flag(help: "The guest may end the run with a status at port 0xF4.")
  var debugExit = false
  @Flag(help: "A reset ends the run.")
  var noReboot = false

  func run() throws {
    HostSignals.blockForConsole()
    var plan: HostPlan
    if let name {
      plan = try HostPlan(try name.name(), try openInventory())
    } else {
      plan = try makePlan()
    }
    plan.logsEvents = false
    let host = try MachineHost(plan, parts: .standard)
    let outcome = Monitor<MachineHost.End?>(nil)
    let thread = try PosixThread(name: "host") {
      let end = host.run()
      outcome.update { $0 = end }
    }
    if !plan.serial.isEmpty {
      try attach(to: host)
    }
    thread.join()
    let end = outcome.read { $0 }
    if let report = end?.report { Failure.note(report) }
    Failure.note("\(plan.configuration.name): \(end?.reason ?? "ended")")
    if let status = end?.status { throw ExitStatus(status: status) }
    if end?.isClean != true { throw ExitStatus(status: 3) }
  }

  private func attach(to host: MachineHost) throws {
    var ends: [Int32] = [-1, -1]
    try systemCall("socketpair") {
      socketpair(
        AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0,
        &ends)
    }
    host.attach(port: 0, descriptor: ends[0])
    defer { close(ends[1]) }
    var session = ConsoleSession(stream: ends[1]) { host.sendBreak(port: 0) }
    switch try session.run() {
    case .closed: break
    case .detached, .signalled: host.requestStop()
    }
  }

  private func makePlan() throws -> HostPlan {
    var configuration = MachineConfiguration(name: "run")
    configuration.processorCount = cpus
    configuration.memorySize = memory.bytes
    guard (1...MachineDefinition.processorLimit).contains(cpus) else {
      throw UsageFailure("--cpus \(cpus): must be 1 to \(MachineDefinition.processorLimit)")
    }
    guard memory.bytes > 0, memory.bytes % (1 << 20) == 0 else {
      throw UsageFailure("--memory: must be a multiple of 1M")
    }
    guard let accelerator = Accelerator(rawValue: accel) else {
      throw UsageFailure("--accel \(accel): must be auto, kvm or soft")
    }
    configuration.accelerator = accelerator
    if let kernel {
      configuration.boot = .kernel(path: kernel, initrd: initrd, commandLine: append)
    } else {
      guard initrd == nil, append.isEmpty else {
        throw UsageFailure("--initrd and --append need --kernel")
      }
      configuration.boot = .firmware(path: firmware == "bios" ? nil : firmware)
    }
    configuration.disks = try disk.map { argument in
      guard case .file(let path) = argument.source else {
        throw UsageFailure("--disk wants a file; 'uj create' makes one")
      }
      guard FileReading.exists(path) else { throw UsageFailure("\(path): no such file") }
      var disk = DiskConfiguration(
        path: path, format: argument.format == .raw ? .raw : .qcow2,
        isReadOnly: argument.isReadOnly, serial: argument.serial)
      // Made and named by the person at the terminal.
      disk.backing = .any
      return disk
    }
    configuration.stopsOnReset = noReboot
    configuration.hasDebugExit = debugExit
    guard serial.allSatisfy({ $0 == "stdio" || $0 == "none" }),
      serial.filter({ $0 == "stdio" }).count <= 1
    else { throw UsageFailure("--serial: must be stdio (once) or none") }
    var plan = HostPlan(configuration, serialPorts: serial.first == "stdio" ? 1 : 0)
    if let debugcon { plan.debugBackend = try FileBackend(debugcon) }
    return plan
  }
}
