import Glibc
import Hosting
import KVM
import Platform
import TestGuests
import Testing

/// memtest86+, which is its own kernel: timers, page tables and processors of a PC without an operating system between.
@Suite(
  .serialized,
  .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")")
)
struct MemoryTestTests {
  private static let isLong = getenv("UNDERJACK_LONG_TESTS") != nil

  private static let program: Result<String, TestGuestError> = {
    do {
      let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
      return .success(try cache.unpacked("memtest86+") + "/boot/memtest86+x64.bin")
    } catch {
      return .failure(TestGuestError("\(error)"))
    }
  }()

  private func start(_ options: String, _ uj: Underjack) throws -> TerminalSession {
    let program = try Self.program.get()
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    try session.type(
      "\(Underjack.program) run \(options) -m 64M --kernel \(program) "
        + "--append console=ttyS0,115200; echo status $?")
    try session.press("Enter")
    return session
  }

  /// The number behind a label.
  private func number(_ label: String, in screen: String) -> Int? {
    guard let range = screen.firstRange(of: label) else { return nil }
    return Int(screen[range.upperBound...].drop { $0 == " " }.prefix { $0.isNumber })
  }

  @Test("its first tests find no error on the software processor", arguments: [1, 4])
  func softwareProcessor(_ processors: Int) throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try start("--accel soft --cpus \(processors)", uj)
    defer { session.close() }
    // A whole pass, where there is time: its last test waits for minutes.
    let screen = try session.wait("is through", seconds: Self.isLong ? 1500 : 240) { screen in
      if number("Errors:", in: screen) ?? 0 > 0 { return true }
      return Self.isLong
        ? number("Pass: ", in: screen) ?? 0 > 0 : number("Test #", in: screen) ?? 0 > 4
    }
    #expect(number("Errors:", in: screen) == 0, "\(screen)")
    #expect(screen.contains("CPU: \(processors) Cores"), "\(screen)")
  }

  @Test(
    "KVM draws its screen, and it counts",
    .enabled(if: access("/dev/kvm", R_OK | W_OK) == 0, "/dev/kvm is missing or not ours"))
  func kernel() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let session = try start("--accel kvm", uj)
    defer { session.close() }
    let screen = try session.wait("counts", seconds: 240) { screen in
      screen.contains("Memtest86+") && screen.contains("Testing")
        && (number("Pass", in: screen) ?? 0 > 0 || number("Test", in: screen) ?? 0 > 0)
    }
    #expect(number("Errors:", in: screen) == 0, "\(screen)")
  }
}
