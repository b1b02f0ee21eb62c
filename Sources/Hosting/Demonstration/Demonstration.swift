import CLinux
import Inventory
import Machine
import Platform

/// `uj demo`: a template and a machine made from it, out of packages of Debian's archive.
///
/// On a host whose accelerator can run Linux it is Debian's cloud kernel with BusyBox and a data disk; elsewhere it is
/// the GRUB rescue image. What exists already is used as it is, so a second run only starts the machine.
package struct Demonstration: Sendable {
  package static let templateName = "demo"
  package static let machineName = "demo1"

  private let inventory: Inventory
  private let program: String?
  private let report: @Sendable (String) -> Void

  /// - Parameters:
  ///   - program: the `uj` that hosts are started with; nil is the program that is running.
  ///   - report: one line about what is being done.
  package init(
    inventory: Inventory, program: String? = nil, report: @escaping @Sendable (String) -> Void
  ) {
    self.inventory = inventory
    self.program = program
    self.report = report
  }

  /// Makes what is missing and starts the machine.
  ///
  /// - Returns: the machine's name.
  /// - Throws: one line that says what to do.
  package func prepare() throws -> MachineName {
    let template = try MachineName(Self.templateName)
    let machine = try MachineName(Self.machineName)
    let accelerator = try AcceleratorReport()
    report("accelerator: \(accelerator.description)")
    if !inventory.exists(template) {
      if accelerator.runsOperatingSystems {
        try makeLinuxTemplate(template)
      } else {
        report("no operating system can run on it, so the guest is the GRUB rescue image")
        try makeGRUBTemplate(template)
      }
      report("made the template \(template)")
    }
    if !inventory.exists(machine) {
      try inventory.clone(template, as: machine) { _ in }
      report("made \(machine) from it")
    }
    if inventory.holder(machine) == nil {
      try HostProcess.spawn(machine, inventory, program: program)
      report("started \(machine)")
    }
    return machine
  }

  private func makeGRUBTemplate(_ name: MachineName) throws {
    let packages = PackageCache(folder: PackageCache.standardFolder(), report: report)
    let image =
      try packages.unpacked("grub-rescue-pc") + "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
    var definition = MachineDefinition()
    definition.memory = 64 << 20
    definition.notes = "GRUB rescue: its menu takes about 40 seconds where KVM emulates kernel mode"
    try create(name, definition, disk: .copy(path: image, format: .raw))
  }

  private func makeLinuxTemplate(_ name: MachineName) throws {
    let packages = PackageCache(folder: PackageCache.standardFolder(), report: report)
    let kernelPackage = try packages.dependency(
      of: "linux-image-cloud-amd64", prefix: "linux-image-")
    let kernel = try packages.unpacked(kernelPackage)
    let busybox = try packages.unpacked("busybox-static")
    let release = String(kernelPackage.dropFirst("linux-image-".count))
    let images = "\(inventory.location.home)/images"
    try makeFolders(images, mode: 0o700)
    let initrd = "\(images)/demo-initrd"
    let kernelFile = "\(images)/demo-vmlinuz"
    report("building its first root file system")
    let archive = try DemonstrationRoot(
      kernelFolder: "\(kernel)/lib/modules/\(release)", busybox: "\(busybox)/bin/busybox")
    try writeFile(initrd, archive.bytes)
    try writeFile(kernelFile, try readFile("\(kernel)/boot/vmlinuz-\(release)"))
    var definition = MachineDefinition()
    definition.memory = 256 << 20
    definition.kernel = kernelFile
    definition.initrd = initrd
    definition.commandLine = "console=ttyS0 quiet"
    definition.notes = "Debian's cloud kernel with BusyBox; the disk is /dev/vda"
    try create(name, definition, disk: .empty(size: 1 << 30))
  }

  private func create(
    _ name: MachineName, _ definition: MachineDefinition, disk: Inventory.DiskSource
  ) throws {
    var definition = definition
    definition.isTemplate = true
    definition.tags = ["demo"]
    definition.uuid = .random()
    definition.disks = [.init(name: "disk0")]
    try inventory.create(name, definition, sources: ["disk0": disk])
  }
}

/// Reads a whole file.
func readFile(_ path: String) throws(PlatformError) -> [UInt8] {
  let file = try FileDescriptor.open(path, O_RDONLY)
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 20)
  while true {
    var count = 0
    do {
      count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
    } catch {
      throw PlatformError(operation: "read", code: EIO, subject: path)
    }
    if count == 0 { return bytes }
    bytes += buffer[..<count]
  }
}

/// Writes a file under another name, then gives it its own.
func writeFile(_ path: String, _ bytes: [UInt8]) throws {
  let partial = "\(path).\(getpid())"
  do {
    let file = try FileDescriptor.open(partial, O_CREAT | O_TRUNC | O_WRONLY, mode: 0o644)
    var done = 0
    while done < bytes.count {
      done += try bytes[done...].withUnsafeBytes { try file.write($0) }
    }
    fsync(file.rawValue)
  } catch {
    unlink(partial)
    throw error
  }
  try systemCall("rename", path) { rename(partial, path) }
}
