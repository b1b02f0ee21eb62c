import Glibc
import Hosting
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let reason = NetworkedMachine.missing { return reason }
  if case .failure(let error) = NetworkedMachine.fullGuest { return "\(error)" }
  return nil
}()

/// Linux's e1000 driver on the 82540EM.
@Suite(
  .serialized,
  .enabled(
    if: getenv("UNDERJACK_LONG_TESTS") != nil,
    "UNDERJACK_LONG_TESTS is not set: not yet seen to pass"),
  .enabled(if: missing == nil, "\(missing ?? "")"))
struct PlainAdapterTests {
  private static let size = 8 << 20

  private func md5(_ path: String) throws -> String {
    String(try TestProcess.run(["/usr/bin/md5sum", path]).output.prefix(32))
  }

  @Test("it finds its address, gets a lease, and streams both ways arrive whole")
  func streams() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(
      uj, "old", networks: ["user,model=e1000,mac=02:00:00:00:00:77"], memory: "256M",
      guest: NetworkedMachine.fullGuest)
    try #require(try machine.run("ip addr show eth0").contains("10.0.2.15/24"))
    #expect(try machine.run("cat /sys/class/net/eth0/address").contains("02:00:00:00:00:77"))
    #expect(try machine.run("cat /sys/class/net/eth0/speed").contains("1000"))
    let original = "\(uj.folder)/original"
    _ = try TestProcess.run([
      "/usr/bin/dd", "if=/dev/urandom", "of=\(original)", "bs=1M", "count=\(Self.size >> 20)",
    ])
    let sum = try md5(original)
    let giver = try LoopbackServer(.give(original))
    _ = try machine.run("wget -q -O /tmp/f http://10.0.2.2:\(giver.port)/f", seconds: 200)
    #expect(try machine.run("md5sum /tmp/f", seconds: 120).contains(sum))
    let copy = "\(uj.folder)/copy"
    let taker = try LoopbackServer(.take(copy))
    _ = try machine.run("nc 10.0.2.2 \(taker.port) < /tmp/f", seconds: 200)
    #expect(taker.finish(seconds: 60) == Self.size)
    #expect(try md5(copy) == sum)
    try uj.run("network", "old", "down")
    #expect(try machine.run("sleep 3; cat /sys/class/net/eth0/carrier").contains("0"))
    try uj.run("network", "old", "up")
    #expect(try machine.run("sleep 5; ping -c 2 10.0.2.2").contains("2 packets received"))
  }
}
