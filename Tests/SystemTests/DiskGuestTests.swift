import Glibc
import Platform
import TestGuests
import Testing

/// Debian's stock kernel from a qcow2 disk, through SeaBIOS and GRUB, with its own virtio drivers, on the software
/// processor.
@Suite(.serialized, .enabled(if: DiskGuest.missing == nil, "\(DiskGuest.missing ?? "")"))
struct DiskGuestTests {
  @Test("what the guest writes is there at its next boot, and the image stays whole")
  func keepsFiles() throws {
    let image = try DiskGuest.make()
    let uj = try Underjack()
    defer { uj.close() }
    let first = try boot(image, uj)
    defer { first.close() }
    try first.type(
      "clear; md5sum /bin/busybox > /disk/sum; echo kept > /disk/file; sync; poweroff -f")
    try first.press("Enter")
    try first.wait(for: "status 0", seconds: 120)
    let check = try TestProcess.run([DiskGuest.qemuImg, "check", image])
    #expect(check.status == 0, "\(check.output)")
    let second = try boot(image, uj)
    defer { second.close() }
    try second.type("clear; cd /; cat /disk/file; md5sum -c /disk/sum; umount /disk; poweroff -f")
    try second.press("Enter")
    let screen = try second.wait(for: "status 0", seconds: 120)
    #expect(screen.contains("kept") && screen.contains("/bin/busybox: OK"), "\(screen)")
    let again = try TestProcess.run([DiskGuest.qemuImg, "check", image])
    #expect(again.status == 0, "\(again.output)")
  }

  /// From power-on to a shell that answers, with the disk mounted.
  private func boot(_ image: String, _ uj: Underjack) throws -> TerminalSession {
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    try session.type(
      "\(Underjack.program) run --accel soft -m 256M --disk \(image); echo status $?")
    try session.press("Enter")
    try session.wait(for: "GNU GRUB", seconds: 120)
    try session.wait(for: "/ #", seconds: 240)
    try session.type("clear; grep -c vda1 /proc/mounts; ls /sys/bus/virtio/drivers/virtio_blk")
    try session.press("Enter")
    try session.wait("has the disk") { $0.contains("1\nbind") || $0.contains("virtio0") }
    return session
  }
}
