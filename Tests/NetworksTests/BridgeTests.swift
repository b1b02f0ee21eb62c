import CLinux
import Devices
import Glibc
import Networks
import Platform
import Synchronization
import Testing

@Suite struct BridgePolicyTests {
  private func policy(_ text: String) throws -> BridgePolicy { try BridgePolicy(text: text) }

  @Test func theFirstLineThatFitsDecides() throws {
    let policy = try policy(
      """
      # who may what
      deny br0 user:1001   # not this one
      allow br0 user:1000 group:77
      allow lab
      deny all user:0
      allow all group:5
      """)
    #expect(policy.allows("br0", user: 1000, groups: [1]))
    #expect(policy.allows("br0", user: 3, groups: [1, 77]))
    #expect(!policy.allows("br0", user: 1001, groups: [77]))
    #expect(!policy.allows("br0", user: 2, groups: [2]))
    #expect(policy.allows("lab", user: 2, groups: []))
    #expect(policy.allows("other", user: 2, groups: [5]))
    #expect(!policy.allows("other", user: 0, groups: [5]))
    #expect(!(try BridgePolicy(text: "")).allows("br0", user: 1, groups: []))
  }

  @Test func namesAreLookedUpAndUnknownOnesFitNobody() throws {
    let policy = try policy("allow br0 user:daemon\nallow lab user:no-such-user-here")
    let daemon = try #require(getpwnam("daemon")).pointee.pw_uid
    #expect(policy.allows("br0", user: daemon, groups: []))
    for user in [UInt32(0), 1, 65534, .max] {
      #expect(!policy.allows("lab", user: user, groups: []))
    }
  }

  @Test(arguments: [
    "allow", "permit br0", "allow br0 ada", "allow br0 user:", "allow ../x", "allow a/b",
    "allow sixteencharacter", "include /etc/qemu/bridge.conf",
  ])
  func aMistakeIsNamedByItsLine(_ line: String) {
    do throws(NetworkError) {
      _ = try BridgePolicy(text: "allow lab\n\(line)\n")
      Issue.record("\(line) was taken")
    } catch {
      #expect(error.description.hasPrefix("line 2: "))
    }
  }

  @Test func theHelperWantsItsArguments() {
    for arguments in [
      [], ["--br=br0"], ["--fd=3"], ["--br=br0", "--fd=2"], ["--br=a/b", "--fd=3"],
      ["--br=br0", "--fd=3", "--queues=9"], ["--br=br0", "--fd=3", "x"],
    ] {
      #expect(BridgeHelper.run(arguments) == 1)
    }
  }
}

/// With a network of the test's own: needs root, taps and bridges.
@Suite(
  .serialized,
  .enabled(
    if: geteuid() == 0 && access("/dev/net/tun", R_OK | W_OK) == 0,
    "taps need root and /dev/net/tun"))
