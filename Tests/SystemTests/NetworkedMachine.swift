import Glibc
import Hosting
import NetworkGuests
import Platform
import TestGuests

/// A machine with the network guest on the software processor, at its shell.
struct NetworkedMachine {
  static let tcpdump = "/usr/bin/tcpdump"
  static let dropbear = "/usr/sbin/dropbear"

  /// Made once a process and kept to its end.
  static let guest: Result<NetworkGuest, TestGuestError> = make(.cloud)
  /// With drivers of adapters that exist in hardware.
  static let fullGuest: Result<NetworkGuest, TestGuestError> = make(.full)

  private static func make(_ kernel: NetworkGuest.Kernel) -> Result<NetworkGuest, TestGuestError> {
    do {
      let folder = try TestFolder.make("network")
      return .success(try NetworkGuest(kernel, programs: [tcpdump, dropbear], in: folder))
    } catch {
      return .failure(TestGuestError("\(error)"))
    }
  }

  static let missing: String? = {
    guard access(Underjack.program, X_OK) == 0 else { return "uj is not built" }
    if case .failure(let error) = guest { return "no Linux guest: \(error)" }
    return nil
  }()

  let uj: Underjack
  let name: String
  let line: GuestLine

  /// Makes and starts a machine, and waits for its shell.
  ///
  /// - Parameter networks: as `--net` takes them.
  init(
    _ uj: Underjack, _ name: String, networks: [String], memory: String = "192M",
    append: String = "", processors: Int = 1,
    guest: Result<NetworkGuest, TestGuestError> = Self.guest
  ) throws {
    self.uj = uj
    self.name = name
    line = try Self.begin(uj, name, networks, memory, append, processors, try guest.get())
    try waitForShell()
  }

  /// Without the wait.
  private static func begin(
    _ uj: Underjack, _ name: String, _ networks: [String], _ memory: String, _ append: String,
    _ processors: Int, _ guest: NetworkGuest
  ) throws -> GuestLine {
    try uj.run(
      [
        "new", name, "--accel", "soft", "-p", "\(processors)", "-m", memory, "--kernel",
        guest.kernel, "--initrd",
      ]
        + [guest.initrd, "--append", "console=ttyS0 quiet \(append)"]
        + networks.flatMap { ["--net", $0] })
    try uj.run("start", name)
    return try GuestLine(uj, name)
  }

  private func waitForShell() throws {
    try line.wait(for: "NETWORK-READY", seconds: 240)
    try line.wait(for: "# ", seconds: 30)
  }

  func run(_ command: String, seconds: Double = 60) throws -> String {
    try line.run(command, seconds: seconds)
  }

  /// What `uj network --json` says of the first adapter.
  func status() throws -> JSONValue? {
    try JSONValue(parsing: uj.run("network", name, "--json")).array?.first
  }

  /// Since a time of `MonotonicClock`, to a hundredth.
  static func seconds(since begin: UInt64) -> Double {
    (Double(MonotonicClock.now - begin) / 1e7).rounded() / 100
  }
}
