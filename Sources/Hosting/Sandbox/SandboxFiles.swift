// The files of a machine's host, for Landlock.

import CLinux
import Inventory
import Machine
import Networks
import Platform

/// What the host may do with which files once its machine runs. What is open already stays open.
struct SandboxFiles {
  private(set) var rules: [(path: String, rights: LandlockRules.Rights)] = []

  init(_ plan: HostPlan) {
    let configuration = plan.configuration
    if let claim = plan.claim {
      let location = claim.inventory.location
      // Snapshots, logs, state and the record of the run; a command may rename the folder, and it stays the same.
      add(location.machine(claim.name), .keep)
      add(location.runtimeFolder(claim.name), .keep)
    } else if let folder = plan.controlPath.flatMap(Self.folder) {
      add(folder, [.readFolder, .removeFile])
    }
    for disk in configuration.disks {
      add(disk.path, disk.isReadOnly ? .read : .readWrite)
      if case .files(let paths) = disk.backing {
        for path in paths { add(Self.absolute(path, beside: disk.path), .read) }
      }
    }
    // Read again when the machine is reset after it went on from a saved state.
    if case .kernel(let path, let initrd, _) = configuration.boot {
      add(path, .read)
      if let initrd { add(initrd, .read) }
    }
    if let path = configuration.opticalDrive?.path { add(path, .read) }
    // Taken along to another host.
    for file in plan.definition?.movingFiles(disc: nil, seed: "") ?? [] where !file.path.isEmpty {
      add(file.path, .read)
    }
    if let device = configuration.socketDevice, plan.claim == nil,
      let folder = Self.folder(device.path)
    {
      add(folder, [.readFolder, .removeFile, .makeSocket])
    }
    for share in configuration.shares {
      add(share.path, share.isWritable ? .keep : [.readFile, .readFolder])
    }
    for network in configuration.networks { add(network, configuration.switchFolder) }
    for place in plan.serial {
      if case .file(let path) = place.target { add(path, [.writeFile]) }
    }
    // Times in the log.
    add("/etc/localtime", .read)
    add("/dev/null", .readWrite)
    add("/dev/urandom", .read)
  }

  private mutating func add(_ network: NetworkConfiguration, _ switches: String?) {
    switch network.kind {
    case .user:
      add("/etc/resolv.conf", .read)
      // It is often a link into a folder where it is replaced as a whole.
      if let path = Self.resolved("/etc/resolv.conf"), let folder = Self.folder(path),
        folder != "/etc"
      {
        add(folder, [.readFile, .readFolder])
      }
      if let folder = network.user.tftpFolder { add(folder, [.readFile, .readFolder]) }
    case .networkSwitch:
      if let switches {
        add(switches, .keep)
      }
    case .stream(.file(let path)):
      if let folder = Self.folder(path) { add(folder, [.readFolder, .removeFile, .makeSocket]) }
    case .stream, .tap, .tapDescriptors, .bridge, .passt, .none: break
    }
  }

  private mutating func add(_ path: String, _ rights: LandlockRules.Rights) {
    if let place = rules.firstIndex(where: { $0.path == path }) {
      rules[place].rights.formUnion(rights)
    } else {
      rules.append((path, rights))
    }
  }

  private static func folder(_ path: String) -> String? {
    guard let slash = path.lastIndex(of: "/") else { return nil }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private static func absolute(_ path: String, beside disk: String) -> String {
    path.hasPrefix("/") ? path : (folder(disk) ?? "") + "/" + path
  }

  private static func resolved(_ path: String) -> String? {
    guard let pointer = realpath(path, nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }
}
