import CLinux
import DiskImage
import Inventory
import NetworkGuests
import Platform
import TestGuests
import Testing

private let missing: String? =
  NetworkedMachine.missing
  ?? (["/usr/sbin/mkfs.ext4", "/usr/sbin/e2fsck"] as [String]).first { access($0, X_OK) != 0 }
  .map { "\($0) is missing: install e2fsprogs" }

/// A Linux machine that counts in memory, on its disk and over a connection, taken snapshots of while it does, and then
/// sent back and forward in time at random.
///
/// The short form takes and goes to eight snapshots; UNDERJACK_LONG_TESTS fifty.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct TimeTravelTests {
  private static let isLong = getenv("UNDERJACK_LONG_TESTS") != nil
  private static let count = isLong ? 50 : 8

  /// Each number goes to the file system and to whoever listens; it holds no more than the shell's variable.
  private static let script = """
    cat > /count <<'END'
    mount -t ext4 /dev/vda /mnt || echo NO-DISK
    port=$(sed 's/.*port=\\([0-9]*\\).*/\\1/' /proc/cmdline)
    mkfifo /tmp/line
    (while true; do nc 10.0.2.2 $port < /tmp/line; sleep 0.1; done) &
    (exec 3<>/tmp/line
    i=0
    while true; do
      i=$((i+1))
      read u x < /proc/uptime
      echo "$i $u" >> /mnt/log
      echo $i >&3
      usleep 20000
    done) &
    echo $! > /tmp/counter
    END
    cat > /look <<'END'
    sync
    echo 3 > /proc/sys/vm/drop_caches
    awk '$1 != NR || $2 + 0 < t {bad++} {t = $2 + 0} END {print "LOG", NR, bad + 0}' /mnt/log
    md5sum /tmp/pattern
    END
    """

  private static let guest: Result<NetworkGuest, any Error> = Result {
    try NetworkGuest(
      modules: ["drivers/block/virtio_blk"], script: script,
      in: try TestFolder.make("time-travel"))
  }

  /// What the guest is like at a moment.
  private struct Moment {
    /// How far it had counted, at least.
    var count: Int
    var pattern: String
  }

  private struct World {
    let uj: Underjack
    let server: CountingServer
    let inventory: Inventory

    init() throws {
      uj = try Underjack()
      server = try CountingServer()
      inventory = Inventory(
        location: InventoryLocation(home: "\(uj.folder)/home", runtime: "\(uj.folder)/run"),
        images: DiskImageStore())
      let disk = "\(uj.folder)/disk.raw"
      for words in [
        ["/usr/bin/truncate", "-s", "64M", disk], ["/usr/sbin/mkfs.ext4", "-q", disk],
      ] {
        let result = try TestProcess.run(words)
        guard result.status == 0 else { throw TestGuestError(result.output) }
      }
      let guest = try TimeTravelTests.guest.get()
      try uj.run(
        "new", "m", "--accel", "soft", "-m", "128M", "--kernel", guest.kernel, "--initrd",
        guest.initrd, "--append", "console=ttyS0 quiet port=\(server.port)", "--net", "user",
        "--disk", disk)
      try uj.run("start", "m")
    }

    func line() throws -> GuestLine { try GuestLine(uj, "m") }

    /// Where the guest is now: it has lost nothing and counted nothing twice, and its clock has not gone back.
    func look(_ line: GuestLine, _ place: Comment) throws -> Moment {
      let text = try line.run("sh /look")
      let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
      guard let index = words.firstIndex(of: "LOG"), words.count > index + 3,
        let count = Int(words[index + 1])
      else { throw TestGuestError("the guest says: \(text)") }
      #expect(words[index + 2] == "0", place)
      return Moment(count: count, pattern: words[index + 3])
    }
  }

  /// - Returns: the identifier of what was left.
  private func go(_ world: World, _ words: String...) throws -> String {
    let text = try world.uj.run(["snapshot"] + words)
    #expect(text.contains("m: goes on from there"))
    let kept = text.split(separator: "\n").first { $0.hasPrefix("what was left is kept as ") }
    return String(kept?.dropFirst("what was left is kept as ".count).prefix { $0 != "," } ?? "")
  }

  @Test("There and back at random: nothing is lost or doubled, memory is what it was")
  func backAndForward() throws {
    let world = try World()
    defer { world.uj.close() }
    var line = try world.line()
    try line.wait(for: "NETWORK-READY", seconds: 240)
    _ = try line.run("sh /count; usleep 500000")
    var moments: [Moment] = []
    for number in 0..<Self.count {
      _ = try line.run("head -c 2000000 /dev/urandom > /tmp/pattern")
      moments.append(try world.look(line, "before snapshot \(number)"))
      let taken = try world.uj.run("snapshot", "take", "m", "s\(number)", "--memory")
      #expect(taken.contains("with its memory"))
    }
    // All of that on one connection, which does not notice.
    let present = try world.look(line, "after all snapshots")
    let before = world.server.connections
    #expect(before.count == 1)
    #expect(try Self.isWhole(#require(before.first)))
    #expect(before[0].first == 1)
    #expect(before[0].count > present.count - 100)

    var last = (identifier: "", moment: present)
    for step in 0..<Self.count {
      let isForward = !last.identifier.isEmpty && step % 3 == 2
      let number = Int.random(in: 0..<Self.count)
      let target = isForward ? last.moment : moments[number]
      let place: Comment = "step \(step), \(isForward ? last.identifier : "s\(number)")"
      let left = try world.look(line, place)
      let connections = world.server.connections.count
      let kept =
        isForward
        ? try go(world, "forward", "-f", "m", last.identifier)
        : try go(world, "rollback", "-f", "m", "s\(number)")
      line = try world.line()
      let seen = try world.look(line, place)
      #expect(seen.pattern == target.pattern, place)
      #expect(seen.count >= target.count, place)
      // It went on from there, and not from anywhere else.
      #expect(seen.count < target.count + 1500, place)
      last = (kept, left)
      // The line that it holds open there has nobody at its other end any more: it sees that, and calls again.
      let limit = MonotonicClock.now + 30_000_000_000
      while world.server.connections.count == connections, MonotonicClock.now < limit {
        usleep(20_000)
      }
      #expect(world.server.connections.count > connections, place)
    }
    for connection in world.server.connections { #expect(Self.isWhole(connection)) }
    _ = try line.run("kill $(cat /tmp/counter); usleep 100000; umount /mnt")
    try world.uj.run("stop", "-f", "m")
    try checkDisks(world)
  }

  /// Each number is one more than the one before; the first and the last line may be parts.
  private static func isWhole(_ numbers: [Int]) -> Bool {
    let inner = numbers.dropFirst()
    return zip(inner, inner.dropFirst()).allSatisfy { $1 == $0 + 1 }
  }

  /// Every layer is sound, and so is the file system: of the present as it is, of snapshots after its journal was read.
  private func checkDisks(_ world: World) throws {
    let files = try TestProcess.run([
      "/usr/bin/find", "\(world.uj.folder)/home/machines", "-name", "*.qcow2",
    ]).output.split(separator: "\n").map(String.init)
    #expect(files.count > Self.count)
    let peer = "/usr/bin/qemu-img"
    for file in files {
      let own = try world.uj("disk", "check", file)
      #expect(own.status == 0, "\(file): \(own.output)")
      guard access(peer, X_OK) == 0 else { continue }
      let result = try TestProcess.run([peer, "check", file])
      #expect(result.status == 0, "\(file): \(result.output)")
    }
    let present = try world.inventory.resolvedDisks(try MachineName("m"))[0].path
    for file in Self.isLong ? files : Array(files.prefix(2)) + [present] {
      let copy = "\(world.uj.folder)/copy.raw"
      try world.uj.run("disk", "convert", "--trust", "--replace", file, copy)
      if file != present {
        // 1: the journal was read, as after any crash.
        let result = try TestProcess.run(["/usr/sbin/e2fsck", "-p", copy])
        #expect(result.status <= 1, "\(file): \(result.output)")
      }
      let result = try TestProcess.run(["/usr/sbin/e2fsck", "-fn", copy])
      #expect(result.status == 0, "\(file): \(result.output)")
    }
  }
}
