import CLinux
import GuestMemory
import Platform
import Synchronization
import Testing

@Suite struct GuestMemoryTests {
  @Test func accessesAreBoundByRegions() throws {
    let memory = try GuestMemory(size: 4 << 30)
    let hole = GuestMemory.lowMemoryLimit
    #expect(memory.regions.count == 2)
    #expect(memory.store(UInt32(0x1234_5678), at: GuestAddress(hole - 4)))
    #expect(!memory.store(UInt32(1), at: GuestAddress(hole - 3)))
    #expect(!memory.store(UInt8(1), at: GuestAddress(hole)))
    #expect(memory.load(UInt8.self, at: GuestAddress(hole - 1)) == 0x12)
    #expect(memory.store(UInt64(7), at: GuestAddress(1 << 32)))
    let end: UInt64 = (1 << 32) + (1 << 30)
    #expect(memory.load(UInt64.self, at: GuestAddress(end - 8)) == 0)
    #expect(memory.load(UInt64.self, at: GuestAddress(end - 7)) == nil)
    #expect(memory.slice(at: GuestAddress(.max), count: 2) == nil)
    #expect(memory.pointer(at: GuestAddress(0), count: .max) == nil)
  }

  @Test func sizesThatMakeNoMachineAreRefused() {
    for size: UInt64 in [0, 4096, 1 << 20 | 1, (1 << 46) + 4096, .max] {
      #expect(throws: GuestMemoryError.invalidSize(size)) { try GuestMemory(size: size) }
    }
  }

  @Test(arguments: HugePageAdvice.allCases)
  func mappingsBeginWhereHugePagesFit(_ advice: HugePageAdvice) throws {
    for size: UInt64 in [1 << 20, 2 << 20, 5 << 20 | 4096] {
      let memory = try GuestMemory(size: size, hugePages: advice)
      let start = try #require(memory.pointer(at: GuestAddress(0), count: size))
      #expect(UInt(bitPattern: start) % (2 << 20) == 0)
      memset(start, 0x5A, Int(size))
      #expect(memory.load(UInt8.self, at: GuestAddress(size - 1)) == 0x5A)
      memory.discardAll()
      #expect(memory.load(UInt8.self, at: GuestAddress(size - 1)) == 0)
    }
  }

  @Test func halfATerabyteIsMadeAtOnceAndTakesNoMemory() throws {
    let size: UInt64 = 512 << 30
    let start = MonotonicClock.now
    let memory = try GuestMemory(size: size)
    // Generous: the host is shared. Touching it all would take minutes.
    #expect(MonotonicClock.now - start < 1_000_000_000)
    let far = GuestAddress((1 << 32) + size - GuestMemory.lowMemoryLimit - 4096)
    #expect(memory.store(UInt64(1), at: GuestAddress(0x1000)))
    #expect(memory.store(UInt64(2), at: far))
    #expect(memory.load(UInt64.self, at: far) == 2)
    #expect(memory.residentSize <= 4 << 20)
    try memory.startDirtyTracking()
    #expect(memory.store(UInt64(3), at: far))
    let pages = try #require(memory.takeDirtyPages(ofRegion: 1))
    #expect(pages.dirtyCount == 1 && pages.contains(FrameNumber(containing: far)))
  }
}

@Suite struct DirtyTrackingTests {
  private func runs(_ pages: DirtyPages) -> [Range<UInt64>] {
    var list: [Range<UInt64>] = []
    pages.forEachRun { list.append($0) }
    return list
  }

  @Test func everyWayOfWritingIsSeenOnce() throws {
    let memory = try GuestMemory(size: 1 << 20)
    memory.store(UInt8(1), at: GuestAddress(0))
    #expect(memory.takeDirtyPages(ofRegion: 0)?.isEmpty == true)
    try memory.startDirtyTracking()
    memory.store(UInt32(1), at: GuestAddress(0x2FFE))  // two pages
    try memory.write([1, 2, 3], at: GuestAddress(0x5000))
    try [UInt8](repeating: 1, count: 8193).withUnsafeBytes {
      try memory.write($0, at: GuestAddress(0x3_F000))
    }
    let pointer = try #require(memory.pointer(at: GuestAddress(0xF_F000), count: 4096))
    memory.markDirty(host: pointer, count: 4096)
    memory.markDirty(at: GuestAddress(0xF_F000), count: 4097)  // beyond RAM: nothing was written
    memory.markDirty(at: GuestAddress(0x8000), count: 0)
    let pages = try #require(memory.takeDirtyPages(ofRegion: 0))
    #expect(runs(pages) == [2..<4, 5..<6, 0x3F..<0x42, 0xFF..<0x100])
    #expect(pages.dirtyCount == 7)
    #expect(memory.takeDirtyPages(ofRegion: 0)?.isEmpty == true)
    memory.stopDirtyTracking()
    memory.store(UInt8(1), at: GuestAddress(0))
    #expect(memory.takeDirtyPages(ofRegion: 0)?.isEmpty == true)
    #expect(memory.takeDirtyPages(ofRegion: 1) == nil)
    try memory.startDirtyTracking()
    memory.discardAll()
    #expect(memory.takeDirtyPages(ofRegion: 0)?.dirtyCount == 256)
  }

