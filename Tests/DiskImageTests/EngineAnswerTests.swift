// How a caller of the asynchronous engine hears of its answers: at once, by waiting, by the descriptor.
import CLinux
import DiskImage
import Glibc
import Testing

@Suite struct EngineAnswerTests {
  /// Reads of what no layer has are answered by the first reap, with zeros, also behind the end of a shorter base.
  @Test func zerosComeAtOnce() throws {
    let folder = TemporaryFolder()
    let (base, top) = (folder.file("base.qcow2"), folder.file("top.qcow2"))
    try Qcow2.create(base, size: 1 << 20, options: qcow2(16))
    try Qcow2.create(top, size: 4 << 20, options: qcow2(16) { $0.backing = (base, .qcow2) })
    let writer = try DiskImage.openQcow2(top, backing: .allowAny)
    try writer.fill(7, 1 << 16, at: 1 << 16)
    try writer.writeZeroes(at: 1 << 16, count: 1 << 16, mayUnmap: true)
    try writer.close()
    let disk = ExchangeableDisk(try DiskImage.openQcow2(top, backing: .allowAny))
    let engine = try RequestEngine(disk, depth: 8)
    guard engine.hasRing else { return }
    var bytes = [UInt8](repeating: 0xee, count: 4 << 16)
    bytes.withUnsafeMutableBytes { bytes in
      let vectors = [0, 1 << 16, 2 << 20, 3 << 20].enumerated().map { number, _ in
        iovec(iov_base: bytes.baseAddress! + number << 16, iov_len: 1 << 16)
      }
      vectors.withUnsafeBufferPointer { vectors in
        for (number, place) in [0, 1 << 16, 2 << 20, 3 << 20].enumerated() {
          _ = engine.submit(
            .read, vectors.baseAddress! + number, count: 1, at: UInt64(place),
            token: UInt64(number))
        }
        engine.commit()
        var tokens: Set<UInt64> = []
        engine.reap(waits: false) { token, error in
          #expect(error == nil)
          tokens.insert(token)
        }
        #expect(tokens == [0, 1, 2, 3])
        #expect(engine.inFlight == 0)
      }
    }
    let allZero = bytes.allSatisfy { $0 == 0 }
    #expect(allZero)
    try disk.close()
  }

  /// Whoever waits for the descriptor hears of every answer, whatever mixture of kernel and threads gives them, and also
  /// after a wait of the other kind.
  @Test(arguments: [true, false])
  func theDescriptorTellsOfEveryAnswer(usesRing: Bool) throws {
    let folder = TemporaryFolder()
    let path = folder.file("disk.qcow2")
    try Qcow2.create(path, size: 16 << 20, options: qcow2(16))
    let disk = try DiskImage.openQcow2(path)
    try disk.fill(1, 4 << 20, at: 0)
    let engine = try RequestEngine(disk, depth: 32, usesRing: usesRing)
    var random = SeededGenerator(usesRing ? 5 : 6)
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 12, alignment: 4096)
    defer { memory.deallocate() }
    memset(memory.baseAddress!, 3, memory.count)
    let vectors = (0..<32).map { iovec(iov_base: memory.baseAddress! + $0 << 12, iov_len: 4096) }
    try vectors.withUnsafeBufferPointer { vectors in
      for round in 0..<400 {
        for slot in 0..<Int.random(in: 1...12, using: &random) {
          let place = UInt64.random(in: 0..<4096, using: &random) << 12
          let kind = Int.random(in: 0..<8, using: &random)
          _ = engine.submit(
            kind == 0 ? .flush : kind < 5 ? .write : .read,
            kind == 0 ? nil : vectors.baseAddress! + slot, count: kind == 0 ? 0 : 1, at: place,
            token: UInt64(slot))
        }
        engine.commit()
        let waits = round % 3 == 2
        engine.reap(waits: waits) { #expect($1 == nil, "\($0)") }
        if waits { engine.commit() }
        while engine.inFlight > 0 {
          var entry = pollfd(fd: engine.descriptor, events: Int16(POLLIN), revents: 0)
          let ready = poll(&entry, 1, 20_000)
          try #require(ready == 1, "round \(round): \(engine.inFlight) answers are never told of")
          engine.reap(waits: false) { #expect($1 == nil, "\($0)") }
        }
      }
    }
    try disk.close()
  }
}
