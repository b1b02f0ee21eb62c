import Glibc
import Hosting
import Platform
import TestGuests

/// A disk as an installation leaves it: GRUB in front of the first partition, and in that partition, of kind ext4, the
/// kernel, its first root file system with the modules of the virtio devices, and GRUB's menu.
///
/// Made without root: `mke2fs -d` fills the file system, and the boot sector and GRUB's core go to where
/// `grub-bios-setup` would put them (GRUB manual, "Images").
enum DiskGuest {
  /// Why it cannot be made, or nil.
  static let missing: String? = {
    if let reason = LinuxGuest.missing { return reason }
    let tools = [
      (mkimage, "grub-pc-bin"), ("\(modules)/boot.img", "grub-pc-bin"), (mke2fs, "e2fsprogs"),
      (qemuImg, "qemu-utils"),
    ]
    for (path, package) in tools where access(path, R_OK) != 0 {
      return "\(path) is missing: install \(package)"
    }
    return nil
  }()

  static let qemuImg = "/usr/bin/qemu-img"
  private static let mkimage = "/usr/bin/grub-mkimage"
  private static let mke2fs = "/sbin/mke2fs"
  private static let modules = "/usr/lib/grub/i386-pc"

  private static let sectorSize = 512
  private static let sectorCount = 96 << 11
  private static let partitionStart = 2048

  /// Makes the disk as a qcow2 image in a new folder.
  ///
  /// - Returns: its path.
  static func make() throws -> String {
    let folder = try TestFolder.make("disk")
    let root = "\(folder)/root"
    let kernel = try LinuxGuest.prepared.get().kernel
    for path in [root, "\(root)/boot", "\(root)/boot/grub"] { mkdir(path, 0o755) }
    try writeBytes("\(root)/boot/vmlinuz", try readBytes(kernel))
    try writeBytes("\(root)/boot/initrd", try firstRoot())
    try writeFile("\(root)/boot/grub/grub.cfg", menu)
    let fileSystem = "\(folder)/ext4"
    try writeBytes(fileSystem, [])
    truncate(fileSystem, (sectorCount - partitionStart) * sectorSize)
    try call(mke2fs, "-q", "-F", "-t", "ext4", "-d", root, fileSystem)
    let core = "\(folder)/core.img"
    try call(
      mkimage, "-d", modules, "-O", "i386-pc", "-o", core, "-p", "(hd0,msdos1)/boot/grub",
      "biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal", "echo")
    let raw = "\(folder)/disk"
    var front = try bootSector() + readBytes(core)
    guard front.count <= partitionStart * sectorSize else {
      throw TestGuestError("GRUB's core is too large for the gap in front of the partition")
    }
    front += [UInt8](repeating: 0, count: partitionStart * sectorSize - front.count)
    try writeBytes(raw, front + readBytes(fileSystem))
    let image = "\(folder)/disk.qcow2"
    try call(qemuImg, "convert", "-O", "qcow2", raw, image)
    for path in [raw, fileSystem] { unlink(path) }
    return image
  }

  /// GRUB's first sector, which loads the next one, with a partition table.
  private static func bootSector() throws -> [UInt8] {
    var sector = try readBytes("\(modules)/boot.img")
    guard sector.count == sectorSize else { throw TestGuestError("boot.img is not one sector") }
    // Active, Linux; cylinders are nobody's any more.
    var entry: [UInt8] = [0x80, 0xFE, 0xFF, 0xFF, 0x83, 0xFE, 0xFF, 0xFF]
    for value in [UInt32(partitionStart), UInt32(sectorCount - partitionStart)] {
      withUnsafeBytes(of: value.littleEndian) { entry += $0 }
    }
    let table = entry + [UInt8](repeating: 0, count: 48) + [0x55, 0xAA]
    sector.replaceSubrange(0x1BE..., with: table)
    return sector
  }

  private static let menu = """
    serial --unit=0 --speed=115200
    terminal_input serial console
    terminal_output serial console
    set timeout=1
    menuentry "Debian" {
      linux /boot/vmlinuz console=ttyS0 quiet
      initrd /boot/initrd
    }

    """

  private static func firstRoot() throws -> [UInt8] {
    let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
    let name = try cache.dependency(of: "linux-image-cloud-amd64", prefix: "linux-image-")
    let release = name.dropFirst("linux-image-".count)
    let drivers = try cache.unpacked(name) + "/lib/modules/\(release)/kernel/drivers"
    let busybox = try cache.unpacked("busybox-static") + "/bin/busybox"
    var archive = InitramfsArchive()
    for folder in ["bin", "proc", "sys", "dev", "disk", "modules"] { archive.addFolder(folder) }
    archive.addFile("bin/busybox", mode: 0o755, content: try readBytes(busybox))
    archive.addLink("bin/sh", to: "busybox")
    var loads = ""
    for module in [
      "virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev",
      "virtio/virtio_pci_modern_dev", "virtio/virtio_pci", "block/virtio_blk",
    ] {
      // Missing ones are built in.
      guard let content = try? readBytes("\(drivers)/\(module).ko") else { continue }
      let file = String(module.split(separator: "/")[1])
      archive.addFile("modules/\(file).ko", content: content)
      loads += "insmod /modules/\(file).ko\n"
    }
    archive.addFile(
      "init", mode: 0o755,
      content: Array(
        """
        #!/bin/sh
        /bin/busybox --install -s /bin
        mount -t proc proc /proc
        mount -t sysfs sys /sys
        mount -t devtmpfs dev /dev
        \(loads)mount -t ext4 /dev/vda1 /disk
        exec setsid cttyhack sh

        """.utf8))
    archive.finish()
    return archive.bytes
  }

  private static func call(_ arguments: String...) throws {
    let result = try TestProcess.run(arguments)
    guard result.status == 0 else {
      throw TestGuestError("\(arguments[0]): status \(result.status): \(result.output)")
    }
  }
}

/// Reads a whole file.
func readBytes(_ path: String) throws -> [UInt8] {
  let file = try FileDescriptor.open(path, O_RDONLY)
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
    if count == 0 { return bytes }
    bytes += buffer[..<count]
  }
}

/// Writes a whole file.
func writeBytes(_ path: String, _ bytes: [UInt8]) throws {
  guard let file = fopen(path, "w") else { throw TestGuestError("\(path): cannot be made") }
  defer { fclose(file) }
  guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
    throw TestGuestError("\(path): cannot be written")
  }
}
