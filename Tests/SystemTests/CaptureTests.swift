import Glibc
import Hosting
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let reason = NetworkedMachine.missing { return reason }
  return access(NetworkedMachine.tcpdump, X_OK) == 0 ? nil : "tcpdump is missing: install tcpdump"
}()

/// Captures of an adapter's packets, beside those that are taken inside the guest.
@Suite(
  .serialized,
  .enabled(
    if: getenv("UNDERJACK_LONG_TESTS") != nil,
    "UNDERJACK_LONG_TESTS is not set: not yet seen to pass"),
  .enabled(if: missing == nil, "\(missing ?? "")"))
struct CaptureTests {
  private static let tshark = "/usr/bin/tshark"

  /// A file of the pcap format, read by its definition and not by our own code.
  private struct Packets {
    var payloads: [[UInt8]] = []

    init(_ bytes: [UInt8]) throws {
      func word(_ offset: Int) -> Int {
        (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
      }
      guard bytes.count >= 24, [0xA1B2_C3D4, 0xA1B2_3C4D].contains(word(0)) else {
        throw TestGuestError("no pcap file of \(bytes.count) bytes")
      }
      var place = 24
      while place + 16 <= bytes.count {
        let count = word(place + 8)
        guard place + 16 + count <= bytes.count else { break }
        payloads.append(Array(bytes[place + 16..<place + 16 + count]))
        place += 16 + count
      }
    }

    /// Echo requests and answers: nobody changes anything of these on their way.
    var echoes: [[UInt8]] {
      payloads.filter { $0.count > 42 && $0[12] == 8 && $0[13] == 0 && $0[23] == 1 }
    }
  }

  @Test("a capture holds what the guest's own tcpdump saw, and tshark reads it without a complaint")
  func compared() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(uj, "seen", networks: ["user"])
    let file = "\(uj.folder)/seen.pcap"
    let capture = try ChildProcess.start(
      [Underjack.program, "capture", "seen", "-w", file], environment: uj.environment)
    try machine.line.type("tcpdump -Z root -i eth0 -U -w /tmp/own.pcap 2>/tmp/tcpdump.log &")
    // Both have begun when they have written their heads.
    _ = try machine.run("while ! [ -s /tmp/own.pcap ]; do sleep 1; done", seconds: 60)
    usleep(500_000)
    #expect(try machine.run("ping -c 20 -i 0.1 -s 300 10.0.2.2").contains("20 packets received"))
    let content = "\(uj.folder)/content"
    try writeBytes(content, [UInt8](repeating: 0x55, count: 1 << 20))
    let server = try LoopbackServer(.give(content))
    _ = try machine.run("wget -q -O /dev/null http://10.0.2.2:\(server.port)/", seconds: 60)
    _ = try machine.run("sleep 1; killall tcpdump; sleep 1")
    kill(capture.identifier, SIGINT)
    _ = ChildProcess.wait(for: capture.identifier)
    let taker = try LoopbackServer(.take("\(uj.folder)/own.pcap"))
    _ = try machine.run("nc 10.0.2.2 \(taker.port) < /tmp/own.pcap")
    #expect((taker.finish(seconds: 60) ?? 0) > 1 << 20)

    let ours = try Packets(readBytes(file))
    let own = try Packets(readBytes("\(uj.folder)/own.pcap"))
    #expect(ours.echoes.count == 40)
    let isSame = ours.echoes == own.echoes
    #expect(isSame, "\(ours.echoes.count) and \(own.echoes.count) echoes")
    #expect(ours.payloads.map(\.count).reduce(0, +) > 1 << 20)
    try read(file)
  }

  private func read(_ file: String) throws {
    guard access(Self.tshark, X_OK) == 0 else {
      return print("\(Self.tshark) is missing: the capture was not shown to it; install tshark")
    }
    let result = try TestProcess.run([
      Self.tshark, "-n", "-r", file, "-Y", "_ws.malformed || frame.len == 0", "-T", "fields", "-e",
      "frame.number",
    ])
    let complaints = result.output.split(separator: "\n").filter { !$0.contains("Running as user") }
    #expect(result.status == 0 && complaints.isEmpty, "\(result.output)")
  }
}
