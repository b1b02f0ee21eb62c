import CLinux
import KVM
import Platform
import TestGuests
import Testing

private let missing: String? =
  access(Underjack.program, X_OK) != 0 ? "uj is not built" : TestGuest.missingTool

/// Whether KVM can be had; its reason if not.
private let missingKVM: String? = {
  do {
    _ = try KVMSystem()
    return nil
  } catch {
    return "\(error)"
  }
}()

/// Programs of our own for each width of a processor, which count in memory and on a disk, sent back and forward in time:
/// what also a KVM can run that boots no Linux.
///
/// The short form takes and goes to six snapshots; UNDERJACK_LONG_TESTS fifty.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct ProcessorJourneyTests {
  private static let count = getenv("UNDERJACK_LONG_TESTS") == nil ? 6 : 50
  /// Sectors that the guest writes in turn.
  private static let ring = 1024
  /// Counts a second, at most.
  private static let most = 60_000

  private func travel(_ guest: JourneyGuest, accelerator: String) throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "m", "--accel", accelerator, "-m", "32M", "--kernel", try guest.build(in: uj.folder),
      "--disk", "4M,bus=ide")
    try uj.run("start", "m")
    let line = try GuestLine(uj, "m")
    try line.wait(for: "JOURNEY\n", seconds: 60)
    let journey = Journey(
      uj: uj, machine: "m", count: Self.count, most: Self.most,
      change: { line in
        try line.send("p")
        try line.wait(for: "P\n", seconds: 60)
      },
      look: { line, place in
        try line.send("l")
        try line.wait(for: "LOG ", seconds: 60)
        let words = try line.wait(for: "\n").split(whereSeparator: \.isWhitespace).map(String.init)
        guard words.count == 3, let count = Int(words[0]) else {
          throw TestGuestError("the guest says: \(words)")
        }
        #expect(words[1] == "0", place)
        return Journey.Moment(count: count, pattern: words[2])
      })
    let last = try journey.run()
    try last.send("e")
    try last.wait(for: "END ", seconds: 60)
    let end = try #require(Int(try last.wait(for: "\n").trimmed))
    try uj.run("stop", "-f", "m")
    let files = try journey.soundLayers()
    // On every disk the numbers that it counted last, each in its place; the last may be half written nowhere.
    for file in files {
      let newest = try checkNumbers(journey.copy(file), file)
      if try file == journey.present() { #expect(newest == end) }
    }
  }

  /// - Returns: the last number on the disk.
  private func checkNumbers(_ path: String, _ file: String) throws -> Int {
    let bytes = try readBytes(path)
    var found: [Int] = []
    for sector in 0..<Self.ring {
      let words = (0..<256).map {
        Int(bytes[sector * 512 + $0 * 2]) | Int(bytes[sector * 512 + $0 * 2 + 1]) << 8
      }
      let number = words[0] | words[1] << 16
      guard number != 0 else { continue }
      #expect(number % Self.ring == sector, "\(file), sector \(sector)")
      #expect((2..<256).allSatisfy { words[$0] == (number + $0) & 0xFFFF }, "\(file), \(sector)")
      found.append(number)
    }
    let newest = found.max() ?? 0
    #expect(found.count == min(newest, Self.ring), "\(file)")
    #expect(found.allSatisfy { $0 > newest - Self.ring }, "\(file)")
    return newest
  }

  @Test("There and back on the software processor", arguments: JourneyGuest.allCases)
  func software(guest: JourneyGuest) throws { try travel(guest, accelerator: "soft") }

  @Test(
    "There and back under KVM", .enabled(if: missingKVM == nil, "\(missingKVM ?? "")"),
    arguments: JourneyGuest.allCases)
  func kernel(guest: JourneyGuest) throws { try travel(guest, accelerator: "kvm") }
}

extension String {
  fileprivate var trimmed: String { filter { !$0.isWhitespace } }
}
