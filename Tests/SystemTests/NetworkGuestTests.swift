import Glibc
import Hosting
import Platform
import TestGuests
import Testing

/// Linux guests on the software processor with networks of each kind.
@Suite(
  .serialized,
  .enabled(
    if: getenv("UNDERJACK_LONG_TESTS") != nil,
    "UNDERJACK_LONG_TESTS is not set: not yet seen to pass"),
  .enabled(if: NetworkedMachine.missing == nil, "\(NetworkedMachine.missing ?? "")"))
struct NetworkGuestTests {
  /// Bytes that go each way.
  private static let size = (getenv("UNDERJACK_LONG_TESTS") != nil ? 200 : 24) << 20

  private func md5(_ path: String) throws -> String {
    let result = try TestProcess.run(["/usr/bin/md5sum", path])
    return String(result.output.prefix(32))
  }

  @Test("DHCP, a file each way with equal sums, forwards, and what uj tells of it")
  func userNetwork() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let port = try LoopbackServer.freePort()
    let machine = try NetworkedMachine(
      uj, "web", networks: ["user,forward=\(port):80"], memory: "512M")
    try #require(try machine.run("ip -4 addr show eth0").contains("inet 10.0.2.15/24"))
    #expect(try machine.run("cat /etc/resolv.conf").contains("nameserver 10.0.2.3"))
    let addresses = try machine.status()?["guestAddresses"]?.array ?? []
    #expect(addresses.contains { $0.string == "10.0.2.15" }, "\(addresses)")
    #expect(try uj.run("status", "--json", "web").contains("10.0.2.15"))

    // Both ways, each sum taken on both sides.
    let original = "\(uj.folder)/original"
    _ = try TestProcess.run([
      "/usr/bin/dd", "if=/dev/urandom", "of=\(original)", "bs=1M", "count=\(Self.size >> 20)",
    ])
    let sum = try md5(original)
    let giver = try LoopbackServer(.give(original))
    var begin = MonotonicClock.now
    _ = try machine.run("wget -q -O /tmp/f http://10.0.2.2:\(giver.port)/f", seconds: 300)
    print("\(Self.size >> 20) MB to the guest: \(seconds(since: begin)) s")
    #expect(try machine.run("md5sum /tmp/f", seconds: 120).contains(sum))
    let copy = "\(uj.folder)/copy"
    let taker = try LoopbackServer(.take(copy))
    begin = MonotonicClock.now
    _ = try machine.run("nc 10.0.2.2 \(taker.port) < /tmp/f", seconds: 300)
    print("\(Self.size >> 20) MB from the guest: \(seconds(since: begin)) s")
    #expect(taker.finish() == Self.size)
    #expect(try md5(copy) == sum)

    // A forward from the definition, one made while it runs, and that one gone again.
    try machine.line.type("echo from the guest > /tmp/index.html; httpd -h /tmp -p 80")
    let question = "GET /index.html HTTP/1.0\r\n\r\n"
    #expect(LoopbackServer.ask(port, question)?.contains("from the guest") == true)
    let second = try LoopbackServer.freePort()
    #expect(LoopbackServer.ask(second, question) == nil)
    try uj.run("network", "web", "forward", "\(second):80")
    #expect(LoopbackServer.ask(second, question)?.contains("from the guest") == true)
    #expect(try uj.run("network", "web").contains("forward    tcp:\(second):80"))
    try uj.run("network", "web", "unforward", "\(second):80")
    #expect(LoopbackServer.ask(second, question) == nil)

    // The cable out and in again.
    try uj.run("network", "web", "down")
    #expect(try machine.run("sleep 1; cat /sys/class/net/eth0/carrier").contains("0"))
    try uj.run("network", "web", "up")
    #expect(try machine.run("sleep 1; ping -c 1 10.0.2.2").contains("1 packets received"))
  }

  private func seconds(since begin: UInt64) -> Double {
    (Double(MonotonicClock.now - begin) / 1e7).rounded() / 100
  }

  @Test("two guests of a switch talk; a third with a locked address that it does not keep is mute")
  func networkSwitch() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let first = try NetworkedMachine(uj, "one", networks: ["switch:lab"], append: "nodhcp")
    let second = try NetworkedMachine(uj, "two", networks: ["switch:lab"], append: "nodhcp")
    let third = try NetworkedMachine(
      uj, "three", networks: ["switch:lab,mac=02:00:00:00:00:33,locked"], append: "nodhcp")
    for (number, machine) in [first, second, third].enumerated() {
      _ = try machine.run("ip addr add 10.7.0.\(number + 1)/24 dev eth0")
    }
    #expect(try first.run("ping -c 2 -W 5 10.7.0.2").contains("2 packets received"))
    // As long as it keeps its address it is one of them.
    #expect(try first.run("ping -c 2 -W 5 10.7.0.3").contains("2 packets received"))
    _ = try third.run(
      "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:44; ip link set eth0 up")
    _ = try first.run("ip neigh flush dev eth0")
    #expect(try third.run("ping -c 2 -W 2 10.7.0.1").contains(" 0 packets received"))
    #expect(try first.run("ping -c 2 -W 2 10.7.0.3").contains(" 0 packets received"))
    let refused = try third.status()?["framesRefused"]?.integer ?? 0
    #expect(refused > 0)
    // A stream with segments larger than the wire's between two guests.
    try second.line.type("nc -l -p 99 | md5sum; echo END\"\"OF")
    let sent = try first.run(
      "head -c 20000000 /bin/busybox /dev/urandom 2>/dev/null | head -c 20000000 > /tmp/f;"
        + " md5sum < /tmp/f; nc 10.7.0.2 99 < /tmp/f", seconds: 120)
    let sum = sent.split(separator: " ").first.map(String.init) ?? "no sum"
    #expect(sum.count == 32)
    #expect(try second.line.wait(for: "ENDOF", seconds: 60).contains(sum))
  }
}
