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

  /// With a socket device's driver and a program for it, and what reads a seed.
  static let serviceGuest: Result<NetworkGuest, TestGuestError> = {
    do {
      let folder = try TestFolder.make("services")
      return .success(
        try NetworkGuest(
          modules: [
            "drivers/block/virtio_blk", "drivers/cdrom/cdrom", "fs/isofs/isofs",
            "net/vmw_vsock/vsock", "net/vmw_vsock/vmw_vsock_virtio_transport_common",
            "net/vmw_vsock/vmw_vsock_virtio_transport",
          ], programs: [try GuestProgram.vsock.build(in: folder)], in: folder))
    } catch {
      return .failure(TestGuestError("\(error)"))
    }
  }()

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
  /// - Parameters:
  ///   - networks: as `--net` takes them.
  ///   - options: more of `uj new`.
  ///   - settings: for `uj set`, before the start.
  init(
    _ uj: Underjack, _ name: String, networks: [String], memory: String = "192M",
    append: String = "", processors: Int = 1, options: [String] = [], settings: [String] = [],
    guest: Result<NetworkGuest, TestGuestError> = Self.guest
  ) throws {
    self.uj = uj
    self.name = name
    let guest = try guest.get()
    try uj.run(
      [
        "new", name, "--accel", "soft", "-p", "\(processors)", "-m", memory, "--kernel",
        guest.kernel, "--initrd",
      ]
        + [guest.initrd, "--append", "console=ttyS0 quiet \(append)"]
        + networks.flatMap { ["--net", $0] } + options)
    if !settings.isEmpty { try uj.run(["set", name] + settings) }
    try uj.run("start", name)
    line = try GuestLine(uj, name)
    try waitForShell()
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
