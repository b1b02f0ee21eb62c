import Glibc
import Platform
import TestGuests
import Testing

/// A bootable system inside of qcow2 images: GRUB's rescue disk, as a stand-alone image and through an overlay.
@Suite(
  .serialized,
  .enabled(if: access(Underjack.program, X_OK) == 0, "uj is not built"),
  .enabled(
    if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
  .enabled(
    if: access("/usr/lib/grub-rescue/grub-rescue-usb.img", R_OK) == 0,
    "grub-rescue-usb.img is missing: install grub-rescue-pc"))
struct DiskBootTests {
  private func expectClean(_ image: String) throws {
    guard access("/usr/bin/qemu-img", X_OK) == 0 else { return }
    let check = try TestProcess.run(["/usr/bin/qemu-img", "check", image])
    #expect(check.status == 0, "\(image): \(check.output)")
  }

  /// Boots to GRUB's prompt, has it read the whole disk, and ends the run.
  private func boot(_ uj: Underjack, _ image: String) throws {
    let session = try TerminalSession(
      "sh -c '\(Underjack.program) run --accel soft -m 64M --disk \(image); echo status $?'",
      columns: 90, rows: 30,
      environment: uj.environment)
    defer { session.close() }
    try session.wait(for: "GNU GRUB", seconds: 240)
    try session.type("c")
    try session.wait(for: "grub>", seconds: 60)
    try session.type("ls (hd0)")
    try session.press("Enter")
    try session.wait(for: "Total size", seconds: 60)
    try session.press("C-]")
    try session.wait(for: "status 0", seconds: 30)
  }

  @Test("GRUB boots from a qcow2 disk, then from an overlay on it; both check clean")
  func grub() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let (disk, overlay) = ("\(uj.folder)/disk.qcow2", "\(uj.folder)/overlay.qcow2")
    try uj.run("disk", "convert", "raw:/usr/lib/grub-rescue/grub-rescue-usb.img", disk)
    try boot(uj, disk)
    try expectClean(disk)
    let before = try TestProcess.run(["/usr/bin/cksum", disk]).output
    try uj.run("disk", "create", "-b", disk, overlay)
    try boot(uj, overlay)
    try expectClean(overlay)
    try expectClean(disk)
    #expect(try TestProcess.run(["/usr/bin/cksum", disk]).output == before)
  }
}
