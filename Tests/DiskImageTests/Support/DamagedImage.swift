// Damaged images: what they are made from and what is done to them. Used by the tests and by the fuzzer.
import DiskImage

enum DamagedImage {
  /// How many kinds of image there are.
  static let kinds = 7

  static func base(_ kind: Int) throws -> [UInt8] {
    switch kind {
    case 0: return try SampleImage.make(9)
    case 1: return try SampleImage.make(12)
    case 2: return try SampleImage.make(14) { $0.subclusters = true }
    case 3: return try SampleImage.make(10) { $0.version = 2 }
    case 4: return try SampleImage.make(9) { $0.refcountBits = 64 }
    case 5: return try SampleImage.make(12) { $0.compression = .zstd }
    default: return try SampleImage.makeWithBitmap()
    }
  }

  /// Uses an image in every way.
  ///
  /// - Returns: what is wrong with an image that a repair called clean; nil when nothing is.
  static func exercise(_ bytes: [UInt8]) -> String? {
    var complaint: String?
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
        if let after, after.status == .corrupt, worse?.isEmpty != true {
          complaint = "\(report.findings.prefix(3)) then \(worse?.prefix(3) ?? [])"
        }
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
    return complaint
  }
}
