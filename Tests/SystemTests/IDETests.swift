import Glibc
import Hosting
import Platform
import TestGuests
import Testing

private let missing = HardwareGuest.missing

/// Linux with ata_piix, on the software processor: a disk and a CD-ROM drive on the IDE controller.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct IDETests {
  private static let disc = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"

  private func digest(_ text: String) throws -> String {
    try #require(
      text.split(whereSeparator: \.isWhitespace).first { $0.count == 32 }.map(String.init))
  }

  @Test(
    "disk and disc are read and written by the bus master and by the data register, and over a snapshot",
    .enabled(if: access(disc, R_OK) == 0, "\(disc) is missing: install grub-rescue-pc"))
  func linux() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let path = "\(uj.folder)/ide.raw"
    #expect(try TestProcess.run(["/usr/bin/truncate", "-s", "48M", path]).status == 0)
    let machine = try NetworkedMachine(
      uj, "ide_1", networks: [],
      options: [
        "--disk", "\(path),format=raw,bus=ide,serial=OLD-1", "--cdrom", "\(Self.disc),bus=ide",
      ], guest: HardwareGuest.guest)
    let kernel = try machine.run("dmesg | grep -i -e ata -e sd -e sr0")
    #expect(kernel.contains("UNDERJACK DISK"))
    #expect(kernel.contains("max MWDMA2"))
    let modes = "cat /sys/class/ata_device/*/xfer_mode | sort | uniq -c"
    #expect(try machine.run(modes).contains("2 XFER_MW_DMA_2"))
    #expect(!kernel.contains("exception"))
    #expect(!kernel.contains("failed command"))
    let expected = try digest(TestProcess.run(["/usr/bin/md5sum", Self.disc]).output)
    let blocks =
      (Int(
        try TestProcess.run(["/usr/bin/stat", "-L", "-c", "%s", Self.disc]).output
          .split(whereSeparator: \.isWhitespace).first ?? "") ?? 0) / 2048
    let readDisc = "dd if=/dev/sr0 bs=2048 count=\(blocks) 2>/dev/null | md5sum"
    #expect(try digest(machine.run(readDisc, seconds: 120)) == expected)

    // Directly, then read from the medium again, and from the file behind it.
    let write = "dd if=/tmp/pattern of=/dev/sda bs=1M seek=5 conv=fsync 2>/dev/null"
    let read =
      "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/sda bs=1M skip=5 count=8 2>/dev/null | md5sum"
    let pattern = try digest(
      machine.run(
        "dd if=/dev/urandom of=/tmp/pattern bs=1M count=8 2>/dev/null; \(write); md5sum /tmp/pattern",
        seconds: 120))
    #expect(try digest(machine.run(read, seconds: 120)) == pattern)
    let host = "dd if=\(path) bs=1M skip=5 count=8 2>/dev/null | md5sum"
    #expect(try digest(TestProcess.run(["/bin/sh", "-c", host]).output) == pattern)

    try uj.run("suspend", machine.name)
    try uj.run("start", machine.name)
    let line = try GuestLine(uj, machine.name)
    #expect(try digest(line.run(read, seconds: 120)) == pattern)

    // Without the bus master.
    let slow = try line.run(
      "rmmod ata_piix libata; insmod /modules/libata.ko dma=0; insmod /modules/ata_piix.ko; "
        + "sleep 2; \(modes)", seconds: 120)
    #expect(slow.contains("2 XFER_PIO_4"))
    #expect(try digest(line.run("\(write); \(read)", seconds: 200)) == pattern)
    #expect(try digest(line.run(readDisc, seconds: 200)) == expected)
    #expect(try !line.run("dmesg | tail -n 30").contains("exception"))
  }
}