  @Test func regionsAboveTheHoleHaveTheirOwnPages() throws {
    let memory = try GuestMemory(size: 4 << 30)
    try memory.startDirtyTracking()
    memory.store(UInt8(1), at: GuestAddress(GuestMemory.lowMemoryLimit - 1))
    memory.store(UInt8(1), at: GuestAddress(GuestMemory.highMemoryBase))
    let low = try #require(memory.takeDirtyPages(ofRegion: 0))
    #expect(runs(low) == [0xBFFFF..<0xC0000])
    #expect(try runs(#require(memory.takeDirtyPages(ofRegion: 1))) == [0x10_0000..<0x10_0001])
  }

  @Test func logsOfTheKernelAreTakenIn() {
    var pages = DirtyPages(first: FrameNumber(rawValue: 0), count: 70)
    let log: [UInt64] = [0x8000_0000_0000_0001, .max, 5]
    pages.formUnion(bitmap: log)
    #expect(runs(pages) == [0..<1, 63..<70])
    var other = DirtyPages(first: FrameNumber(rawValue: 0), count: 70)
    other.formUnion(bitmap: [2, 0])
    pages.formUnion(other)
    #expect(runs(pages) == [0..<2, 63..<70])
    #expect(pages.contains(FrameNumber(rawValue: 69)) && !pages.contains(FrameNumber(rawValue: 70)))
    // Another region's pages are not mixed in.
    pages.formUnion(DirtyPages(first: FrameNumber(rawValue: 64), count: 70))
    #expect(pages.dirtyCount == 9)
  }

  /// Whoever copies a page after taking its mark, and every page marked later, ends with the writers' last values.
  @Test func noWriteIsLostBetweenTakingAndCopying() throws {
    let memory = try GuestMemory(size: 1 << 20)
    try memory.startDirtyTracking()
    let writers = 2
    let threads = try (0..<writers).map { writer in
      try PosixThread(name: "writer") {
        var random = UInt64(writer + 1)
        for value in 1...UInt64(200_000) {
          random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          let page = random >> 40 & 255
          memory.store(value, at: GuestAddress(page * 4096 + UInt64(writer) * 8))
        }
      }
    }
    var copy = [UInt8](repeating: 0, count: 1 << 20)
    func pass() throws {
      let pages = try #require(memory.takeDirtyPages(ofRegion: 0))
      try pages.forEachRun { run in
        for frame in run {
          let bytes = try memory.bytes(at: GuestAddress(frame * 4096), count: 4096)
          copy.replaceSubrange(Int(frame) * 4096..<Int(frame + 1) * 4096, with: bytes)
        }
      }
    }
    for _ in 0..<200 { try pass() }
    for thread in threads { thread.join() }
    try pass()
    #expect(try memory.bytes(at: GuestAddress(0), count: 1 << 20) == copy)
  }

  /// A cost that grows with every write makes a machine with a software processor slower by the minute.
  @Test func beingToldOfWritesCostsTheSameForEver() throws {
    let memory = try GuestMemory(size: 1 << 20)
    let count = Atomic<Int>(0)
    memory.observeWrites { _, _ in count.add(1, ordering: .relaxed) }
    func time(_ writes: Int) -> UInt64 {
      let begin = MonotonicClock.now
      for _ in 0..<writes { memory.store(UInt32(1), at: GuestAddress(64)) }
      return MonotonicClock.now - begin
    }
    // The least of a few: others work on this host, too.
    let first = (0..<5).map { _ in time(1000) }.min() ?? 0
    _ = time(20_000)
    let last = (0..<5).map { _ in time(1000) }.min() ?? 0
    #expect(last < 10 * first + 1_000_000)
    #expect(count.load(ordering: .relaxed) == 30_000)
  }
}
