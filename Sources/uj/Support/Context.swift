import ArgumentParser
import CLinux
import Hosting
import Inventory

/// The machines of this user.
func openInventory() throws -> Inventory {
  Inventory(location: try InventoryLocation(), images: DiskImageStore())
}

/// A machine's name as it was typed: checked by the verb, so that the error is ours.
struct NameArgument: ExpressibleByArgument {
  var text: String
  init?(argument: String) { text = argument }
  func name() throws -> MachineName { try MachineName(text) }
}

/// A size such as 512M.
struct SizeArgument: ExpressibleByArgument {
  var bytes: UInt64
  init?(argument: String) {
    guard let bytes = ByteSize.parse(argument) else { return nil }
    self.bytes = bytes
  }
}

/// `FILE[,format=raw|qcow2][,readonly][,serial=TEXT]`, or a size for a new disk.
struct DiskArgument: ExpressibleByArgument {
  enum Source {
    case size(UInt64)
    case file(String)
  }
  var source: Source
  var format: MachineDefinition.DiskFormat
  var isReadOnly = false
  var serial = ""
  var bus = MachineDefinition.StorageBus.virtio

  init?(argument: String) {
    var parts = argument.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let first = parts.removeFirst()
    guard !first.isEmpty else { return nil }
    if let bytes = ByteSize.parse(first) {
      source = .size(bytes)
      format = .qcow2
    } else {
      let (path, stated) = Self.pathAndFormat(first)
      source = .file(InventoryLocation.absolute(path))
      format = stated
    }
    for part in parts {
      let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
      switch (pair.first, pair.count) {
      case ("readonly", 1): isReadOnly = true
      case ("serial", 2) where pair[1].utf8.count <= 20: serial = pair[1]
      case ("bus", 2):
        guard let stated = MachineDefinition.StorageBus(rawValue: pair[1]) else { return nil }
        bus = stated
      case ("format", 2):
        guard let stated = MachineDefinition.DiskFormat(rawValue: pair[1]) else { return nil }
        format = stated
      default: return nil
      }
    }
  }

  /// A disk that is a file of the person's.
  func externalDisk(_ inventory: Inventory) throws -> MachineDefinition.Disk {
    guard case .file(let path) = source else {
      throw UsageFailure("-d wants a disk image, not a size; 'uj create' makes one")
    }
    guard FileReading.exists(path) else { throw UsageFailure("\(printable(path)): no such file") }
    return MachineDefinition.Disk(
      name: "", path: path, format: format, isReadOnly: isReadOnly,
      backing: format == .qcow2 ? try inventory.images.backing(of: path) : [], serial: serial)
  }

  /// As `uj host` takes it.
  var hostArgument: String? {
    guard case .file(let path) = source else { return nil }
    return "--disk=\(format.rawValue):\(path)" + (isReadOnly ? ",readonly" : "")
      + (serial.isEmpty ? "" : ",serial=\(serial)")
  }

  /// By prefix (`raw:`, `qcow2:`) or extension, never by content: a guest can make a raw disk look like anything.
  static func pathAndFormat(_ text: String) -> (String, MachineDefinition.DiskFormat) {
    for format in MachineDefinition.DiskFormat.allCases where text.hasPrefix(format.rawValue + ":")
    {
      return (String(text.dropFirst(format.rawValue.utf8.count + 1)), format)
    }
    return (text, text.lowercased().hasSuffix(".qcow2") ? .qcow2 : .raw)
  }
}

/// Carries out an action for each machine; goes on after an error and ends with status 1.
func forEachMachine(_ names: [NameArgument], _ action: (MachineName) throws -> Void) throws {
  var failed = false
  for argument in names {
    do {
      try action(try argument.name())
    } catch  where Failure.isOurs(error) {
      Failure.print(error)
      failed = true
    }
  }
  if failed { throw ExitStatus(status: 1) }
}