struct BridgeTests {
  /// Nothing in `body` sees the host's network; the thread must not change meanwhile.
  private func withNetwork(_ body: () throws -> Void) throws {
    let old = try FileDescriptor.open("/proc/thread-self/ns/net", O_RDONLY)
    try #require(linux_leave_network() == 0)
    defer { #expect(linux_enter_network(old.rawValue) == 0) }
    try body()
  }

  private static func command(_ words: String) throws -> String {
    let result = try ChildProcess.run(["/bin/sh", "-c", words], seconds: 10)
    if result.status != 0 { Issue.record("\(words): \(result.output)") }
    return result.output
  }

  private static func frame(from number: UInt8) -> [UInt8] {
    [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, number, 0x88, 0xB5]
      + [UInt8](repeating: number, count: 60)
  }

  @Test func twoGuestsMeetOnABridge() throws {
    try withNetwork {
      _ = try Self.command("ip link add br0 type bridge; ip link set br0 up")
      let first = try TapNetwork(bridge: "br0")
      let second = try TapNetwork(bridge: "br0")
      #expect(try Self.command("ip -o link show master br0").contains("uj0"))
      let guests = [FrameGuest(.all), FrameGuest(.all)]
      first.connect(guests[0])
      second.connect(guests[1])
      let end = MonotonicClock.now + 5_000_000_000
      var met = false
      // Ports are let in when their links are seen to be up.
      while !met, MonotonicClock.now < end {
        guests[0].send(Self.frame(from: 1), to: first)
        guests[1].turn(second)
        met = guests[1].frames.withLock { $0.contains { $0.0 == Self.frame(from: 1) } }
      }
      #expect(met)
      #expect(throws: NetworkError("bridge br9: there is none of that name on this host")) {
        try TapNetwork(bridge: "br9")
      }
      #expect(throws: NetworkError("bridge lo: is not a bridge")) {
        try TapNetwork(bridge: "lo")
      }
    }
  }

  @Test func severalQueuesAreOneTap() throws {
    try withNetwork {
      _ = try Self.command("ip link add br0 type bridge; ip link set br0 up")
      let tap = try TapNetwork(bridge: "br0", queues: 4)
      let other = try TapNetwork(bridge: "br0")
      #expect(tap.otherQueues.count == 3)
      let guest = FrameGuest()
      let receiver = FrameGuest()
      other.connect(receiver)
      let queue = tap.otherQueues[1]
      queue.connect(guest)
      // Not before the driver asks for it.
      guest.send(Self.frame(from: 2), to: queue)
      queue.setAttached(true)
      let end = MonotonicClock.now + 5_000_000_000
      var met = false
      while !met, MonotonicClock.now < end {
        guest.send(Self.frame(from: 3), to: queue)
        receiver.turn(other)
        met = receiver.frames.withLock { $0.contains { $0.0 == Self.frame(from: 3) } }
      }
      #expect(met)
      let early = receiver.frames.withLock { $0.contains { $0.0 == Self.frame(from: 2) } }
      #expect(!early)
      queue.setAttached(false)
      // A detached queue ends no wait.
      let begin = MonotonicClock.now
      guest.turn(queue, milliseconds: 100)
      #expect(MonotonicClock.now - begin > 90_000_000)
    }
  }

  @Test func descriptorsOfOthersAreTakenIfTheyAreATaps() throws {
    try withNetwork {
      _ = try Self.command(
        "ip tuntap add t0 mode tap; ip addr add 10.9.0.1/24 dev t0; ip link set t0 up")
      let number = linux_open("/dev/net/tun", O_RDWR, 0)
      var name = [CChar](repeating: 0, count: 16)
      name[0] = 0x74
      name[1] = 0x30
      try #require(linux_tap_attach(number, &name, 0) == 0)
      let tap = try TapNetwork(descriptors: [number])
      #expect(tap.cable.state == "the tap t0")
      let guest = FrameGuest()
      tap.connect(guest)
      // Who has 10.9.0.1?
      let question: [UInt8] =
        [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]
        + [2, 0, 0, 0, 0, 9, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]
        + [UInt8](repeating: 0, count: 18)
      // Asked again as a host does: the kernel takes a moment until it hears of the carrier.
      var answer: (frame: [UInt8], header: NetworkHeader)?
      for _ in 0..<20 where answer == nil {
        guest.send(question, to: tap)
        answer = guest.wait(tap, seconds: 1) {
          $0.count >= 42 && $0[12] == 8 && $0[13] == 6 && $0[21] == 2
        }
      }
      #expect(answer?.frame[28..<32].elementsEqual([10, 9, 0, 1]) == true)
      // The tap goes away: told once, and no wait is ended by it any more.
      let lines = Mutex<[String]>([])
      tap.report { line in lines.withLock { $0.append(line) } }
      _ = try Self.command("ip link del t0")
      for _ in 0..<3 { guest.turn(tap) }
      #expect(lines.withLock { $0.count } == 1)
      #expect(tap.cable.state == "the tap t0 is gone")

      let file = linux_open("/dev/null", O_RDWR, 0)
      for wrong in [file, 999] {
        #expect(throws: NetworkError.self) { try TapNetwork(descriptors: [wrong]) }
      }
      close(file)
    }
  }
}
