// Random damage to images, the same in each run: opening, reading, checking, repairing and writing them ends, with or
// without an error, and never takes the process along.
import DiskImage
import Testing

@Suite struct FuzzTests {
  @Test(arguments: 0..<DamagedImage.kinds)
  func damagedImagesDoNoHarm(kind: Int) throws {
    let original = try DamagedImage.base(kind)
    #expect(try ImageChecker(MemoryStorage(original)).check().status == .clean)
    var random = SeededGenerator(UInt64(kind) + 99)
    let rounds = Requirement.isLong ? 60_000 : 250
    for _ in 0..<rounds {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) { damage(&bytes, &random) }
      #expect(DamagedImage.exercise(bytes) == nil)
    }
  }

  /// Changes a field of the header or an entry of a table, mostly to something near the edge.
  func damage(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    let word = SampleImage.word
    let l1 = Int(word(bytes, 40) & 0xff_ffff)
    let table = Int(word(bytes, 48) & 0xff_ffff)
    let snapshots = Int(word(bytes, 64) & 0xff_ffff)
    func first(_ offset: Int) -> Int {
      offset + 8 <= bytes.count ? Int(word(bytes, offset) & 0xff_fe00) : 0
    }
    let areas = [
      (0, 160), (l1, 64), (first(l1), 400), (table, 32), (first(table), 200), (snapshots, 120),
      (bytes.count - 8192, 40), (bytes.count - 4096, 16),
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
    bytes.replaceSubrange(place..<place + width, with: SampleImage.big(value, width))
  }
}
