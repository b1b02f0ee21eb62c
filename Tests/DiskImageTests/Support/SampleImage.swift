// Small images in memory, and random numbers that are the same in each run.
import DiskImage

/// SplitMix64: the same numbers in each run.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

extension BlockDevice {
  func bytes(_ count: Int, at offset: UInt64) throws -> [UInt8] {
    var buffer = [UInt8](repeating: 0xee, count: count)
    try buffer.withUnsafeMutableBytes { try read(into: $0, at: offset) }
    return buffer
  }

  func put(_ bytes: [UInt8], at offset: UInt64) throws {
    try bytes.withUnsafeBytes { try write(from: $0, at: offset) }
  }

  func fill(_ value: UInt8, _ count: Int, at offset: UInt64) throws {
    try put([UInt8](repeating: value, count: count), at: offset)
  }
}

func qcow2(_ clusterBits: Int, _ change: (inout Qcow2.Options) -> Void = { _ in }) -> Qcow2.Options
{
  var options = Qcow2.Options()
  options.clusterBits = clusterBits
  change(&options)
  return options
}

/// A small image with data, a snapshot and two L2 tables, in memory.
enum SampleImage {
  static func make(_ clusterBits: Int = 12, _ change: (inout Qcow2.Options) -> Void = { _ in })
    throws -> [UInt8]
  {
    let storage = MemoryStorage()
    try Qcow2.format(
      storage, size: 4 << 20, options: qcow2(clusterBits, change), path: "memory")
    let image = try Qcow2Image.open(storage)
    try image.fill(1, 30_000, at: 0)
    try image.fill(2, 30_000, at: 3 << 20)
    try image.createSnapshot("one")
    try image.fill(3, 5_000, at: 10_000)
    try image.close()
    return storage.bytes
  }

  /// As `make`, with a bitmap that records writes: its directory and table are the last two clusters.
  static func makeWithBitmap() throws -> [UInt8] {
    var bytes = try make(12)
    let directory = (bytes.count + 4095) / 4096 * 4096
    bytes += [UInt8](repeating: 0, count: directory + 8192 - bytes.count)
    func set(_ place: Int, _ value: [UInt8]) {
      bytes.replaceSubrange(place..<place + value.count, with: value)
    }
    // In place of the feature names: the extension, and the end of all extensions.
    set(112, big(0x2385_2875, 4) + big(24, 4) + big(1, 4) + big(0, 4))
    set(128, big(32) + big(UInt64(directory)) + big(0))
    set(95, [1])
    // One table entry, records, dirty bitmap of 64 KiB pieces, a name of one byte.
    set(directory, big(UInt64(directory) + 4096) + big(1, 4) + big(2, 4))
    set(directory + 16, [1, 16, 0, 1] + big(0, 4) + [0x62])
    let storage = MemoryStorage(bytes)
    _ = try ImageChecker(storage).repair(.all)
    return storage.bytes
  }

  static func big(_ value: UInt64, _ count: Int = 8) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
  }

  static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
    bytes[offset..<offset + 8].reduce(0) { $0 << 8 | UInt64($1) }
  }
}
