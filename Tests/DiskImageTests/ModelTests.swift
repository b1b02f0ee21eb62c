// Random operations on an image and on plain memory: they always agree, and the image always checks clean.
import CLinux
import DiskImage
import Glibc
import Testing

/// One configuration of the model test.
struct ModelCase: Sendable, CustomTestStringConvertible {
  var clusterBits: Int
  var subclusters = false
  var version = 3
  var refcountBits = 16
  var backing: DiskFormat?
  var size: UInt64 = 3 << 20
  var testDescription: String {
    "2^\(clusterBits)\(subclusters ? " subclusters" : "") v\(version) \(refcountBits) bits \(backing.map { "on \($0)" } ?? "")"
  }
}

@Suite struct ModelTests {
  static let cases: [ModelCase] = [
    ModelCase(clusterBits: 9), ModelCase(clusterBits: 12), ModelCase(clusterBits: 16),
    ModelCase(clusterBits: 16, subclusters: true),
    ModelCase(clusterBits: 14, subclusters: true, backing: .raw),
    ModelCase(clusterBits: 12, version: 2), ModelCase(clusterBits: 10, version: 2, backing: .qcow2),
    ModelCase(clusterBits: 9, refcountBits: 1),
    ModelCase(clusterBits: 12, refcountBits: 64, backing: .raw),
    ModelCase(clusterBits: 16, backing: .qcow2), ModelCase(clusterBits: 21, size: 20 << 20),
    ModelCase(clusterBits: 11, refcountBits: 4, backing: .qcow2),
    // Several tables of several cached slices each.
    ModelCase(clusterBits: 13, refcountBits: 64, size: 20 << 20),
    ModelCase(clusterBits: 14, refcountBits: 64, backing: .raw, size: 40 << 20),
  ]

  @Test(arguments: cases)
  func randomOperations(_ configuration: ModelCase) throws {
    let rounds = Requirement.isLong ? 75_000 : 400
    var run = try ModelRun(configuration)
    for step in 0..<rounds {
      try run.step()
      if step % 200 == 199 { try run.reopen() }
    }
    try run.finish()
  }
}

/// An image, what it should hold, and the random numbers that drive both.
struct ModelRun {
  let folder = TemporaryFolder()
  let path: String
  var disk: Qcow2Image
  var kept: [(identifier: String, model: [UInt8])] = []
  let takesSnapshots: Bool
  var model: [UInt8]
  var random: SeededGenerator
  let policy: BackingPolicy

  init(_ configuration: ModelCase) throws {
    takesSnapshots = configuration.refcountBits > 1
    path = folder.file("image.qcow2")
    random = SeededGenerator(UInt64(configuration.clusterBits) * 1000 + configuration.size)
    model = [UInt8](repeating: 0, count: Int(configuration.size))
    var options = Qcow2.Options()
    options.clusterBits = configuration.clusterBits
    options.subclusters = configuration.subclusters
    options.version = configuration.version
    options.refcountBits = configuration.refcountBits
    policy = .allow(within: folder.path)
    if let format = configuration.backing {
      let base = folder.file("base")
      // Shorter than the overlay, and not a whole number of clusters.
      let length = configuration.size / 2 + 1536
      if format == .raw {
        shell("truncate -s \(length) '\(base)'")
      } else {
        try Qcow2.create(base, size: length, options: qcow2(13))
      }
      let parent = try DiskImage.open(base, format: format)
      for place in stride(from: 0, to: Int(length) - 5000, by: 60_000) {
        let value = UInt8(truncatingIfNeeded: place / 60_000 + 1)
        try parent.fill(value, 5000, at: UInt64(place))
        model.replaceSubrange(place..<place + 5000, with: repeatElement(value, count: 5000))
      }
      try parent.close()
      options.backing = ("base", format)
    }
    try Qcow2.create(path, size: configuration.size, options: options)
    disk = try DiskImage.openQcow2(path, backing: policy)
  }

