import Glibc
import Hosting
import Platform
import TestGuests
import Testing

/// Debian's installer from its network boot packages, and nothing on a disk: SeaBIOS, iPXE, pxelinux, the kernel and its
/// first root file system all come over TFTP.
@Suite(
  .serialized,
  .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
  .enabled(
    if: access("/usr/lib/ipxe/qemu/pxe-virtio.rom", R_OK) == 0,
    "iPXE's ROM is missing: install ipxe-qemu")
)
struct NetworkBootTests {
  private static func folder(_ architecture: String) throws -> String {
    let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
    let package = try cache.unpacked("debian-installer-12-netboot-\(architecture)")
    return "\(package)/usr/lib/debian-installer/images/12/\(architecture)/text"
  }

  private func start(_ uj: Underjack, _ options: String) throws -> TerminalSession {
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    try session.type("\(Underjack.program) run --accel soft \(options); echo status $?")
    try session.press("Enter")
    return session
  }

  @Test("pxelinux shows the installer's menu, on either adapter", arguments: ["virtio", "e1000"])
  func menu(_ model: String) throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try start(
      uj,
      "-m 256M -B net --net user,model=\(model),tftp=\(try Self.folder("amd64")),bootfile=pxelinux.0"
    )
    defer { session.close() }
    try session.wait(for: "installer menu (BIOS mode)", seconds: 240)
    // It hears the serial port.
    try session.press("Down", "Enter")
    try session.wait(for: "Expert install", seconds: 60)
  }

  /// With less memory the installer's first screen is a warning.
  @Test(
    "the installer asks for a language",
    .enabled(
      if: getenv("UNDERJACK_LONG_TESTS") != nil,
      "UNDERJACK_LONG_TESTS is not set: it takes over a minute"),
    arguments: [("amd64", "1G"), ("i386", "512M")])
  func firstDialog(_ architecture: String, _ memory: String) throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try start(
      uj,
      "-m \(memory) -B net --net user,tftp=\(try Self.folder(architecture)),bootfile=pxelinux.0")
    defer { session.close() }
    try session.wait(for: "installer menu (BIOS mode)", seconds: 240)
    // The entry's own line, with the console on the serial port.
    try session.press("Tab")
    try session.wait(for: "initrd.gz", seconds: 60)
    try session.type(" console=ttyS0")
    try session.wait(for: "console=ttyS0", seconds: 60)
    try session.press("Enter")
    // The entry wants a graphics mode, which a machine without a display does not have.
    try session.wait(for: "to see video modes", seconds: 600)
    try session.press("Space")
    try session.wait(for: "Select a language", seconds: 900)
  }

  @Test("without the file, the next device of the boot order is tried, and a line says so")
  func missingFile() throws {
    let image = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
    guard access(image, R_OK) == 0 else { return print("grub-rescue-pc is missing") }
    let uj = try Underjack()
    defer { uj.close() }
    let session = try start(
      uj,
      "-m 128M --cdrom \(image) -B net,cdrom "
        + "--net user,tftp=\(try Self.folder("amd64")),bootfile=nothing.0")
    defer { session.close() }
    try session.wait("says what is missing", seconds: 240) {
      $0.contains("nothing.0") && $0.contains("not found") || $0.contains("No more network devices")
    }
    try session.wait(for: "GNU GRUB", seconds: 240)
  }
}
