import CLinux
import Platform
import TestGuests
import Testing

private let missing: String? =
  access(Underjack.program, X_OK) == 0 ? nil : "uj is not built"

/// Many machines of one user.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct FleetTests {
  /// Nanoseconds in which the list of all machines is there.
  private static let limit: UInt64 = 100_000_000

  /// A kernel by the multiboot protocol that halts at once.
  private func haltingKernel() throws -> String {
    let path = try TestFolder.make("halting") + "/kernel"
    let code: [UInt8] = [0xFA, 0xF4, 0xEB, 0xFD]
    let address: UInt32 = 0x10_0000
    let end = address + 32 + UInt32(code.count)
    let header: [UInt32] = [
      0x1BAD_B002, 1 << 16, 0 &- 0x1BAD_B002 &- (1 << 16), address, address, end, end, address + 32,
    ]
    let bytes =
      header.flatMap { value in withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) } } + code
    let file = try FileDescriptor.open(path, O_CREAT | O_WRONLY, mode: 0o644)
    _ = try bytes.withUnsafeBytes { try file.write($0) }
    return path
  }

  @Test func aHundredDefinedAndFortyRunning() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "t", "--template", "--kernel", try haltingKernel(), "--memory", "2M", "--disk", "1G",
      "--accel", "soft")
    let names = (0..<100).map { "m\($0)" }
    try uj.run(["clone", "t"] + names)
    try uj.run(["start"] + names.prefix(40))
    var best = UInt64.max
    for attempt in 0..<30 where attempt < 5 || best >= Self.limit {
      let start = MonotonicClock.now
      let text = try uj.run("status")
      best = min(best, MonotonicClock.now - start)
      #expect(text.split(separator: "\n").count == 102)
      #expect(text.components("running") + text.components("halted") == 40)
    }
    // With the start of the process. Other work on this host takes its turns between: the best of several counts.
    #expect(best < Self.limit, "\(best / 1_000_000) ms")
    try uj.run("stop", "-f", "-a")
    #expect(try uj.run("status", "-r").split(separator: "\n").count == 1)
  }
}

extension String {
  /// How often a word occurs.
  fileprivate func components(_ word: String) -> Int {
    var count = 0
    var rest = self[...]
    while let range = rest.firstRange(of: word) {
      count += 1
      rest = rest[range.upperBound...]
    }
    return count
  }
}
