import CLinux
import Hosting
import NetworkGuests
import Platform
import TestGuests
import Testing

private let balloonGuest: Result<NetworkGuest, TestGuestError> = {
  do {
    let folder = try TestFolder.make("balloon")
    return .success(
      try NetworkGuest(modules: ["drivers/virtio/virtio_balloon"], in: folder))
  } catch {
    return .failure(TestGuestError("\(error)"))
  }
}()

private let missing: String? = {
  if let reason = NetworkedMachine.missing { return reason }
  if case .failure(let error) = balloonGuest { return "\(error)" }
  return nil
}()

/// Linux with virtio_balloon on the software processor: what it does not need is the host's again.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct BalloonTests {
  private static let megabyte = 1 << 20

  private func status(_ machine: NetworkedMachine) throws -> JSONValue {
    try JSONValue(parsing: machine.uj.run("rpc", machine.name, "status"))
  }

  /// Megabytes of the host process in the host's memory (Linux Documentation/filesystems/proc.rst, statm).
  private func residentMegabytes(_ machine: NetworkedMachine) throws -> Int {
    let process = try #require(try status(machine)["process"]?.integer)
    let fields = try TestProcess.run(["/usr/bin/cat", "/proc/\(process)/statm"]).output
      .split(separator: " ")
    let pages = try #require(fields.dropFirst().first.flatMap { Int($0) })
    return pages * 4096 / Self.megabyte
  }

  /// Asks once a second, for at most a minute, until the host process has so little.
  private func waitForResident(below limit: Int, _ machine: NetworkedMachine) throws -> Int {
    var megabytes = try residentMegabytes(machine)
    for _ in 0..<60 where megabytes >= limit {
      usleep(1_000_000)
      megabytes = try residentMegabytes(machine)
    }
    return megabytes
  }

  @Test("free pages are reported, the balloon grows and shrinks, and a snapshot keeps it")
  func linux() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(
      uj, "balloon_1", networks: [], memory: "512M",
      settings: ["balloon=true", "huge-pages=false"], guest: balloonGuest)
    let booted = try residentMegabytes(machine)
    let sum = try machine.run(
      "dd if=/dev/zero of=/tmp/fill bs=1M count=256 2>/dev/null; echo x >> /tmp/fill; "
        + "md5sum < /tmp/fill", seconds: 120)
    let filled = try residentMegabytes(machine)
    #expect(filled >= booted + 200)
    #expect(sum.contains("  -"))

    // Two seconds after pages are free Linux reports them, in pieces of 2 MiB.
    _ = try machine.run("rm /tmp/fill")
    let reported = try waitForResident(below: filled - 180, machine)
    #expect(reported < filled - 180)
    let afterReport = try #require(try status(machine)["balloon"])
    #expect(afterReport["reported"]?.integer ?? 0 >= 180 << 20)
    #expect(afterReport["driver"]?.bool == true)

    // Content that the guest still has would be reclaimed before it is lost.
    _ = try machine.run("dd if=/dev/zero of=/tmp/some bs=1M count=32 2>/dev/null")
    let before = try residentMegabytes(machine)
    try uj.run("balloon", machine.name, "160M")
    var current: Int64 = 0
    for _ in 0..<60 where current != 160 << 20 {
      usleep(1_000_000)
      current = try status(machine)["balloon"]?["current"]?.integer ?? 0
    }
    #expect(current == 160 << 20)
    let inflated = try residentMegabytes(machine)
    print(
      "Rss: booted \(booted), filled \(filled), reported \(reported), \(before) inflated \(inflated) MB"
    )
    #expect(inflated < 230)
    let guest = try #require(try status(machine)["balloon"]?["guest"])
    #expect(guest["total"]?.integer ?? 0 > 0)
    #expect(try uj.run("balloon", machine.name).contains("serves the balloon"))
    #expect(try machine.run("wc -c /tmp/some").contains("\(32 << 20)"))

    // Suspended and resumed, the balloon is as it was; then the guest takes its memory back.
    try uj.run("suspend", machine.name)
    try uj.run("start", machine.name)
    let line = try GuestLine(uj, machine.name)
    let resumed = try #require(try status(machine)["balloon"])
    #expect(resumed["current"]?.integer == 160 << 20)
    #expect(resumed["target"]?.integer == 160 << 20)
    try uj.run("balloon", machine.name, "512M")
    for _ in 0..<60 where current != 512 << 20 {
      usleep(1_000_000)
      current = try status(machine)["balloon"]?["current"]?.integer ?? 0
    }
    #expect(current == 512 << 20)
    let again = try line.run(
      "dd if=/dev/zero of=/tmp/fill bs=1M count=256 2>/dev/null; echo x >> /tmp/fill; "
        + "md5sum < /tmp/fill", seconds: 120)
    let digest = sum.split(whereSeparator: \.isWhitespace).first { $0.count == 32 }
    #expect(again.contains(try #require(digest)))
  }

  @Test("targets that cannot be are refused in a line")
  func refusals() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("new", "plain", "-m", "64M")
    #expect(throws: (any Error).self) { try uj.run("set", "plain", "memory-target=65M") }
    #expect(throws: (any Error).self) { try uj.run("set", "plain", "memory-target=1M") }
    #expect(throws: (any Error).self) { try uj.run("balloon", "plain", "32M") }
    try uj.run("set", "plain", "memory-target=32M")
    #expect(try uj.run("show", "plain").contains("memory-target = \"32M\""))
    #expect(throws: (any Error).self) { try uj.run("set", "plain", "balloon=false") }
  }
}
