import Devices
import GuestMemory
import Testing

/// What devices write behind the processors' backs is marked, or a snapshot of a running guest would miss it.
@Suite struct VirtioDirtyTrackingTests {
  @Test func readRequestMarksDataStatusAndRing() throws {
    let board = try PCITestBoard()
    let transport = VirtioPCITransport(
      try VirtioBlock(backend: MemoryDisk(size: 1 << 20)), memory: board.memory, sink: board.sink)
    board.host.attach(transport, at: PCIAddress(device: 2))
    let driver = VirtioTestDriver(board, device: 2, interface: .modern)
    driver.start()
    try board.memory.startDirtyTracking()
    let data = driver.bufferBase + 0x4000
    let parts: [VirtioTestDriver.Buffer] = [
      .init(address: data, length: 4096, isWritable: true),
      .init(address: data + 0x2000, length: 4096, isWritable: true),
    ]
    #expect(driver.block(type: 0, sector: 0, data: parts) == 0)
    transport.pause()
    let pages = try #require(board.memory.takeDirtyPages(ofRegion: 0))
    func isMarked(_ address: UInt64) -> Bool {
      pages.contains(FrameNumber(containing: GuestAddress(address)))
    }
    #expect(isMarked(data) && isMarked(data + 0x2000))
    #expect(!isMarked(data + 0x1000), "nobody wrote between the buffers")
    #expect(isMarked(driver.bufferBase + 0x100), "the status byte")
    #expect(isMarked(driver.layouts[0].used))
    transport.resume()
  }
}
