import CLinux
import DiskImage
import Inventory
import Platform

/// A bootable disk around a system's files: a DOS partition table whose only partition begins at 1 MiB, GRUB's boot
/// sector and core before it (as grub-install leaves a BIOS disk), an ext4 file system in it.
struct DebianDisk {
  let archive: String
  let work: String
  let size: UInt64
  /// Lines of root's authorized_keys(5): what is kept for the next template has none.
  let sshKeys: String
  let report: @Sendable (String) -> Void

  private static let partitionStart: UInt64 = 1 << 20
  private static let sector: UInt64 = 512

  /// - Returns: a qcow2 image in the work folder.
  func build() throws -> String {
    let partition = "\(work)/root.ext4"
    report("making its file system")
    try makeFileSystem(partition)
    let image = "\(work)/disk.qcow2"
    report("putting the disk together")
    let boot = try readFile("\(work)/boot.img")
    let core = try readFile("\(work)/core.img")
    guard boot.count == 512, UInt64(core.count) <= Self.partitionStart - Self.sector,
      !core.isEmpty
    else { throw DemonstrationError("GRUB's boot sector or core has an impossible size") }
    try Qcow2.create(image, size: size)
    let output = try DiskImage.open(image, format: .qcow2)
    defer { try? output.close() }
    try write(masterBootRecord(boot), to: output, at: 0)
    try write(core, to: output, at: Self.sector)
    try copy(partition, to: output)
    try output.flush()
    unlink(partition)
    return image
  }

  /// In a user namespace of its own, so that the files keep their owners without root.
  private func makeFileSystem(_ partition: String) throws {
    let bytes = size - Self.partitionStart
    try writeFile("\(work)/authorized_keys", Array(sshKeys.utf8))
    let script = """
      set -e
      mkdir "$1/root"
      tar -C "$1/root" --numeric-owner --xattrs -xpf "$2"
      install -m 600 "$1/authorized_keys" "$1/root/root/.ssh/authorized_keys"
      cp "$1/root/boot/grub/i386-pc/boot.img" "$1/root/boot/grub/i386-pc/core.img" "$1/"
      mke2fs -q -F -t ext4 -L \(DebianTemplate.label) -E lazy_itable_init=1,lazy_journal_init=1 \
        -d "$1/root" "$3" "$4k"
      rm -rf "$1/root"
      """
    let prefix =
      getuid() == 0
      ? [] : ["/usr/bin/unshare", "--user", "--map-root-user", "--map-auto", "--mount"]
    let result = try ChildProcess.run(
      prefix + ["/bin/sh", "-c", script, "sh", work, archive, partition, "\(bytes / 1024)"],
      environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"])
    guard result.status == 0 else {
      let last = result.output.split(separator: "\n").last ?? ""
      throw DemonstrationError("the file system cannot be made: \(printable(last))")
    }
  }

  /// GRUB's boot sector reads its core from sector 1, as it is; the partition table goes where DOS has it.
  private func masterBootRecord(_ boot: [UInt8]) -> [UInt8] {
    var sector = boot
    let start = UInt32(Self.partitionStart / Self.sector)
    let count = UInt32(clamping: (size - Self.partitionStart) / Self.sector)
    // Active, no cylinders, Linux.
    var entry: [UInt8] = [0x80, 0xFE, 0xFF, 0xFF, 0x83, 0xFE, 0xFF, 0xFF]
    for value in [start, count] {
      for shift in stride(from: 0, to: 32, by: 8) { entry.append(UInt8(value >> shift & 0xFF)) }
    }
    sector.replaceSubrange(446..<462, with: entry)
    for index in 462..<510 { sector[index] = 0 }
    // A number for the disk, so that guests tell several apart.
    for index in 440..<444 { sector[index] = .random(in: .min ... .max) }
    (sector[510], sector[511]) = (0x55, 0xAA)
    return sector
  }

  private func write(_ bytes: [UInt8], to disk: any BlockDevice, at offset: UInt64) throws {
    var padded = bytes
    while padded.count % Int(Self.sector) != 0 { padded.append(0) }
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: padded.count, alignment: 512)
    defer { copy.deallocate() }
    copy.copyBytes(from: padded)
    try disk.write(from: UnsafeRawBufferPointer(copy), at: offset)
  }

  /// What is not a hole in the file and not zeros.
  private func copy(_ partition: String, to disk: any BlockDevice) throws {
    let input = try DiskImage.open(partition, format: .raw, mode: .readOnly)
    defer { try? input.close() }
    let chunk = 1 << 20
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk, alignment: 4096)
    defer { buffer.deallocate() }
    var offset: UInt64 = 0
    while offset < input.size {
      let extent = try input.extent(at: offset, limit: min(UInt64(chunk), input.size - offset))
      guard extent.count > 0 else { break }
      if !extent.isZero {
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(extent.count)])
        try input.read(into: part, at: offset)
        if part.contains(where: { $0 != 0 }) {
          try disk.write(from: UnsafeRawBufferPointer(part), at: Self.partitionStart + offset)
        }
      }
      offset += extent.count
    }
  }
}
