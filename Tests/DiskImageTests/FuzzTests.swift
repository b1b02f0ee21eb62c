// Random damage to images, the same in each run: opening, reading, checking, repairing and writing them ends, with or
// without an error, and never takes the process along.
import DiskImage
import Testing

@Suite struct FuzzTests {
  @Test(arguments: 0..<6)
  func damagedImagesDoNoHarm(kind: Int) throws {
    let original = try base(kind)
    var random = SeededGenerator(UInt64(kind) + 99)
    let rounds = Requirement.isLong ? 60_000 : 250
    for _ in 0..<rounds {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) { damage(&bytes, &random) }
      exercise(bytes)
    }
  }

  func base(_ kind: Int) throws -> [UInt8] {
    switch kind {
    case 0: return try HostileImageTests.sample(9)
    case 1: return try HostileImageTests.sample(12)
    case 2: return try HostileImageTests.sample(14) { $0.subclusters = true }
    case 3: return try HostileImageTests.sample(10) { $0.version = 2 }
    case 4: return try HostileImageTests.sample(9) { $0.refcountBits = 64 }
    default: return try HostileImageTests.sample(12) { $0.compression = .zstd }
    }
  }

  /// Changes a field of the header or an entry of a table, mostly to something near the edge.
  func damage(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    let word = HostileImageTests.word
    let l1 = Int(word(bytes, 40) & 0xff_ffff)
    let table = Int(word(bytes, 48) & 0xff_ffff)
    let snapshots = Int(word(bytes, 64) & 0xff_ffff)
    func first(_ offset: Int) -> Int {
      offset + 8 <= bytes.count ? Int(word(bytes, offset) & 0xff_fe00) : 0
    }
    let areas = [
      (0, 160), (l1, 64), (first(l1), 400), (table, 32), (first(table), 200), (snapshots, 120),
    ]
    let (start, length) = areas.randomElement(using: &random)!
    let offset = start + Int.random(in: 0..<length, using: &random)
    let width = [1, 1, 2, 4, 8].randomElement(using: &random)!
    guard offset >= 0, offset + width <= bytes.count else { return }
    let edges: [UInt64] = [
      0, 1, 0x1ff, 0x200, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, 1 << 47, 1 << 55, 1 << 56,
      1 << 62, 1 << 63,
      UInt64.max, UInt64(bytes.count), UInt64(l1), UInt64(table), 1 << 63 | UInt64(l1),
      UInt64.max - 511,
    ]
    let value = Bool.random(using: &random) ? edges.randomElement(using: &random)! : random.next()
    let place = width == 8 ? offset & ~7 : offset
    bytes.replaceSubrange(place..<place + width, with: HostileImageTests.big(value, width))
  }

  func exercise(_ bytes: [UInt8]) {
    if let image = try? Qcow2Image.open(MemoryStorage(bytes), mode: .readOnly) {
      _ = try? image.snapshots()
      let end = min(image.size, 4 << 20)
      for offset in stride(from: 0, to: end, by: 300_000) {
        _ = try? image.bytes(Int(min(20_000, end - offset)), at: offset)
        _ = try? image.extent(at: offset, limit: end - offset)
      }
      _ = try? image.readSnapshot("one").bytes(4096, at: 0)
      try? image.close()
    }
    _ = try? ImageChecker(MemoryStorage(bytes)).check()
    let storage = MemoryStorage(bytes)
    if let report = try? ImageChecker(storage).repair(.all), report.status == .clean {
      // What a repair calls clean can be written, and stays clean.
      if let image = try? Qcow2Image.open(storage) {
        _ = try? image.fill(1, 50_000, at: 0)
        try? image.close()
        let after = try? ImageChecker(storage).check()
        // Two entries that shared a cluster part with the first write; the one that stays keeps its cleared flag, which
        // costs a copy later and nothing else. Counts for clusters behind the end of the file, which no check looks at,
        // become leaks when the file grows.
        let worse = after?.findings.filter {
          !$0.contains("wrong copied flag") && !$0.contains("has 0 references")
        }
        #expect(
          after == nil || after?.status != .corrupt || worse?.isEmpty == true,
          "\(report.findings.prefix(3)) then \(worse?.prefix(3) ?? [])")
      }
    }
    if let image = try? Qcow2Image.open(MemoryStorage(bytes)) {
      _ = try? image.fill(7, 30_000, at: 0)
      _ = try? image.discard(at: 0, count: min(image.size, 200_000))
      _ = try? image.writeZeroes(at: 0, count: min(image.size, 100_000))
      _ = try? image.createSnapshot("two")
      _ = try? image.applySnapshot("one")
      _ = try? image.deleteSnapshot("one")
      _ = try? image.resize(to: 8 << 20)
      _ = try? image.flush()
      try? image.close()
    }
  }
}
