import Glibc
import KVM
import Platform
import TestGuests
import Testing

private let isLong = getenv("UNDERJACK_LONG_TESTS") != nil
private let missing: String? =
  access(Underjack.program, X_OK) != 0
  ? "uj is not built"
  : access("/dev/kvm", R_OK | W_OK) != 0
    ? "/dev/kvm is missing"
    : access("/usr/lib/grub-rescue/grub-rescue-usb.img", R_OK) != 0
      || access("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", R_OK) != 0
      ? "GRUB's rescue images are missing: install grub-rescue-pc" : TerminalSession.missingTool

/// SeaBIOS starts GRUB's rescue disk on KVM, from either medium, with the kernel's chips and with ours.
///
/// Where KVM emulates the guest's kernel mode, as nested KVM may, each takes about half a minute: two of the eight
/// combinations then; all with UNDERJACK_LONG_TESTS.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct BootLoaderTests {
  struct Setup: CustomTestStringConvertible, Sendable {
    var medium: String
    var chips: String
    var processors: Int
    var testDescription: String { "\(medium), \(chips) chips, \(processors) vCPU" }
  }

  static let setups: [Setup] = [
    ("--cdrom", "kernel", 4), ("--disk", "split", 4), ("--cdrom", "split", 1),
    ("--disk", "kernel", 1), ("--cdrom", "kernel", 1), ("--cdrom", "split", 4),
    ("--disk", "kernel", 4), ("--disk", "split", 1),
  ].map { Setup(medium: $0.0, chips: $0.1, processors: $0.2) }

  @Test("GRUB's prompt answers", arguments: isLong ? setups : Array(setups.prefix(2)))
  func grub(_ setup: Setup) throws {
    let uj = try Underjack()
    defer { uj.close() }
    var image = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
    if setup.medium == "--disk" {
      image = "\(uj.folder)/disk.qcow2"
      try uj.run("disk", "convert", "raw:/usr/lib/grub-rescue/grub-rescue-usb.img", image)
    }
    let session = try TerminalSession(
      "sh -c '\(Underjack.program) run --accel kvm -m 64M --irqchip \(setup.chips) "
        + "-p \(setup.processors) \(setup.medium) \(image); echo status $?'",
      columns: 90, rows: 30, environment: uj.environment)
    defer { session.close() }
    try session.wait(for: "GNU GRUB", seconds: 240)
    try session.type("c")
    try session.wait(for: "grub>", seconds: 60)
    try session.type("ls")
    try session.press("Enter")
    try session.wait(for: setup.medium == "--disk" ? "(hd0)" : "(cd", seconds: 60)
    try session.press("C-]")
    try session.wait(for: "status 0", seconds: 30)
  }
}
