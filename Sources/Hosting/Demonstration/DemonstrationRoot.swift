import Platform

/// The first root file system of the Linux demonstration: BusyBox, the modules of the virtio devices, and an init that
/// ends in a shell.
struct DemonstrationRoot {
  let bytes: [UInt8]

  /// Modules in the order in which they are to be loaded; those that a kernel has built in are not there.
  private static let modules = [
    "drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk", "drivers/input/evdev", "drivers/acpi/button",
  ]

  /// - Parameters:
  ///   - kernelFolder: `lib/modules/RELEASE` of the unpacked package.
  ///   - busybox: the static program.
  init(kernelFolder: String, busybox: String) throws {
    var archive = InitramfsArchive()
    for folder in [
      "bin", "dev", "proc", "sys", "mnt", "modules", "var", "var/run",
      // BusyBox's acpid ends at once when it cannot write its log, and then nobody heeds the power button.
      "var/log", "etc", "etc/acpi", "etc/acpi/PWRF",
    ] { archive.addFolder(folder) }
    archive.addCharacterDevice("dev/console", major: 5, minor: 1)
    archive.addFile("bin/busybox", mode: 0o755, content: try readFile(busybox))
    archive.addLink("bin/sh", to: "busybox")
    var loads = ""
    for module in Self.modules {
      let file = "\(kernelFolder)/kernel/\(module).ko"
      guard let content = try? readFile(file) else { continue }
      let name = module.split(separator: "/").last.map(String.init) ?? module
      archive.addFile("modules/\(name).ko", content: content)
      loads += "insmod /modules/\(name).ko\n"
    }
    // What BusyBox's acpid runs when the power button is pressed.
    archive.addFile(
      "etc/acpi/PWRF/00000080", mode: 0o755, content: Array("#!/bin/sh\nsync\npoweroff -f\n".utf8))
    archive.addFile("init", mode: 0o755, content: Array(Self.script(loads).utf8))
    archive.finish()
    bytes = archive.bytes
  }

  private static func script(_ loads: String) -> String {
    """
    #!/bin/sh
    /bin/busybox --install -s /bin
    export PATH=/bin HOME=/
    mount -t proc none /proc
    mount -t sysfs none /sys
    mount -t devtmpfs none /dev
    \(loads)
    hostname demo
    acpid
    echo
    echo "This is Linux $(uname -r) under Underjack. The disk is /dev/vda; poweroff ends the machine."
    while true; do setsid cttyhack sh; done

    """
  }
}
