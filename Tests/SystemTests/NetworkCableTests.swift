import CLinux
import Glibc
import Hosting
import Platform
import TestGuests
import Testing

/// Linux guests on cables to other programs and to the host's bridges.
@Suite(
  .serialized,
  .enabled(if: NetworkedMachine.missing == nil, "\(NetworkedMachine.missing ?? "")"))
struct NetworkCableTests {
  @Test("two machines on a stream; the one that listens goes and comes back")
  func stream() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let path = "\(uj.folder)/cable"
    let first = try NetworkedMachine(
      uj, "one", networks: ["stream:\(path),listen"], append: "nodhcp")
    let second = try NetworkedMachine(
      uj, "two", networks: ["stream:\(path),rate=8M"], append: "nodhcp")
    for (number, machine) in [first, second].enumerated() {
      _ = try machine.run("ip addr add 10.7.0.\(number + 1)/24 dev eth0")
    }
    #expect(try first.run("ping -c 3 -W 5 10.7.0.2").contains("3 packets received"))
    #expect(try second.status()?["cable"]?.string == "connected to \(path)")
    // 3 MB at 8 Mbit/s take 3 seconds; the sums are taken on both sides.
    try first.line.type("nc -l -p 99 | md5sum; echo END\"\"OF")
    let begin = MonotonicClock.now
    let sent = try second.run(
      "head -c 3000000 /dev/urandom > /tmp/f; md5sum < /tmp/f; nc 10.7.0.1 99 < /tmp/f",
      seconds: 60)
    let sum = sent.split(separator: " ").first.map(String.init) ?? "no sum"
    #expect(sum.count == 32)
    #expect(try first.line.wait(for: "ENDOF", seconds: 60).contains(sum))
    #expect(NetworkedMachine.seconds(since: begin) > 2.5)
    try changeRate(uj, first, second)
    #expect(try first.status()?["cable"]?.string == "connected to a peer at \(path)")
    try uj.run("stop", "--force", "one")
    #expect(try second.run("ping -c 1 -W 1 10.7.0.1").contains(" 0 packets received"))
    // The other end is away; this one's own cable stays in, and it says what it waits for.
    #expect(try second.status()?["cable"]?.string == "waits for \(path)")
    #expect(try second.run("cat /sys/class/net/eth0/carrier").contains("1"))
    let lost = try second.status()?["framesLost"]?.integer ?? 0
    #expect(lost > 0)
    try uj.run("start", "one")
    let line = try GuestLine(uj, "one")
    try line.wait(for: "NETWORK-READY", seconds: 240)
    try line.wait(for: "# ", seconds: 30)
    _ = try line.run("ip addr add 10.7.0.1/24 dev eth0")
    #expect(try line.run("ping -c 3 -W 5 10.7.0.2").contains("3 packets received"))
    #expect(try second.status()?["cable"]?.string == "connected to \(path)")
  }

  /// A rate holds from the next frame on, and is gone when it is taken away.
  private func changeRate(
    _ uj: Underjack, _ first: NetworkedMachine, _ second: NetworkedMachine
  ) throws {
    #expect(try second.status()?["rate"]?.string == "8M")
    func transfer(_ rate: String, _ size: Int) throws -> Double {
      try uj.run("network", "two", "rate", rate)
      try first.line.type("nc -l -p 99 | wc -c; echo END\"\"OF")
      let begin = MonotonicClock.now
      // Until the other one listens.
      _ = try second.run(
        "until head -c \(size) /tmp/f | nc 10.7.0.1 99; do usleep 100000; done", seconds: 60)
      #expect(try first.line.wait(for: "ENDOF", seconds: 60).contains("\(size)"))
      return NetworkedMachine.seconds(since: begin)
    }
    // 500 kB at 1 Mbit/s take 4 seconds.
    #expect(try transfer("1M", 500_000) > 3.5)
    #expect(try second.status()?["rate"]?.string == "1M")
    #expect(try uj.run("network", "two").contains("1Mbit/s each way"))
    #expect(try transfer("none", 500_000) < 3.5)
    #expect(try second.status()?["rate"] == .null)
    #expect(try uj("network", "two", "rate", "7").status != 0)
  }

  @Test(
    "passt gives the guest the host's address, forwards a port, and ends with the machine",
    .enabled(if: access("/usr/bin/passt", X_OK) == 0, "passt is not installed: apt install passt"))
  func passt() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let port = try LoopbackServer.freePort()
    let machine = try NetworkedMachine(
      uj, "web", networks: ["passt,ipv4-only,forward=\(port):80"])
    #expect(try machine.run("ip -4 addr show eth0").contains("inet "))
    _ = try machine.run("echo from the guest > /tmp/index.html; httpd -h /tmp -p 80")
    let question = "GET /index.html HTTP/1.0\r\n\r\n"
    #expect(LoopbackServer.ask(port, question)?.contains("from the guest") == true)
    #expect(try machine.status()?["cable"]?.string == "connected to passt")
    try uj.run("stop", "--force", "web")
    #expect(LoopbackServer.ask(port, question) == nil)
  }

  @Test(
    "a guest of four processors uses four queues of a tap on a bridge",
    .enabled(
      if: geteuid() == 0 && access("/dev/net/tun", R_OK | W_OK) == 0,
      "taps need root and /dev/net/tun"))
  func queuesOfABridge() throws {
    // What this thread starts has a network of its own.
    let old = try FileDescriptor.open("/proc/thread-self/ns/net", O_RDONLY)
    try #require(linux_leave_network() == 0)
    defer { #expect(linux_enter_network(old.rawValue) == 0) }
    _ = try TestProcess.run([
      "/bin/sh", "-c",
      "ip link add br0 type bridge; ip addr add 10.9.0.1/24 dev br0; ip link set br0 up",
    ])
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(
      uj, "wide", networks: ["bridge:br0,queues=4"], append: "nodhcp", processors: 4)
    let queues = try machine.run("ls /sys/class/net/eth0/queues")
    for name in ["rx-0", "rx-3", "tx-0", "tx-3"] { #expect(queues.contains(name)) }
    #expect(!queues.contains("rx-4"))
    _ = try machine.run("ip addr add 10.9.0.2/24 dev eth0")
    for processor in 0..<4 {
      let answer = try machine.run("taskset \(1 << processor) ping -c 5 -i 0.1 -W 5 10.9.0.1")
      #expect(answer.contains("5 packets received"))
    }
    // Every queue has sent; the kernel answers on the queue that it was asked by.
    for queue in 0..<4 {
      let line = try machine.run("grep input.\(queue) /proc/interrupts")
      let count = line.split(separator: " ").dropFirst().prefix(4).compactMap { Int($0) }
        .reduce(0, +)
      #expect(count > 0, "\(line)")
    }
    #expect(try machine.status()?["cable"]?.string?.hasPrefix("the tap uj") == true)
  }
}