  mutating func set(_ start: Int, _ count: Int, _ value: UInt8) {
    model.withUnsafeMutableBytes { _ = memset($0.baseAddress! + start, Int32(value), count) }
  }

  mutating func range() -> (Int, Int) {
    let count: Int
    switch Int.random(in: 0..<10, using: &random) {
    case 0..<4: count = Int.random(in: 1...4096, using: &random)
    case 4..<7: count = Int.random(in: 1...70_000, using: &random)
    case 7: count = Int.random(in: 1...model.count / 4, using: &random)
    default: count = 512 * Int.random(in: 1...64, using: &random)
    }
    var start = Int.random(in: 0...(model.count - count), using: &random)
    if Bool.random(using: &random) { start &= ~511 }
    return (start, count)
  }

  mutating func step() throws {
    let (start, count) = range()
    switch Int.random(in: 0..<20, using: &random) {
    case 0..<9:
      let value = UInt8.random(in: 1...255, using: &random)
      try disk.fill(value, count, at: UInt64(start))
      set(start, count, value)
    case 9..<15:
      #expect(try disk.bytes(count, at: UInt64(start)) == Array(model[start..<start + count]))
    case 15:
      try disk.writeZeroes(
        at: UInt64(start), count: UInt64(count), mayUnmap: Bool.random(using: &random))
      set(start, count, 0)
    case 16:
      try disk.discard(at: UInt64(start), count: UInt64(count))
      try adoptDiscard(start, count)
    case 17: try disk.flush()
    case 18:
      if takesSnapshots && Int.random(in: 0..<4, using: &random) == 0 {
        try snapshot()
      } else {
        try resize()
      }
    default: try checkExtents(start, count)
    }
  }

  mutating func snapshot() throws {
    if kept.count < 4 && Bool.random(using: &random) {
      kept.append((try disk.createSnapshot("s\(random.next())"), model))
    } else if let index = kept.indices.randomElement(using: &random) {
      switch Int.random(in: 0..<3, using: &random) {
      case 0:
        try disk.applySnapshot(kept[index].identifier)
        model = kept[index].model
        #expect(disk.size == UInt64(model.count))
      case 1: try disk.deleteSnapshot(kept.remove(at: index).identifier)
      default:
        let view = try disk.readSnapshot(kept[index].identifier)
        #expect(try view.bytes(kept[index].model.count, at: 0) == kept[index].model)
        try view.close()
      }
    }
  }

  mutating func resize() throws {
    let size = max(1 << 20, model.count + 512 * Int.random(in: -1000...1000, using: &random))
    try disk.resize(to: UInt64(size))
    if size < model.count {
      model.removeLast(model.count - size)
    } else {
      model.append(contentsOf: repeatElement(0, count: size - model.count))
    }
  }

  /// A discarded byte is as before or zero; the model takes over what it became.
  mutating func adoptDiscard(_ start: Int, _ count: Int) throws {
    let now = try disk.bytes(count, at: UInt64(start))
    if now != Array(model[start..<start + count]) {
      #expect(zip(now, model[start..<start + count]).allSatisfy { $0 == 0 || $0 == $1 })
      model.replaceSubrange(start..<start + count, with: now)
    }
  }

  /// Extents that claim zeros must be zeros.
  mutating func checkExtents(_ start: Int, _ count: Int) throws {
    var position = start
    while position < start + count {
      let extent = try disk.extent(at: UInt64(position), limit: UInt64(start + count - position))
      #expect(extent.count > 0)
      if extent.count == 0 { return }
      if extent.isZero {
        let zeros = [UInt8](repeating: 0, count: Int(extent.count))
        #expect(Array(model[position..<position + Int(extent.count)]) == zeros)
      }
      position += Int(extent.count)
    }
  }

  mutating func reopen() throws {
    try disk.close()
    if Requirement.hasQemu { expectClean(path) }
    disk = try DiskImage.openQcow2(path, backing: policy)
    #expect(try disk.bytes(model.count, at: 0) == model)
  }

  mutating func finish() throws {
    try reopen()
    try disk.close()
  }
}
