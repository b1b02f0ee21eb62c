import CLinux
import Devices
import Networks
import Platform

/// What a vm.conf(5) comes to here: machines to be made, and a list of what has no equivalent.
package struct VMConfigurationImport: Sendable {
  /// A machine to be made.
  package struct Machine: Sendable, Equatable {
    package var name: MachineName
    package var definition: MachineDefinition
    /// What is different from what the file says, one line each.
    package var remarks: [String]
  }

  package private(set) var machines: [Machine] = []
  /// What concerns no single machine.
  package private(set) var remarks: [String] = []

  private let configuration: VMConfiguration
  private let root: String

  /// Reads a file and works out its machines. Makes nothing.
  ///
  /// - Parameters:
  ///   - root: where the other system's files are: stands before every absolute path. nil: they are where they were.
  ///   - macros: as `vmd -D`.
  /// - Throws: file, line and what was expected.
  package init(
    _ path: String, root: String? = nil, macros: [String: String] = [:],
    images: any ImageStore
  ) throws(InventoryError) {
    configuration = try VMConfigurationParser.parse(path, root: root, macros: macros)
    self.root = root ?? ""
    for (place, text) in configuration.global {
      remarks.append(
        "\(place): \(printable(text)): a setting of the daemon, and there is none here")
    }
    for item in configuration.switches {
      let below = item.interface.map { " over \(printable($0))" } ?? ""
      remarks.append(
        "\(item.place): switch \(printable(item.name))\(below): is there when a machine uses it; it leads to no interface of this host"
      )
    }
    for (index, machine) in configuration.machines.enumerated() {
      machines.append(try convert(machine, index, images))
    }
  }

  private func convert(
    _ machine: VMConfiguration.Machine, _ index: Int, _ images: any ImageStore
  ) throws(InventoryError) -> Machine {
    let name = try MachineName(machine.name)
    let whole = try inherited(machine)
    var definition = MachineDefinition()
    var remarks: [String] = []
    definition.uuid = .random()
    definition.parent = machine.parent
    definition.memory = max(1, (whole.memory ?? 512 << 20) >> 20) << 20
    if definition.memory > MachineDefinition.memoryLimit {
      definition.memory = MachineDefinition.memoryLimit
      remarks.append("memory: more than a machine has here")
    }
    definition.processors = min(whole.processors ?? 1, MachineDefinition.processorLimit)
    if whole.processors ?? 1 > MachineDefinition.processorLimit {
      remarks.append("cpus: a machine has at most \(MachineDefinition.processorLimit)")
    }
    definition.autostart.isEnabled = whole.isEnabled ?? true
    definition.autostart.order = index
    if let start = configuration.staggeredStart, (index + 1) % start.parallel == 0 {
      definition.autostart.delay = start.delay
    }
    if let file = whole.cdrom { definition.opticalDrive = .disc(here(file)) }
    if let device = whole.bootDevice,
      let here = MachineDefinition.BootDevice(rawValue: device.rawValue)
    {
      definition.bootOrder = [here]
      if device == .net {
        remarks.append(
          "boot device net: it starts by PXE here; see 'tftp=' and 'bootfile=' in 'uj run --help'")
      }
    }
    if let file = whole.boot { setBoot(here(file), &definition, &remarks) }
    try setDisks(machine, &definition, images)
    setOwner(whole, &definition, &remarks)
    definition.allowedInstanceSettings = whole.allowed
    if let who = whole.instanceOwner {
      remarks.append(
        "allow instance owner \(printable(who.description)): only this user makes machines")
    }
    addInterfaces(whole, &definition, &remarks)
    for flag in whole.flags { remarks.append("\(flag): encrypted memory is not there yet") }
    return Machine(name: name, definition: definition, remarks: remarks)
  }

  /// With what an instance has from its parents: all but disks, and what identifies interfaces.
  private func inherited(
    _ machine: VMConfiguration.Machine
  ) throws(InventoryError) -> VMConfiguration.Machine {
    var result = machine
    var next = machine.parent
    var seen: Set<String> = [machine.name]
    while let name = next {
      guard let parent = configuration.machines.first(where: { $0.name == name }) else {
        throw InventoryError(
          .invalid,
          "\(machine.place): vm \(printable(machine.name)): there is no vm \(printable(name))")
      }
      guard seen.insert(name).inserted else {
        throw InventoryError(
          .invalid, "\(machine.place): vm \(printable(machine.name)) is an instance of itself")
      }
      result.isEnabled = result.isEnabled ?? parent.isEnabled
      result.boot = result.boot ?? parent.boot
      result.bootDevice = result.bootDevice ?? parent.bootDevice
      result.cdrom = result.cdrom ?? parent.cdrom
      result.processors = result.processors ?? parent.processors
      result.memory = result.memory ?? parent.memory
      result.owner = result.owner ?? parent.owner ?? parent.instanceOwner
      if result.flags.isEmpty { result.flags = parent.flags }
      if result.allowed == nil, parent.allowed?.contains(.instance) == true {
        result.allowed = parent.allowed
      }
      result.interfaceCount = result.interfaceCount ?? parent.interfaceCount
      for index in parent.interfaces.indices where index >= result.interfaces.count {
        var interface = parent.interfaces[index]
        interface.name = nil
        interface.address = nil
        result.interfaces.append(interface)
      }
      next = parent.parent
    }
    return result
  }

  private func here(_ path: String) -> String {
    path.hasPrefix("/") ? InventoryLocation.absolute(root + path) : InventoryLocation.absolute(path)
  }

  private func setDisks(
    _ machine: VMConfiguration.Machine, _ definition: inout MachineDefinition,
    _ images: any ImageStore
  ) throws(InventoryError) {
    for (index, disk) in machine.disks.enumerated() {
      let path = here(disk.path)
      let format = disk.format ?? Self.format(of: path)
      var entry = MachineDefinition.Disk(name: "disk\(index)", path: path, format: format)
      if format == .qcow2, FileReading.exists(path) {
        entry.backing = try images.backing(of: path)
      }
      definition.disks.append(entry)
    }
  }

  /// As vmd: by the file's first bytes, then by its name. Looked at once, now; from here on the definition says it.
  private static func format(of path: String) -> MachineDefinition.DiskFormat {
    switch firstBytes(path) {
    case [0x51, 0x46, 0x49, 0xFB]: .qcow2
    case nil: path.lowercased().hasSuffix(".qcow2") ? .qcow2 : .raw
    default: .raw
    }
  }

  private static func firstBytes(_ path: String) -> [UInt8]? {
    guard let file = try? FileDescriptor.open(path, O_RDONLY | O_NONBLOCK) else { return nil }
    var bytes = [UInt8](repeating: 0, count: 4)
    let count = bytes.withUnsafeMutableBytes { pread(file.rawValue, $0.baseAddress, $0.count, 0) }
    return count == 4 ? bytes : []
  }

  /// A kernel (ELF, perhaps compressed) or a BIOS.
  private func setBoot(
    _ path: String, _ definition: inout MachineDefinition, _ remarks: inout [String]
  ) {
    guard let bytes = Self.firstBytes(path) else {
      remarks.append("boot \(printable(path)): is not there; it starts from the installed SeaBIOS")
      return
    }
    if bytes == [0x7F, 0x45, 0x4C, 0x46] || bytes.prefix(2) == [0x1F, 0x8B] {
      definition.kernel = path
      remarks.append(
        "boot \(printable(path)): a kernel is started here by multiboot, PVH or Linux's protocol; "
          + "OpenBSD's own has none of these and boots from a disk")
    } else {
      definition.firmware = path
    }
  }

  private func setOwner(
    _ machine: VMConfiguration.Machine, _ definition: inout MachineDefinition,
    _ remarks: inout [String]
  ) {
    guard let owner = machine.owner else { return }
    if let user = owner.user {
      if AccountName.user(user) != nil {
        definition.owner = user
      } else {
        remarks.append("owner \(printable(user)): there is no such user here")
      }
    }
    if let group = owner.group {
      if AccountName.group(group) != nil {
        definition.group = group
      } else {
        remarks.append("owner :\(printable(group)): there is no such group here")
      }
    }
  }

  /// A local interface becomes a network with this host alone and DHCP, one on a switch stays there, any other gets a network with
  /// address translation: a plain interface of vmd's is a tap that an administrator connects.
  private func addInterfaces(
    _ machine: VMConfiguration.Machine, _ definition: inout MachineDefinition,
    _ remarks: inout [String]
  ) {
    var interfaces = machine.interfaces
    while interfaces.count < machine.interfaceCount ?? 0 { interfaces.append(.init()) }
    for interface in interfaces {
      guard definition.networks.count < MachineDefinition.networkLimit else {
        remarks.append(
          "\(interface.description): a machine has at most \(MachineDefinition.networkLimit)")
        continue
      }
      var network = NetworkConfiguration()
      if let name = interface.switchName {
        if let kind = NetworkConfiguration.Kind("switch:\(name)") {
          network.kind = kind
        } else {
          remarks.append(
            "\(interface.description): no name for a switch here; has a network of its own")
        }
      } else if interface.isLocal {
        network.user.isLocal = true
      } else {
        remarks.append(
          "\(interface.description): has a network with address translation; --net tap:NAME for a tap"
        )
      }
      network.address = interface.address.flatMap { HardwareAddress($0) }
      network.isLocked = interface.isLocked
      network.isUp = interface.isUp
      for (what, value) in [
        ("group", interface.group), ("rdomain", interface.routingDomain.map(String.init)),
      ] {
        if let value {
          remarks.append("\(interface.description): \(what) \(printable(value)) has no equivalent")
        }
      }
      definition.networks.append(network)
    }
  }
}

extension Inventory {
  /// Makes a machine that was read from another program's configuration.
  package func add(_ machine: VMConfigurationImport.Machine) throws(InventoryError) {
    try create(machine.name, machine.definition)
  }
}
