import ArgumentParser
import Glibc
import Hosting
import Inventory

struct SetVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set",
    abstract: "Change settings of a machine; comments in its file stay.",
    discussion: """
      Keys are those of machine.toml. An empty value takes the default. A running machine takes the change at its next \
      start. Files are found from the working folder, as on any command line.

      KEYS
        memory=1G
        processors=4                  or processors=sockets=2,cores=2,threads=1
        cpu=host                      x86-64-v1, x86-64-v2, x86-64-v3
        nested=true                   the guest may run guests
        accelerator=auto              kvm, soft
        irqchip=kernel                split
        display=vga                   or none
        serial=console,pty            console, pty, file:PATH, none; COM1 to COM4
        cdrom=debian.iso              or empty
        cdrom-bus=virtio              ahci, ide
        huge-pages=true               memory in pages of 2 MiB
        balloon=true                  the guest gives memory back while it runs
        shares=/srv/data,tag=data     folders for the guest to mount; ,write
        watchdog=reset                pause, poweroff, none; on-panic the same
        memory-target=512M            what it is to keep at its start; see 'uj balloon'
        boot.order=cdrom,disk
        boot.firmware=FILE            boot.kernel, boot.initrd, boot.append
        disk.disk0.serial=ABC         read-only, path, format, bus
        vsock.cid=auto                sockets; or the guest's address; vsock.path
        cloud-init.user=NAME          hostname, password (a hash), ssh-authorized-keys,
                                      user-data=FILE, network-config=FILE
        autostart.enabled=true        autostart.order, autostart.delay (seconds)
        autosnap=every 30s keep 20    snapshots with memory by the clock
        template=true  notes=TEXT  tags=a,b  uuid=UUID
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: ArgumentHelp("What to change.", valueName: "key=value"))
  var changes: [String]

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    var text = try inventory.definitionText(name)
    for change in changes {
      guard let equals = change.firstIndex(of: "=") else {
        throw UsageFailure("\(change): expected KEY=VALUE")
      }
      let key = String(change[..<equals])
      let value = String(change[change.index(after: equals)...])
      text = try DefinitionEditor.set(
        key, to: DefinitionEditor.resolved(value, of: key), in: text,
        path: inventory.location.definition(name))
    }
    if changes.contains(where: { $0.hasPrefix("autosnap=") }) {
      try noteCost(of: try MachineDefinition(text: text, path: "\(name)"), name, inventory)
    }
    try inventory.saveDefinition(text, of: name)
    if inventory.holder(name)?.role == .host {
      Failure.note("\(name): is running; the change counts from its next start")
    }
  }

  /// What checkpoints by the clock cost, before they are turned on: a bound, and what the last ones took.
  private func noteCost(
    of definition: MachineDefinition, _ name: MachineName, _ inventory: Inventory
  ) throws {
    guard let autosnap = definition.autosnap else { return }
    let bound = definition.memory.multipliedReportingOverflow(by: UInt64(autosnap.count))
    let most = bound.overflow ? UInt64.max : bound.partialValue
    Failure.note(
      "\(name): the first keeps the memory that is in use, each later one what was written since: at "
        + "most \(ByteSize.formatRounded(most)) for \(autosnap.count) of "
        + "\(ByteSize.formatRounded(definition.memory)), beside what is overwritten on disks")
    let kept = try inventory.snapshots(name).snapshots.compactMap(\.memory).suffix(5)
    guard !kept.isEmpty else { return }
    let sizes = kept.map { state -> UInt64 in
      var information = stat()
      let path = inventory.location.memoryState(name, state)
      return stat(path, &information) == 0 ? UInt64(clamping: information.st_blocks) &* 512 : 0
    }
    Failure.note(
      "\(name): the last with memory: \(sizes.map(ByteSize.formatRounded).joined(separator: ", "))")
  }
}
