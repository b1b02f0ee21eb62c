import Networks

/// A file beside the disks that a machine needs and takes along to another host. What it is called there, that host says.
package enum MovingFile: UInt8, Sendable, CaseIterable {
  case kernel = 0
  case initrd = 1
  case firmware = 2
  case userData = 3
  case networkConfiguration = 4
  case seed = 5
  case disc = 6

  /// Where it stands in the folder of a machine that has come.
  package var place: String {
    switch self {
    case .kernel: "boot/kernel"
    case .initrd: "boot/initrd"
    case .firmware: "boot/firmware"
    case .userData: "cloud/user-data"
    case .networkConfiguration: "cloud/network-config"
    case .seed: "seed.iso"
    case .disc: "disc.iso"
    }
  }

  /// For messages.
  package var what: String {
    switch self {
    case .kernel: "kernel"
    case .initrd: "initrd"
    case .firmware: "firmware"
    case .userData: "user-data"
    case .networkConfiguration: "network-config"
    case .seed: "seed"
    case .disc: "disc image"
    }
  }

  /// Bytes that one may have: a disc is the largest.
  package static let sizeLimit: UInt64 = 256 << 30
}

extension MachineDefinition {
  /// The files that go along, where they are here.
  ///
  /// - Parameters:
  ///   - disc: what is in the CD-ROM drive now; nil: nothing.
  ///   - seed: where the machine's seed is.
  package func movingFiles(disc: String?, seed: String) -> [(file: MovingFile, path: String)] {
    let paths: [(MovingFile, String?)] = [
      (.kernel, kernel), (.initrd, initrd), (.firmware, firmware),
      (.userData, cloudInit?.userData), (.networkConfiguration, cloudInit?.networkConfiguration),
      (.seed, cloudInit == nil ? nil : seed), (.disc, opticalDrive == nil ? nil : disc),
    ]
    return paths.compactMap { file, path in path.map { (file, $0) } }
  }

  /// The definition as it leaves this host: what is in the drive is what the guest sees, and addresses are said.
  package func departing(disc: String?, addresses: [String]) -> MachineDefinition {
    var definition = self
    if definition.opticalDrive != nil {
      definition.opticalDrive = disc.map { .disc($0) } ?? .empty
    }
    for index in definition.networks.indices where addresses.indices.contains(index) {
      if let address = try? NetworkConfiguration.address(addresses[index]) {
        definition.networks[index].address = address
      }
    }
    return definition
  }

  /// The definition of a machine that comes from another host as it holds here: no path of it is kept, and nothing by
  /// which it would reach more of this host than a new machine of anybody's.
  ///
  /// - Parameters:
  ///   - files: what comes along.
  ///   - sharedDisks: where disks are that do not come, by their names; the person here says so.
  ///   - networks: what the person here says of adapters, from the first on.
  package func arriving(
    files: Set<MovingFile>, sharedDisks: [String: (path: String, backing: [String])],
    networks own: [NetworkConfiguration]
  ) throws(InventoryError) -> MachineDefinition {
    var definition = self
    func place(_ file: MovingFile, _ path: String?) throws(InventoryError) -> String? {
      guard path != nil else { return nil }
      guard files.contains(file) else {
        throw InventoryError(.refused, "the machine comes without its \(file.what)")
      }
      return file.place
    }
    definition.kernel = try place(.kernel, kernel)
    definition.initrd = try place(.initrd, initrd)
    definition.firmware = try place(.firmware, firmware)
    if let drive = opticalDrive, let path = try place(.disc, drive.path) {
      definition.opticalDrive = .disc(path)
    }
    definition.cloudInit?.userData = try place(.userData, cloudInit?.userData)
    definition.cloudInit?.networkConfiguration = try place(
      .networkConfiguration, cloudInit?.networkConfiguration)
    definition.serialPorts = serialPorts.map { port in
      if case .file = port { .console } else { port }
    }
    definition.socketDevice?.path = nil
    // Accounts of another host.
    definition.owner = nil
    definition.group = nil
    definition.parent = nil
    definition.isTemplate = false
    definition.networks = try Self.arriving(networks, own)
    for index in definition.disks.indices {
      let name = definition.disks[index].name
      definition.disks[index].backing = sharedDisks[name]?.backing ?? []
      definition.disks[index].path = sharedDisks[name]?.path
      if sharedDisks[name] == nil { definition.disks[index].format = .qcow2 }
    }
    return definition
  }

  /// Where a cable ends on this host is not for another to say, but for what a new machine may have as well.
  private static func arriving(
    _ networks: [NetworkConfiguration], _ own: [NetworkConfiguration]
  ) throws(InventoryError) -> [NetworkConfiguration] {
    var result: [NetworkConfiguration] = []
    for (index, network) in networks.enumerated() {
      var network = network
      if own.indices.contains(index) {
        // The guest knows the adapter by the rest.
        let (address, model, isLocked) = (network.address, network.model, network.isLocked)
        network = own[index]
        (network.address, network.model, network.isLocked) = (address, model, isLocked)
      } else {
        switch network.kind {
        case .user, .networkSwitch, .passt, .none: network.user.tftpFolder = nil
        case .tap, .tapDescriptors, .bridge, .stream:
          throw InventoryError(
            .refused,
            "network adapter \(index) leads to \(printable(network.kind.text)) there; say where it "
              + "leads here: 'uj receive --net ...', once for each adapter")
        }
      }
      result.append(network)
    }
    return result
  }
}
