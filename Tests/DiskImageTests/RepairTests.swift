// What a repair leaves behind can be written, and stays consistent.
import DiskImage
import Testing

@Suite struct RepairTests {
  /// What lies behind the bytes that a compressed entry may claim.
  enum Neighbour: String, CaseIterable {
    case end = "the end of the file"
    case l1 = "L1 table"
    case l2 = "L2 table"
    case refcountTable = "refcount table"
    case refcountBlock = "refcount block"
    case snapshots = "snapshot table"

    /// The byte where it begins.
    func start(in image: [UInt8]) -> Int {
      func word(_ place: Int) -> Int { Int(SampleImage.word(image, place) & 0x00ff_ffff_ffff_fe00) }
      switch self {
      case .end: return image.count
      case .l1: return word(40)
      case .l2: return word(word(40))
      case .refcountTable: return word(48)
      case .refcountBlock: return word(word(48))
      case .snapshots: return word(64)
      }
    }
  }

  /// A compressed entry, its copied flag set, whose sectors go on into what is not its own. Behind the end of the file
  /// the next cluster to be allocated would get a second owner that nothing counts.
  @Test(arguments: Neighbour.allCases)
  func compressedBytesEndBeforeWhatIsNotTheirs(_ neighbour: Neighbour) throws {
    // The last cluster belongs to nobody, so that nothing has to be moved.
    var bytes = try SampleImage.make(12)
    bytes += [UInt8](repeating: 0, count: (bytes.count + 4095) / 4096 * 4096 + 4096 - bytes.count)
    let l1 = Int(SampleImage.word(bytes, 40))
    let table = Int(SampleImage.word(bytes, l1) & 0x00ff_ffff_ffff_fe00)
    let start = neighbour.start(in: bytes)
    // 4 KiB clusters: the count of further sectors is in bits 58 to 61.
    let entry = 3 << 62 | 7 << 58 | UInt64(start - 512)
    bytes.replaceSubrange(table..<table + 8, with: SampleImage.big(entry))
    let storage = MemoryStorage(bytes)
    let report = try ImageChecker(storage).repair(.all)
    #expect(report.corruptions > 0)
    #expect(report.status == .clean, "\(report.findings)")
    let image = try Qcow2Image.open(storage)
    try image.fill(1, 50_000, at: 0)
    try image.flush()
    try image.fill(2, 50_000, at: 2 << 20)
    try image.close()
    let after = try ImageChecker(storage).check()
    #expect(after.findings == [])
    #expect(after.status == .clean)
  }
}
