// Power failures. All changes of a file are recorded; then the file is put together as a crash could have left it: what
// was flushed is there, of the rest an arbitrary part, sector by sector. Such an image is never corrupt, and holds what
// the guest had flushed.
import DiskImage
import Glibc
import Testing

struct CrashCase: Sendable, CustomTestStringConvertible {
  var clusterBits: Int
  var refcountBits = 16
  var subclusters = false
  var version = 3
  var hasBacking = false
  var size = 600 << 10
  var testDescription: String {
    "2^\(clusterBits) \(refcountBits) bits v\(version) \(subclusters ? "subclusters " : "")\(hasBacking ? "on a backing file" : "")"
  }
}

@Suite struct CrashTests {
  static let cases = [
    CrashCase(clusterBits: 9, refcountBits: 64, size: 5 << 19), CrashCase(clusterBits: 10),
    CrashCase(clusterBits: 12, hasBacking: true),
    CrashCase(clusterBits: 9, refcountBits: 8, version: 3, hasBacking: true),
    CrashCase(clusterBits: 14, subclusters: true, hasBacking: true),
    CrashCase(clusterBits: 10, version: 2),
  ]

  @Test(arguments: cases)
  func everyCutIsConsistent(_ configuration: CrashCase) throws {
    let seeds: ClosedRange<UInt64> = Requirement.isLong ? 1...20 : 1...1
    for seed in seeds {
      let run = try CrashRun(configuration, seed: seed)
      try run.operate(Requirement.isLong ? 400 : 120)
      try run.examine(states: Requirement.isLong ? 500 : 50)
    }
  }
}

/// A recorded history of one image, with what the guest knew to be durable at each time.
final class CrashRun {
  let configuration: CrashCase
  var random: SeededGenerator
  let storage: MemoryStorage
  let start: [UInt8]
  var image: Qcow2Image
  let backing: RawMemoryDevice?
  var model: [UInt8]
  /// After so many log entries, this content was durable.
  var durable: [(log: Int, model: [UInt8])]
  /// What later operations touched: log length before, range.
  var touched: [(log: Int, range: Range<Int>)] = []

  var kept: [(identifier: String, model: [UInt8])] = []

  init(_ configuration: CrashCase, seed: UInt64) throws {
    self.configuration = configuration
    random = SeededGenerator(seed)
    var options = Qcow2.Options()
    options.clusterBits = configuration.clusterBits
    options.refcountBits = configuration.refcountBits
    options.subclusters = configuration.subclusters
    options.version = configuration.version
    storage = MemoryStorage(records: true)
    model = [UInt8](repeating: 0, count: configuration.size)
    if configuration.hasBacking {
      for index in 0..<configuration.size / 2 {
        model[index] = UInt8(truncatingIfNeeded: index / 700 + 1)
      }
      backing = RawMemoryDevice(Array(model[..<(configuration.size / 2)]))
    } else {
      backing = nil
    }
    try Qcow2.format(storage, size: UInt64(configuration.size), options: options, path: "memory")
    storage.forgetLog()
    start = storage.bytes
    image = try Qcow2Image.open(storage, backing: backing, cacheBytes: 1 << 14)
    durable = [(0, model)]
  }

  func set(_ place: Int, _ length: Int, _ value: UInt8) {
    model.withUnsafeMutableBytes { _ = memset($0.baseAddress! + place, Int32(value), length) }
  }

  func operate(_ count: Int) throws {
    for _ in 0..<count {
      let length = Int.random(in: 1...Int.random(in: 1...40_000, using: &random), using: &random)
      let place = Int.random(in: 0...(model.count - length), using: &random)
      touched.append((storage.logCount, place..<place + length))
      switch Int.random(in: 0..<14, using: &random) {
      case 12 where configuration.refcountBits > 1:
        try snapshot()
      case 0..<6:
        let value = UInt8.random(in: 1...255, using: &random)
        try image.fill(value, length, at: UInt64(place))
        set(place, length, value)
      case 6:
        try image.writeZeroes(at: UInt64(place), count: UInt64(length))
        set(place, length, 0)
      case 7, 8:
        try image.discard(at: UInt64(place), count: UInt64(length))
        model.replaceSubrange(
          place..<place + length, with: try image.bytes(length, at: UInt64(place)))
      default:
        touched.removeLast()
        try image.flush()
        durable.append((storage.logCount, model))
      }
    }
    try image.close()
  }

