// Disks that fail: no space, I/O errors at any call. Nothing completed is lost, and the image is never corrupt.
import DiskImage
import Glibc
import Platform
import Testing

@Suite struct FailureTests {
  @Test(arguments: [ENOSPC, EIO], [9, 12])
  func failureAtEachCall(_ number: Int32, _ clusterBits: Int) throws {
    for failing in stride(from: 0, to: 160, by: Requirement.isLong ? 1 : 4) {
      let storage = MemoryStorage()
      try Qcow2.format(storage, size: 2 << 20, options: qcow2(clusterBits), path: "memory")
      let image = try Qcow2Image.open(storage, cacheBytes: 1 << 14)
      storage.fail(after: failing, with: number)
      var random = SeededGenerator(5)
      var model = [UInt8](repeating: 0, count: 2 << 20)
      for step in 0..<60 {
        let count = Int.random(in: 1...20_000, using: &random)
        let place = Int.random(in: 0...(model.count - count), using: &random)
        let value = UInt8.random(in: 1...255, using: &random)
        let before = Array(model[place..<place + count])
        do {
          switch step % 8 {
          case 5: try image.flush()
          case 6:
            try image.discard(at: UInt64(place), count: UInt64(count))
            model.replaceSubrange(
              place..<place + count, with: try image.bytes(count, at: UInt64(place)))
          case 7 where step % 16 == 7: try image.createSnapshot("s\(step)")
          default:
            try image.fill(value, count, at: UInt64(place))
            model.replaceSubrange(place..<place + count, with: repeatElement(value, count: count))
          }
        } catch {
          // Some of a failed write may be there.
          let now = try image.bytes(count, at: UInt64(place))
          #expect(zip(now, before).allSatisfy { $0 == $1 || $0 == value || $0 == 0 })
          model.replaceSubrange(place..<place + count, with: now)
        }
      }
      #expect(try image.bytes(model.count, at: 0) == model)
      let isHealthy = (try? image.flush()) != nil
      try? image.close()
      let report = try ImageChecker(storage).check()
      #expect(report.status != .corrupt, "call \(failing): \(report.findings.prefix(3))")
      if isHealthy {
        let again = try Qcow2Image.open(storage, mode: .readOnly)
        #expect(try again.bytes(model.count, at: 0) == model, "call \(failing)")
      }
    }
  }

  /// Four threads write, read and discard their own stripes of the same clusters, one flushes.
  @Test(arguments: [
    ModelCase(clusterBits: 9), ModelCase(clusterBits: 16),
    ModelCase(clusterBits: 14, subclusters: true),
  ])
  func manyThreads(_ configuration: ModelCase) throws {
    let folder = TemporaryFolder()
    let path = folder.file("t.qcow2")
    var options = qcow2(configuration.clusterBits)
    options.subclusters = configuration.subclusters
    try Qcow2.create(path, size: 8 << 20, options: options)
    let image = try DiskImage.openQcow2(path)
    let rounds = Requirement.isLong ? 20_000 : 400
    let threads = try (0..<4).map { number in
      try PosixThread(name: "io\(number)") {
        var random = SeededGenerator(UInt64(number))
        // Stripes of 4000 bytes, so that neighbours share clusters.
        var held: [Int: UInt8] = [:]
        for round in 0..<rounds {
          let stripe = Int.random(in: 0..<500, using: &random)
          let place = UInt64((stripe * 4 + number) * 4000)
          let value = UInt8.random(in: 1...255, using: &random)
          do {
            if let known = held[stripe], Bool.random(using: &random) {
              let found = try image.bytes(4000, at: place)
              if !found.allSatisfy({ $0 == known }) {
                Issue.record("stripe \(stripe) of \(number)")
              }
            } else {
              try image.fill(value, 4000, at: place)
              held[stripe] = value
            }
            if round % 50 == 0 { try image.flush() }
            if number == 0 && round % 100 == 99 { try image.createSnapshot("s\(round)") }
            if number == 1 && round % 70 == 69 {
              try image.discard(at: place, count: 4000)
              held[stripe] = nil
            }
          } catch { Issue.record("\(error)") }
        }
      }
    }
    for thread in threads { thread.join() }
    try image.close()
    let report = try DiskImage.check(path)
    #expect(report.status == .clean, "\(report.findings.prefix(3))")
    if Requirement.hasQemu { expectClean(path) }
  }

  @Test func closedDevicesRefuse() throws {
    let folder = TemporaryFolder()
    let path = folder.file("c.qcow2")
    try Qcow2.create(path, size: 1 << 20)
    let image = try DiskImage.openQcow2(path)
    try image.close()
    try image.close()
    #expect(throws: DiskImageError.self) { try image.fill(1, 512, at: 0) }
    #expect(throws: DiskImageError.self) { try image.bytes(512, at: 0) }
    let reader = try DiskImage.openQcow2(path, mode: .readOnly)
    #expect(throws: DiskImageError.self) { try reader.fill(1, 512, at: 0) }
    #expect(throws: DiskImageError.self) { try reader.bytes(512, at: 1 << 20) }
    #expect(throws: DiskImageError.self) { try reader.bytes(512, at: UInt64.max - 100) }
    try reader.close()
  }

