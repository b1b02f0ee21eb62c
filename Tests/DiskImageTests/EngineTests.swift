// The asynchronous engine gives what the blocking calls give, with and without io_uring.
import CLinux
import DiskImage
import Glibc
import Platform
import Synchronization
import Testing

@Suite struct EngineTests {
  /// Requests to different places in flight together, in an overlay whose base has plain, compressed and missing
  /// clusters; what the blocking calls read afterwards is what was written.
  @Test(arguments: [true, false], [false, true])
  func manyInFlight(usesRing: Bool, direct: Bool) throws {
    let folder = TemporaryFolder()
    let (base, top) = (folder.file("base.qcow2"), folder.file("top.qcow2"))
    try Qcow2.create(base, size: 8 << 20, options: qcow2(16))
    let lower = try DiskImage.openQcow2(base)
    try lower.fill(9, 3 << 20, at: 1 << 20)
    try lower.close()
    try Qcow2.create(
      top, size: 8 << 20, options: qcow2(16) { $0.backing = (base, .qcow2) })
    var options = OpenOptions()
    options.direct = direct
    let disk = try DiskImage.openQcow2(top, backing: .allowAny, options: options)
    let engine = try RequestEngine(disk, depth: 32, usesRing: usesRing)
    var random = SeededGenerator(usesRing ? 3 : 4)
    var model = [UInt8](repeating: 0, count: 8 << 20)
    for index in 1 << 20..<4 << 20 { model[index] = 9 }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 16, alignment: 4096)
    let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 32)
    defer {
      memory.deallocate()
      vectors.deallocate()
    }
    for round in 0..<60 {
      // 32 places that do not overlap: the order in which they are done does not matter.
      let places = Array(0..<128).shuffled(using: &random).prefix(32)
      var reads: [Int: Int] = [:]
      for (slot, place) in places.enumerated() {
        let offset = place << 16 + Int.random(in: 0..<8, using: &random) << 12
        let count = Int.random(in: 1...8, using: &random) << 12
        let start = memory.baseAddress! + slot << 16
        vectors[slot] = iovec(iov_base: start, iov_len: count)
        let isWrite = Bool.random(using: &random)
        if isWrite {
          let value = UInt8.random(in: 0...255, using: &random)
          memset(start, Int32(value), count)
          model.replaceSubrange(
            offset..<offset + count, with: repeatElement(value, count: count))
        } else {
          reads[slot] = offset
        }
        #expect(
          engine.submit(
            isWrite ? .write : .read, vectors + slot, count: 1, at: UInt64(offset),
            token: UInt64(slot)))
      }
      #expect(engine.isFull)
      #expect(!engine.submit(.flush, token: 99))
      engine.commit()
      while engine.inFlight > 0 {
        engine.reap(waits: true) { token, error in
          #expect(error == nil)
          if let offset = reads[Int(token)] {
            let vector = vectors[Int(token)]
            let length = vector.iov_len
            let bytes = UnsafeRawBufferPointer(start: vector.iov_base, count: length)
            #expect(
              model[offset..<offset + length].elementsEqual(bytes), "round \(round)")
          }
        }
      }
      if round % 10 == 9 {
        _ = engine.submit(.discard, bytes: 1 << 16, at: 0, token: 1)
        _ = engine.submit(.writeZeroes(mayUnmap: true), bytes: 1 << 16, at: 1 << 16, token: 2)
        _ = engine.submit(.flush, token: 3)
        while engine.inFlight > 0 { engine.reap(waits: true) { #expect($1 == nil, "\($0)") } }
        try disk.writeZeroes(at: 0, count: 1 << 16, mayUnmap: false)
        for index in 0..<2 << 16 { model[index] = 0 }
      }
    }
    #expect(try disk.bytes(model.count, at: 0) == model)
    try disk.close()
    if Requirement.hasQemu { expectClean(top) }
  }

  @Test(arguments: [true, false])
  func errorsComeWithTheirToken(usesRing: Bool) throws {
    let folder = TemporaryFolder()
    let path = folder.file("small.raw")
    try RawImage.create(path, size: 1 << 20)
    let disk = try DiskImage.open(path, format: .raw, mode: .readOnly)
    let engine = try RequestEngine(disk, usesRing: usesRing)
    var bytes = [UInt8](repeating: 1, count: 4096)
    bytes.withUnsafeMutableBytes { bytes in
      var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
      _ = engine.submit(.read, &vector, count: 1, at: (1 << 20) - 4095, token: 1)
      _ = engine.submit(.write, &vector, count: 1, at: 0, token: 2)
      _ = engine.submit(.read, &vector, count: 1, at: 8192, token: 3)
      var errors: [UInt64: DiskImageError?] = [:]
      while engine.inFlight > 0 { engine.reap(waits: true) { errors[$0] = $1 } }
      #expect(errors[1]??.code == .outOfRange)
      #expect(errors[2]??.code == .readOnly)
      #expect(errors[3] == .some(nil))
    }
    #expect(bytes.allSatisfy { $0 == 0 })
  }

  /// An operation on the whole image waits for what is in flight, and what is submitted meanwhile waits for it: neither
  /// for ever.
  @Test(arguments: [true, false])
  func snapshotsBetweenRequests(usesRing: Bool) throws {
    let folder = TemporaryFolder()
    let path = folder.file("disk.qcow2")
    try Qcow2.create(path, size: 4 << 20, options: qcow2(16))
    let disk = try DiskImage.openQcow2(path)
    try disk.fill(1, 4 << 20, at: 0)
    let engine = try RequestEngine(disk, depth: 16, usesRing: usesRing)
    let isDone = Atomic<Bool>(false)
    let thread = try PosixThread(name: "snapshots") {
      for number in 0..<20 {
        _ = try? disk.createSnapshot("s\(number)")
        _ = try? disk.deleteSnapshot("s\(number)")
      }
      isDone.store(true, ordering: .releasing)
    }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 12, alignment: 4096)
    defer { memory.deallocate() }
    memset(memory.baseAddress!, 2, memory.count)
    var vectors = (0..<16).map { iovec(iov_base: memory.baseAddress! + $0 << 12, iov_len: 4096) }
    var rounds: UInt64 = 0
    vectors.withUnsafeMutableBufferPointer { vectors in
      while !isDone.load(ordering: .acquiring) || rounds < 50 {
        for slot in 0..<16 {
          let offset = (rounds &* 16 &+ UInt64(slot)) % 1024 << 12
          _ = engine.submit(
            slot % 2 == 0 ? .write : .read, vectors.baseAddress! + slot, count: 1, at: offset,
            token: 0)
        }
        while engine.inFlight > 0 { engine.reap(waits: true) { #expect($1 == nil) } }
        rounds += 1
      }
    }
    thread.join()
    try disk.close()
    if Requirement.hasQemu { expectClean(path) }
  }
}
