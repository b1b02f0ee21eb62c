// A layer put on top of a disk that is in use: nothing is lost, and what is below is never written again.
import CLinux
import DiskImage
import Glibc
import Platform
import Synchronization
import Testing

@Suite struct ExchangeTests {
  private final class Flag: Sendable {
    let isSet = Atomic<Bool>(false)
  }

  /// Writers with many requests in flight while layers are put on top; each layer shows what was there at its moment.
  @Test(arguments: [true, false], [DiskFormat.qcow2, .raw])
  func layersUnderLoad(usesRing: Bool, format: DiskFormat) throws {
    let folder = TemporaryFolder()
    let size: UInt64 = 8 << 20
    var files = [folder.file("base")]
    if format == .qcow2 {
      try Qcow2.create(files[0], size: size)
    } else {
      try RawImage.create(files[0], size: size)
    }
    let disk = ExchangeableDisk(try DiskImage.open(files[0], format: format))
    let stop = Flag()
    let writer = try PosixThread(name: "writer") {
      guard let engine = try? RequestEngine(disk, depth: 32, usesRing: usesRing) else { return }
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 16, alignment: 4096)
      let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 32)
      defer {
        memory.deallocate()
        vectors.deallocate()
      }
      var round: UInt8 = 0
      while !stop.isSet.load(ordering: .relaxed) || engine.inFlight > 0 {
        round &+= 1
        for slot in 0..<32 {
          let start = memory.baseAddress! + slot << 16
          memset(start, Int32(round), 1 << 16)
          vectors[slot] = iovec(iov_base: start, iov_len: 1 << 16)
          _ = engine.submit(
            .write, vectors + slot, count: 1, at: UInt64(slot) << 17, token: UInt64(slot))
        }
        engine.commit()
        while engine.inFlight > 0 { engine.reap(waits: true) { #expect($1 == nil, "\($0)") } }
        // Nothing ends in the middle of a round.
        if stop.isSet.load(ordering: .relaxed) { return }
      }
    }
    var shown: [[UInt8]] = []
    for number in 1...6 {
      usleep(20_000)
      let file = folder.file("layer\(number)")
      var options = Qcow2.Options()
      options.backing = (files[number - 1], number == 1 ? format : .qcow2)
      try Qcow2.create(file, size: size, options: options)
      let layer = try disk.prepareLayer(file)
      #expect(disk.shut(milliseconds: 5000))
      try disk.settle()
      disk.exchange(for: layer)
      disk.open()
      files.append(file)
      // The file below is free for other readers, and keeps what it has.
      let below = try DiskImage.open(
        files[number - 1], format: number == 1 ? format : .qcow2, mode: .readOnly,
        backing: .allowAny)
      shown.append(try bytes(below))
      try below.close()
    }
    usleep(20_000)
    stop.isSet.store(true, ordering: .relaxed)
    writer.join()
    let last = try bytes(disk)
    try disk.close()
    for (number, content) in shown.enumerated() {
      let again = try DiskImage.open(
        files[number], format: number == 0 ? format : .qcow2, mode: .readOnly, backing: .allowAny)
      let isSame = try bytes(again) == content
      #expect(isSame, "layer \(number) changed after it was covered")
      try again.close()
    }
    let top = try DiskImage.open(
      files[6], format: .qcow2, mode: .readOnly, backing: .allowAny)
    let isSame = try bytes(top) == last
    #expect(isSame)
    try top.close()
    // Each of the writer's places holds one of its rounds, whole.
    for slot in 0..<32 {
      let place = last[slot << 17..<slot << 17 + 1 << 16]
      let first = place.first ?? 0
      let isWhole = place.allSatisfy { $0 == first } && first != 0
      #expect(isWhole, "slot \(slot)")
    }
  }

  @Test func aLayerThatIsNotUsedLeavesTheDiskAsItWas() throws {
    let folder = TemporaryFolder()
    let (base, top) = (folder.file("base"), folder.file("top"))
    try Qcow2.create(base, size: 1 << 20)
    let disk = ExchangeableDisk(try DiskImage.open(base, format: .qcow2))
    var options = Qcow2.Options()
    options.backing = (base, .qcow2)
    try Qcow2.create(top, size: nil, options: options)
    do {
      let layer = try disk.prepareLayer(top)
      #expect(disk.shut(milliseconds: 1000))
      try disk.settle()
      disk.open()
      _ = layer
    }
    var data = [UInt8](repeating: 7, count: 4096)
    try data.withUnsafeBytes { try disk.write(from: $0, at: 0) }
    data = Array(repeating: 0, count: 4096)
    try data.withUnsafeMutableBytes { try disk.read(into: $0, at: 0) }
    let isThere = data.allSatisfy { $0 == 7 }
    #expect(isThere)
    try disk.close()
    // One of another size is refused.
    let other = folder.file("other")
    try Qcow2.create(other, size: 2 << 20)
    let again = ExchangeableDisk(try DiskImage.open(base, format: .qcow2))
    #expect(throws: DiskImageError.self) { _ = try again.prepareLayer(other) }
    try again.close()
  }

  @Test func differencesByRange() throws {
    let folder = TemporaryFolder()
    let (base, left, right) = (folder.file("base"), folder.file("left"), folder.file("right"))
    try Qcow2.create(base, size: 4 << 20)
    let lower = try DiskImage.openQcow2(base)
    try lower.fill(1, 2 << 20, at: 0)
    try lower.close()
    var options = Qcow2.Options()
    options.backing = (base, .qcow2)
    for file in [left, right] { try Qcow2.create(file, size: nil, options: options) }
    let one = try DiskImage.openQcow2(left, backing: .allowAny)
    try one.fill(2, 4096, at: 65536)
    // Written, and the same.
    try one.fill(1, 4096, at: 1 << 20)
    let other = try DiskImage.openQcow2(right, backing: .allowAny)
    try other.fill(3, 1 << 17, at: 3 << 20)
    let found = try DiskDifference.ranges(
      one, files: [left, base], other, files: [right, base])
    #expect(found == [65536..<131072, 3 << 20..<3 << 20 + 1 << 17])
    try one.close()
    try other.close()
  }

  private func bytes(_ disk: any BlockDevice) throws -> [UInt8] {
    var data = [UInt8](repeating: 0, count: Int(disk.size))
    try data.withUnsafeMutableBytes { try disk.read(into: $0, at: 0) }
    return data
  }
}