  /// Damage that a repair must undo, judged by qemu-img, too.
  @Test(arguments: ["leak", "low", "copied", "no table", "dirty"])
  func repairs(_ damage: String) throws {
    var bytes = try SampleImage.make()
    let word = SampleImage.word
    let block = Int(word(bytes, Int(word(bytes, 48))))
    switch damage {
    case "leak": bytes[block + 2 * 200 + 1] = 1
    case "low": for index in block + 20..<block + 60 { bytes[index] = 0 }
    case "copied":
      let l2 = Int(word(bytes, Int(word(bytes, 40))) & 0x00ff_ffff_ffff_fe00)
      for entry in 0..<8 { bytes[l2 + 8 * entry] ^= 0x80 }
    case "no table": bytes.replaceSubrange(48..<56, with: SampleImage.big(16 * 4096))
    default: bytes[79] |= 1
    }
    if damage == "leak" { bytes += [UInt8](repeating: 0, count: max(0, 201 * 4096 - bytes.count)) }
    let content = try Qcow2Image.open(MemoryStorage(bytes), mode: .readOnly).bytes(4 << 20, at: 0)
    let storage = MemoryStorage(bytes)
    let first = try ImageChecker(storage).repair(.leaks)
    if damage == "leak" { #expect(first.status == .clean && first.repairedLeaks == 1) }
    let report = try ImageChecker(storage).repair(.all)
    #expect(report.status == .clean, "\(report.findings.prefix(3))")
    #expect(try ImageChecker(storage).check().status == .clean)
    let image = try Qcow2Image.open(storage)
    #expect(try image.bytes(4 << 20, at: 0) == content)
    try image.fill(1, 4 << 20, at: 0)
    try image.close()
    let folder = TemporaryFolder()
    HostileImageTests().writeFile(storage.bytes, folder.file("r.qcow2"))
    if Requirement.hasQemu { expectClean(folder.file("r.qcow2")) }
  }

  /// Entries that lie, in an active table and in a snapshot's: what a repair calls clean stays clean when it is written.
  @Test(arguments: [
    "bytes behind the end", "all behind the end", "on a table", "on an L2 table", "L1 on a table",
    "one table twice", "compressed on a table", "behind the end in a snapshot",
  ])
  func repairedImagesStayClean(_ damage: String) throws {
    var bytes = try SampleImage.make()
    let word = SampleImage.word
    let mask: UInt64 = 0x00ff_ffff_ffff_fe00
    let l1 = Int(word(bytes, 40))
    let l2 = Int(word(bytes, l1) & mask)
    func set(_ place: Int, _ value: UInt64) {
      bytes.replaceSubrange(place..<place + 8, with: SampleImage.big(value))
    }
    let last = UInt64(bytes.count / 4096 - 1) * 4096
    switch damage {
    case "bytes behind the end": set(l2 + 8 * 33, 1 << 62 | 20 << 58 | last + 3000)
    case "all behind the end": set(l2 + 8 * 33, 1 << 62 | 1 << 58 | last + 8192)
    case "on a table": set(l2 + 8 * 33, 1 << 63 | word(bytes, 48))
    case "on an L2 table": set(l2 + 8 * 33, 1 << 63 | UInt64(l2))
    case "L1 on a table": set(l1, 1 << 63 | word(bytes, 48))
    case "one table twice": set(l1 + 8, word(bytes, l1))
    case "compressed on a table": set(l2 + 8 * 33, 1 << 62 | UInt64(l2) + 100)
    default:
      let snapshot = Int(word(bytes, Int(word(bytes, 64))))
      set(Int(word(bytes, snapshot) & mask) + 8 * 33, 1 << 62 | 20 << 58 | last + 3000)
    }
    let storage = MemoryStorage(bytes)
    let before = try ImageChecker(storage).check()
    #expect(before.status == .corrupt)
    let report = try ImageChecker(storage).repair(.all)
    #expect(report.status == .clean, "\(report.findings.prefix(5))")
    let image = try Qcow2Image.open(storage)
    try image.fill(1, 50_000, at: 0)
    try image.fill(2, 300_000, at: 2 << 20)
    try image.createSnapshot("two")
    try image.fill(3, 300_000, at: 2 << 20)
    try image.close()
    let after = try ImageChecker(storage).check()
    #expect(after.status == .clean, "\(after.findings.prefix(5))")
    let folder = TemporaryFolder()
    HostileImageTests().writeFile(storage.bytes, folder.file("r.qcow2"))
    if Requirement.hasQemu { expectClean(folder.file("r.qcow2")) }
  }
}
