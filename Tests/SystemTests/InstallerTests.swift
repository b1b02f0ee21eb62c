import Glibc
import Hosting
import KVM
import TestGuests
import Testing

/// Debian's installer, as it comes from its network boot packages, on the software processor.
@Suite(
  .serialized,
  .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
  .enabled(if: getenv("UNDERJACK_LONG_TESTS") != nil, "UNDERJACK_LONG_TESTS is not set")
)
struct InstallerTests {
  /// Unpacked, or why they cannot be fetched.
  private static let packages: [String: Result<String, TestGuestError>] = {
    let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
    var found: [String: Result<String, TestGuestError>] = [:]
    for architecture in ["amd64", "i386"] {
      do {
        let folder = try cache.unpacked("debian-installer-12-netboot-\(architecture)")
        found[architecture] = .success(
          "\(folder)/usr/lib/debian-installer/images/12/\(architecture)/text/debian-installer/"
            + architecture)
      } catch {
        found[architecture] = .failure(TestGuestError("\(error)"))
      }
    }
    return found
  }()

  /// 64 bits, and 32 bits with PAE. With less memory the installer's first screen is a warning.
  @Test("the first dialog asks for a language", arguments: [("amd64", "1G"), ("i386", "512M")])
  func firstDialog(_ architecture: String, _ memory: String) throws {
    guard let package = Self.packages[architecture] else { return }
    let folder = try package.get()
    let uj = try Underjack()
    defer { uj.close() }
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    defer { session.close() }
    try session.type(
      "\(Underjack.program) run --accel soft -m \(memory) --kernel \(folder)/linux "
        + "--initrd \(folder)/initrd.gz --append 'console=ttyS0 vga=off quiet'")
    try session.press("Enter")
    let screen = try session.wait(for: "Select a language", seconds: 1200)
    #expect(screen.contains("installer"), "\(screen)")
    // It answers: the cursor goes down the list and to a country of the language that was chosen.
    try session.press("Enter")
    try session.wait(for: "Select your location", seconds: 120)
  }
}
