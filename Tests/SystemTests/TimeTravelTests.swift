import CLinux
import NetworkGuests
import Platform
import TestGuests
import Testing

private let missing: String? =
  NetworkedMachine.missing
  ?? (["/usr/sbin/mkfs.ext4", "/usr/sbin/e2fsck"] as [String]).first { access($0, X_OK) != 0 }
  .map { "\($0) is missing: install e2fsprogs" }

private let isLong = getenv("UNDERJACK_LONG_TESTS") != nil
private let missingDebian: String? =
  !isLong
  ? "UNDERJACK_LONG_TESTS is not set"
  : access("/usr/bin/mmdebstrap", X_OK) == 0 ? nil : "mmdebstrap is missing: install mmdebstrap"

/// A Linux machine that counts in memory, on its disk and over a connection, taken snapshots of while it does, and then
/// sent back and forward in time at random.
///
/// The short form takes and goes to eight snapshots; UNDERJACK_LONG_TESTS fifty, and a whole Debian does it too.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct TimeTravelTests {
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
    \(look(pattern: "/tmp/pattern"))
    END
    """

  /// The file is read from the disk and not from memory.
  private static func look(pattern: String) -> String {
    """
    sync
    echo 3 > /proc/sys/vm/drop_caches
    awk '$1 != NR || $2 + 0 < t {bad++} {t = $2 + 0} END {print "LOG", NR, bad + 0}' /mnt/log
    md5sum \(pattern)
    """
  }

  private static let guest: Result<NetworkGuest, any Error> = Result {
    try NetworkGuest(
      modules: ["drivers/block/virtio_blk"], script: script,
      in: try TestFolder.make("time-travel"))
  }

  /// Where a guest is.
  private static func look(_ line: GuestLine, _ place: Comment) throws -> Journey.Moment {
    let text = try line.run("sh /look", seconds: 300)
    let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
    guard let index = words.firstIndex(of: "LOG"), words.count > index + 3,
      let count = Int(words[index + 1])
    else { throw TestGuestError("the guest says: \(text)") }
    #expect(words[index + 2] == "0", place)
    return Journey.Moment(count: count, pattern: words[index + 3])
  }

  /// An empty file system on a disk of its own.
  private static func makeDisk(_ uj: Underjack) throws -> String {
    let disk = "\(uj.folder)/disk.raw"
    for words in [
      ["/usr/bin/truncate", "-s", "64M", disk], ["/usr/sbin/mkfs.ext4", "-q", disk],
    ] {
      let result = try TestProcess.run(words)
      guard result.status == 0 else { throw TestGuestError(result.output) }
    }
    return disk
  }

  /// There and back, with the one connection that the guest holds watched from outside.
  private func travel(_ journey: Journey, _ server: CountingServer) throws -> GuestLine {
    func taken(_ present: Journey.Moment) throws {
      // All of that on one connection, which does not notice.
      let before = server.connections
      #expect(before.count == 1)
      #expect(try Self.isWhole(#require(before.first)))
      #expect(before[0].first == 1)
      #expect(before[0].count > present.count - 100)
    }
    func jump(_ place: Comment, _ body: () throws -> Void) throws {
      let connections = server.connections.count
      try body()
      // The line that it holds open there has nobody at its other end any more: it sees that, and calls again.
      let limit = MonotonicClock.now + 60_000_000_000
      while server.connections.count == connections, MonotonicClock.now < limit {
        usleep(20_000)
      }
      #expect(server.connections.count > connections, place)
    }
    let line = try journey.run(taken: taken, jump: jump)
    for connection in server.connections { #expect(Self.isWhole(connection)) }
    return line
  }

  /// Each number is one more than the one before; the first and the last line may be parts.
  private static func isWhole(_ numbers: [Int]) -> Bool {
    let inner = numbers.dropFirst()
    return zip(inner, inner.dropFirst()).allSatisfy { $1 == $0 + 1 }
  }

  @Test("There and back at random: nothing is lost or doubled, memory is what it was")
  func backAndForward() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let server = try CountingServer()
    let guest = try Self.guest.get()
    try uj.run(
      "new", "m", "--accel", "soft", "-m", "128M", "--kernel", guest.kernel, "--initrd",
      guest.initrd, "--append", "console=ttyS0 quiet port=\(server.port)", "--net", "user",
      "--disk", try Self.makeDisk(uj))
    try uj.run("start", "m")
    var line = try GuestLine(uj, "m")
    try line.wait(for: "NETWORK-READY", seconds: 240)
    _ = try line.run("sh /count; usleep 500000")
    let journey = Journey(
      uj: uj, machine: "m", count: isLong ? 50 : 8, most: 1500,
      change: { _ = try $0.run("head -c 2000000 /dev/urandom > /tmp/pattern") }, look: Self.look)
    line = try travel(journey, server)
    _ = try line.run("kill $(cat /tmp/counter); usleep 100000; umount /mnt")
    try uj.run("stop", "-f", "m")
    let files = try journey.soundLayers()
    let present = try journey.present()
    try journey.checkFileSystems(
      isLong ? files : Array(files.prefix(2)) + [present], present: present)
  }

  // MARK: Debian

  /// bash has no program to start for each number.
  private static let debianScript = """
    cat > /count <<'END'
    mount -t ext4 /dev/vdb /mnt || echo NO-DISK
    mkfifo /run/line /run/never
    (while true; do cat < /run/line > /dev/tcp/10.0.2.2/$1; sleep 0.1; done) 2>/dev/null &
    (exec 3<>/run/line 4<>/run/never
    i=0
    while true; do
      i=$((i+1))
      read u x < /proc/uptime
      echo "$i $u" >> /mnt/log
      echo $i >&3
      read -t 0.02 -u 4 x
    done) &
    echo $! > /run/counter
    END
    cat > /look <<'END'
    \(look(pattern: "/dev/shm/pattern"))
    END
    """

  @Test(
    "A Debian there and back, fifty times",
    .enabled(if: missingDebian == nil, "\(missingDebian ?? "")"))
  func debian() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let server = try CountingServer()
    try uj.run("template", "build", "debian", "--size", "3G")
    try uj.run("start", "-t", "debian", "m", "--accel", "soft", "--disk", try Self.makeDisk(uj))
    var line = try GuestLine(uj, "m")
    let begin = MonotonicClock.now
    try line.wait(for: "m login:", seconds: 1500)
    try line.type("root")
    try line.wait(for: "root@m", seconds: 300)
    try line.type("export PS1='' TERM=dumb; bind 'set enable-bracketed-paste off' 2>/dev/null")
    _ = try line.run("dmesg -n 1", seconds: 120)
    _ = try line.run(
      "for i in $(seq 60); do ip -4 addr show up | grep -q 10.0.2 && break; sleep 1; done",
      seconds: 240)
    print("Debian is up after \(NetworkedMachine.seconds(since: begin)) s")
    _ = try line.run(Self.debianScript, seconds: 120)
    _ = try line.run("bash /count \(server.port) </dev/null; sleep 1", seconds: 120)
    let journey = Journey(
      uj: uj, machine: "m", count: 50, most: 4500,
      change: {
        _ = try $0.run("head -c 8000000 /dev/urandom > /dev/shm/pattern", seconds: 120)
      }, look: Self.look)
    line = try travel(journey, server)
    print("fifty there, fifty back: \(NetworkedMachine.seconds(since: begin)) s")
    _ = try line.run("kill $(cat /run/counter); sleep 0.2; umount /mnt", seconds: 120)
    // It heeds the power button.
    try uj.run("stop", "-w", "--timeout", "600", "m")
    let files = try journey.soundLayers()
    let isOwn = try journey.present(disk: 1)
    let folder = isOwn[..<(isOwn.lastIndex(of: "/") ?? isOwn.endIndex)]
    try journey.checkFileSystems(files.filter { $0.hasPrefix(folder) }, present: isOwn)
    // Debian's own, in the partition that begins at 1 MiB.
    let root = try journey.copy(journey.present(disk: 0))
    let result = try TestProcess.run(["/usr/sbin/e2fsck", "-fn", "\(root)?offset=1048576"])
    #expect(result.status == 0, "\(result.output)")
  }
}
