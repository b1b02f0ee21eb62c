import ArgumentParser
import CLinux
import Hosting
import Inventory
import Machine
import Networks
import Platform

struct RunVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run a machine in the foreground, a serial port on this terminal.",
    discussion: """
      Without NAME, a machine made of the options, of which nothing stays: 256M of memory, one processor, the \
      installed SeaBIOS. It boots from disk, or from the CD when that is all there is.

      With NAME, that machine; options then override its definition for this run only, and disks given here come \
      behind its own. --boot and --firmware set a kernel of the definition aside, --kernel its firmware.

      At the start of a line, ~. ends the machine at once (as does Ctrl-] anywhere), ~# sends a break, ~~ sends a ~, \
      ~? helps. The terminal is given back as it was, whatever ends the run.

      DISKS
        FILE[,format=raw|qcow2][,readonly][,serial=TEXT][,bus=virtio|ahci|ide]
        The format is what format= says, or raw: or qcow2: before the name,
        or the extension (.qcow2, else raw). It is never guessed from the
        content, which the guest can write. TEXT has at most 20 characters.
        bus=ahci puts the disk on a SATA adapter, for guests without virtio
        drivers, bus=ide on an IDE controller, which has room for four.

      SERIAL PORTS
        stdio      this terminal, or a pipe; the default of the first port
        pty        a pseudo-terminal, named on standard error at the start
        console    for 'uj console', with NAME; in the log of that machine
        file:PATH  to the end of a file; what was in it stays
        none       nowhere; the guest has the port all the same

      NETWORKS
        user[,forward=HOST-PORT:GUEST-PORT]...  address translation by this
                   process, with DHCP and DNS; needs no right. Also:
                   tftp=FOLDER, bootfile=NAME (boot from net), hostname=NAME,
                   network=10.0.2.0/24, ipv4-only, local (reaches this host
                   and nobody else), isolated (reaches nobody at all)
        tap:NAME   a tap device of this host
        tap:fd=N   one that whoever started uj has opened; N:M for two queues
        bridge:NAME  a new tap on a bridge of this host, made by uj if it may,
                   or by a helper, see 'uj bridge-helper --help'
        switch:NAME  a switch between your machines
        stream:PATH, stream:127.0.0.1:PORT  another program, with frames as
                   QEMU's '-netdev stream' has them; connects, and again
                   when the other end was away. With listen: waits for it
        passt      address translation by the program passt; forward= and
                   ipv4-only as for user
        none       a cable that leads nowhere
        With any: mac=ADDRESS, locked (refuses other source addresses),
        down (the cable is out), rate=10M (bits a second in each direction,
        with k, M or G; what is too much waits a little, then is lost),
        model=e1000 (for guests without virtio).
        With tap and bridge: queues=4 (1 to 8), for guests with as many
        processors.
        forward= is [tcp|udp:][ADDRESS:]HOST-PORT:[ADDRESS:]GUEST-PORT.

      SOCKETS
        --vsock PATH gives the guest a virtio socket device (vsock). A program
        of this host connects to the Unix socket PATH, writes 'CONNECT PORT'
        in a line, and reads 'OK' with a number in a line when a program of
        the guest has accepted on that port; then bytes flow both ways. A
        guest that connects to port P of CID 2, the host, reaches the program
        that listens on the Unix socket PATH_P. With NAME, 'auto' puts PATH
        into the machine's runtime folder, as vsock.sock. The guest's CID is
        3, with NAME one of its own, or that of ,cid=N.

      EXIT STATUS
        0      the guest powered off, or asked for a reset under --no-reboot,
               or the machine was ended by ~. or Ctrl-]
        1      something is wrong with an option or a file: one line says
               what, and nothing was written
        3      a processor gave up: its registers and the bytes at its
               instruction are on standard error
        64     wrong usage
        128+N  ended by signal N
        other  the guest's own, with --debug-exit: (value << 1) | 1

      EXAMPLES
        uj run --disk debian.qcow2 --memory 1G --cpus 2
        uj run --cdrom grub-rescue.iso
        uj run --kernel vmlinuz --initrd initrd.img --append console=ttyS0
        uj run --kernel test.elf --debug-exit --no-reboot --serial file:out
        uj run --kernel vmlinuz --net user,forward=2222:22
        uj run web --boot cdrom --cdrom rescue.iso
      """)

  @Argument(help: "A machine of the inventory.")
  var name: NameArgument?
  @OptionGroup(title: "Machine")
  var options: MachineOptions
  @Option(
    name: [.customShort("d"), .long],
    help: ArgumentHelp("A disk, see DISKS. May be repeated.", valueName: "file"))
  var disk: [DiskArgument] = []
  @Option(
    help: ArgumentHelp(
      "Add what the guest writes to port 0x402, as firmware does, to this file.", valueName: "file")
  )
  var debugcon: String?
  @Flag(help: "The guest may end the run with a status of its own by port 0xF4 (isa-debug-exit).")
  var debugExit = false
  @Flag(help: "A reset or triple fault ends the run.")
  var noReboot = false
  @Flag(help: "No entropy device.")
  var noRng = false
  @Flag(help: "Keep this process's rights while a guest runs in it.")
  var noSandbox = false
  @Flag(help: "Print the board and start nothing.")
  var dryRun = false

  func run() throws {
    HostSignals.blockForConsole()
    if dryRun, let name { return try printBoard(of: try name.name()) }
    let (plan, terminal) = try makePlan()
    if dryRun {
      return try printBoard(plan.configuration, plan.serial.map(\.target), terminal: terminal)
    }
    try ForegroundRun(plan, terminal: terminal).run()
  }

  /// The board of a machine of the inventory, which may run: takes no lock and changes nothing.
  private func printBoard(of name: MachineName) throws {
    let inventory = try openInventory()
    var overrides = try options.overrides()
    let serial = try options.serialTargets(standard: .console)
    overrides.serialPorts = serial?.targets
    var definition = try inventory.definition(name)
    try overrides.apply(to: &definition)
    try definition.checkBoot(name)
    var configuration = MachineConfiguration(
      name: name.description, definition, try inventory.resolvedDisks(name))
    configuration.complete(name, definition, at: inventory.location)
    configuration.disks += try disk.map(self.configuration(of:))
    let ports = definition.serialPorts
    try printBoard(
      complete(configuration), ports,
      terminal: serial.map(\.terminal) ?? ports.firstIndex { $0.takesClients })
  }

  private func printBoard(
    _ configuration: MachineConfiguration, _ ports: [MachineDefinition.SerialTarget],
    terminal: Int?
  ) throws {
    for line in try Machine.listing(configuration, serialPortCount: ports.count) { say(line) }
    for (port, target) in ports.enumerated() {
      say("  COM\(port + 1) goes to \(port == terminal ? "this terminal" : target.text)")
    }
  }

  /// What only this verb can say of a board.
  private func complete(_ configuration: MachineConfiguration) -> MachineConfiguration {
    var configuration = configuration
    configuration.stopsOnReset = noReboot
    configuration.hasDebugExit = debugExit
    configuration.hasEntropyDevice = !noRng
    return configuration
  }

  /// What is to run, and which serial port is this terminal's.
  private func makePlan() throws -> (plan: HostPlan, terminal: Int?) {
    var overrides = try options.overrides()
    let serial = try options.serialTargets(standard: .console)
    overrides.serialPorts = serial?.targets
    let disks = try disk.map(configuration(of:))
    var plan: HostPlan
    if let name {
      plan = try HostPlan(try name.name(), try openInventory(), overrides: overrides)
      plan.configuration.disks += disks
    } else {
      var definition = MachineDefinition()
      try overrides.apply(to: &definition)
      if overrides.bootOrder == nil, disks.isEmpty, definition.opticalDrive?.path != nil {
        // Nothing else there is to boot from.
        definition.bootOrder = [.cdrom]
      }
      try definition.checkBoot(try MachineName("run"))
      for file in [definition.opticalDrive?.path, definition.kernel, definition.initrd] {
        if let file, !FileReading.exists(file) {
          throw UsageFailure("\(printable(file)): no such file")
        }
      }
      if let device = definition.socketDevice, device.path == nil {
        throw UsageFailure("--vsock auto is for machines with a name: say where the socket is made")
      }
      plan = HostPlan(name: "run", definition, disks: disks)
      if definition.networks.contains(where: \.isOnSwitch) {
        plan.configuration.switchFolder = try openInventory().location.prepareSwitches()
      }
    }
    plan.configuration = complete(plan.configuration)
    plan.debugPath = debugcon.map(InventoryLocation.absolute)
    plan.logsEvents = false
    plan.isSandboxed = !noSandbox
    // The definition's own first console, unless ports were named here.
    let first = plan.serial.first { $0.target.takesClients }?.port
    return (plan, serial.map(\.terminal) ?? first)
  }

  private func configuration(of argument: DiskArgument) throws -> DiskConfiguration {
    guard case .file(let path) = argument.source else {
      throw UsageFailure("--disk wants a file; 'uj create' makes one")
    }
    guard FileReading.exists(path) else { throw UsageFailure("\(printable(path)): no such file") }
    var disk = DiskConfiguration(
      path: path, format: argument.format == .raw ? .raw : .qcow2,
      isReadOnly: argument.isReadOnly, serial: argument.serial)
    disk.bus = StorageBus(argument.bus)
    // Made and named by the person at the terminal.
    disk.backing = .any
    return disk
  }
}
