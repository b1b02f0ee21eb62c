// A disk that is copied while it is written: with what is told of the writes the copy is complete.
import CLinux
import DiskImage
import Glibc
import Platform
import Synchronization
import Testing

@Suite struct TrackedCopyTests {
  private final class Flag: Sendable {
    let isSet = Atomic<Bool>(false)
  }

  private static let size: UInt64 = 8 << 20
  private static let piece = 24 << 10

  /// Writes everywhere, with many requests in flight, until it is told to stop.
  private func write(_ disk: ExchangeableDisk, usesRing: Bool, until stop: Flag) {
    guard let engine = try? RequestEngine(disk, depth: 16, usesRing: usesRing) else { return }
    let memory = UnsafeMutableRawBufferPointer.allocate(
      byteCount: 16 * Self.piece, alignment: 4096)
    let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 16)
    defer {
      memory.deallocate()
      vectors.deallocate()
    }
    var random = SystemRandomNumberGenerator()
    while !stop.isSet.load(ordering: .relaxed) {
      for slot in 0..<16 {
        guard let start = memory.baseAddress.map({ $0 + slot * Self.piece }) else { return }
        memset(start, Int32(UInt8.random(in: 0...255, using: &random)), Self.piece)
        vectors[slot] = iovec(iov_base: start, iov_len: Self.piece)
        let place = UInt64.random(in: 0..<Self.size / 4096 - 8, using: &random) * 4096
        _ = engine.submit(.write, vectors + slot, count: 1, at: place, token: UInt64(slot))
      }
      engine.commit()
      while engine.inFlight > 0 { engine.reap(waits: true) { #expect($1 == nil, "\($0)") } }
      let hole = UInt64.random(in: 0..<Self.size >> 16, using: &random) << 16
      try? disk.writeZeroes(at: hole, count: 1 << 16, mayUnmap: true)
    }
  }

  @Test(arguments: [true, false], [DiskFormat.qcow2, .raw])
  func copyIsComplete(usesRing: Bool, format: DiskFormat) throws {
    let folder = TemporaryFolder()
    let file = folder.file("disk")
    if format == .qcow2 {
      try Qcow2.create(file, size: Self.size)
    } else {
      try RawImage.create(file, size: Self.size)
    }
    let disk = ExchangeableDisk(try DiskImage.open(file, format: format))
    let stop = Flag()
    let writer = try PosixThread(name: "writer") { write(disk, usesRing: usesRing, until: stop) }
    usleep(20_000)
    var copy = [UInt8](repeating: 0, count: Int(Self.size))
    func take(_ ranges: [Range<UInt64>]) throws {
      for range in ranges {
        try copy.withUnsafeMutableBytes { bytes in
          let part = bytes[Int(range.lowerBound)..<Int(range.upperBound)]
          try disk.read(
            into: UnsafeMutableRawBufferPointer(rebasing: part), at: range.lowerBound)
        }
      }
    }
    #expect(disk.startTracking(milliseconds: 5000))
    try take([0..<Self.size])
    var told = 0
    for _ in 0..<20 {
      usleep(2000)
      let ranges = try #require(disk.takeWritten(milliseconds: 5000))
      told += ranges.count
      try take(ranges)
    }
    stop.isSet.store(true, ordering: .relaxed)
    writer.join()
    try take(try #require(disk.takeWritten(milliseconds: 5000)))
    let rest = disk.takeWritten(milliseconds: 5000)
    #expect(rest == [])
    disk.stopTracking()
    var content = [UInt8](repeating: 1, count: Int(Self.size))
    try content.withUnsafeMutableBytes { try disk.read(into: $0, at: 0) }
    let isEqual = content == copy
    #expect(isEqual)
    #expect(told > 10)
    try disk.close()
  }
}