  /// Creates, applies or deletes a snapshot; each is durable when it returns.
  func snapshot() throws {
    touched[touched.count - 1].range = 0..<model.count
    if kept.count < 3 && Bool.random(using: &random) {
      touched.removeLast()
      let identifier = try image.createSnapshot("snapshot \(kept.count) \(storage.logCount)")
      kept.append((identifier, model))
    } else if let index = kept.indices.randomElement(using: &random) {
      if Bool.random(using: &random) {
        try image.applySnapshot(kept[index].identifier)
        model = kept[index].model
      } else {
        touched.removeLast()
        try image.deleteSnapshot(kept.remove(at: index).identifier)
      }
    }
    durable.append((storage.logCount, model))
    #expect(try image.bytes(model.count, at: 0) == model)
  }

  func examine(states: Int) throws {
    let log = storage.log
    for _ in 0..<states {
      let cut = Int.random(in: 0...log.count, using: &random)
      let bytes = state(log, cut)
      let report = try ImageChecker(MemoryStorage(bytes)).check()
      #expect(
        report.status != .corrupt, "cut at \(cut) of \(log.count): \(report.findings.prefix(5))")
      try compare(bytes, cut)
      if report.status == .corrupt { return }
    }
  }

  /// The file after a crash when `cut` changes had been issued.
  func state(_ log: [StorageEvent], _ cut: Int) -> [UInt8] {
    var bytes = start
    var lastFlush = -1
    for index in 0..<cut { if case .flush = log[index] { lastFlush = index } }
    let mode = Int.random(in: 0..<3, using: &random)
    for index in 0..<cut {
      if index <= lastFlush || mode == 0 {
        MemoryStorage.apply(log[index], to: &bytes)
      } else if mode == 1 {
        if Bool.random(using: &random) { MemoryStorage.apply(log[index], to: &bytes) }
      } else if case .write(let offset, let data) = log[index] {
        for piece in stride(from: 0, to: data.count, by: 512) where Bool.random(using: &random) {
          MemoryStorage.apply(
            .write(offset + UInt64(piece), Array(data[piece..<min(piece + 512, data.count)])),
            to: &bytes)
        }
      } else {
        MemoryStorage.apply(log[index], to: &bytes)
      }
    }
    return bytes
  }

  /// Whatever was durable and not touched since is there.
  func compare(_ bytes: [UInt8], _ cut: Int) throws {
    guard let known = durable.last(where: { $0.log <= cut }) else { return }
    let disk = try Qcow2Image.open(MemoryStorage(bytes), mode: .readOnly, backing: backing)
    guard disk.size == UInt64(known.model.count) else { return }
    var found = try disk.bytes(known.model.count, at: 0)
    for (log, range) in touched where log >= known.log && log <= cut {
      found.withUnsafeMutableBytes { target in
        known.model.withUnsafeBytes {
          _ = memcpy(
            target.baseAddress! + range.lowerBound, $0.baseAddress! + range.lowerBound, range.count)
        }
      }
    }
    if found != known.model {
      let first =
        zip(found, known.model).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? -1
      Issue.record("cut at \(cut): byte \(first) was durable and is lost")
    }
  }
}

/// A read-only disk in memory.
final class RawMemoryDevice: BlockDevice {
  let content: [UInt8]
  let path = "memory"
  let isReadOnly = true
  init(_ content: [UInt8]) { self.content = content }
  var size: UInt64 { UInt64(content.count) }
  func readVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64) {
    var position = Int(offset)
    for index in 0..<count {
      content.withUnsafeBytes {
        _ = memcpy(vectors[index].iov_base, $0.baseAddress! + position, vectors[index].iov_len)
      }
      position += vectors[index].iov_len
    }
  }
  func writeVectors(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    throw DiskImageError(.readOnly, path, "is for reading")
  }
  func flush() {}
  func discard(at offset: UInt64, count: UInt64) {}
  func writeZeroes(at offset: UInt64, count: UInt64, mayUnmap: Bool) {}
  func extent(at offset: UInt64, limit: UInt64) -> BlockExtent {
    BlockExtent(
      count: min(limit, size - offset), isZero: false, isAllocated: true, hostOffset: offset)
  }
  func resize(to size: UInt64) {}
  func close() {}
}
