import CLinux
import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

/// What a kick does on the thread that kicks.
@Suite struct VirtioNetworkRingTests {
  private static let mac = HardwareAddress(0x02_00_00_00_00_07)

  private struct Rig {
    let cable = TestCable()
    let adapter: VirtioNetwork
    let board: PCITestBoard
    let driver: VirtioTestDriver

    init() throws {
      adapter = try VirtioNetwork(backend: cable, options: .init(address: mac))
      board = try PCITestBoard()
      let transport = VirtioPCITransport(adapter, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 3))
      driver = VirtioTestDriver(board, device: 3, interface: .modern)
      driver.start(queues: 3)
    }

    /// A frame of so many bytes, with its header before it in one buffer; returns the thread that sent it.
    func send(_ count: Int) throws -> Int32? {
      let target = VirtioNetworkRingTests.mac.bytes
      let frame =
        [UInt8](repeating: 0, count: 12) + target
        + [UInt8](repeating: 0xAB, count: count - target.count)
      try board.memory.write(frame, at: GuestAddress(driver.bufferBase))
      let buffer = VirtioTestDriver.Buffer(
        address: driver.bufferBase, length: UInt32(frame.count))
      guard driver.run(1, [buffer]) != nil else { return nil }
      return cable.threads.last
    }

    /// Sends until it has been this thread that did, with time for the adapter's to fall asleep between the tries.
    func sendsItself(_ count: Int, tries: Int = 200) throws -> Bool {
      for _ in 0..<tries {
        usleep(2000)
        if try send(count) == linux_gettid() { return true }
      }
      return false
    }

    /// One receive buffer at `bufferBase + 1 MiB`.
    func offer() {
      driver.setDescriptor(
        0, 0, address: driver.bufferBase + 0x10_0000, length: 2000, flags: 2)
      driver.offer(0, head: 0)
      driver.kick(0)
    }
  }

  @Test func aSmallFrameIsSentAndAnsweredByWhoKicks() throws {
    let rig = try Rig()
    #expect(try rig.sendsItself(100))
    rig.offer()
    rig.cable.guarded.withLock { $0.echoes = true }
    // A frame of which the answer is in the guest's hands when the kick returns.
    usleep(20_000)
    let thread = try rig.send(100)
    #expect(thread != nil)
    #expect(rig.driver.waitUsed(0) != nil)
  }

  @Test func aLargeFrameIsLeftToTheThread() throws {
    let rig = try Rig()
    #expect(try rig.sendsItself(100))
    #expect(try !rig.sendsItself(20_000, tries: 20))
  }

  @Test func nothingIsSentWhilePaused() throws {
    let rig = try Rig()
    #expect(try rig.sendsItself(100))
    rig.adapter.pause()
    let count = rig.cable.sent.count
    let buffer = VirtioTestDriver.Buffer(address: rig.driver.bufferBase, length: 112)
    rig.driver.chain(1, [buffer])
    rig.driver.offer(1, head: 0)
    rig.driver.kick(1)
    usleep(20_000)
    #expect(rig.cable.sent.count == count)
    rig.adapter.resume()
    #expect(eventually { rig.cable.sent.count == count + 1 })
  }

  /// The thread sleeps, and knows nothing of what the frame made the other end wait for.
  @Test func whatTheOtherEndWaitsForSinceIsNoticed() throws {
    let rig = try Rig()
    let answer = try EventNotifier()
    #expect(try rig.sendsItself(100))
    rig.offer()
    usleep(20_000)
    rig.cable.guarded.withLock { $0.answer = answer }
    #expect(try rig.send(100) != nil)
    usleep(20_000)
    rig.cable.guarded.withLock {
      $0.waiting = [(Self.mac.bytes + [UInt8](repeating: 1, count: 60), NetworkHeader())]
    }
    answer.signal()
    #expect(rig.driver.waitUsed(0) != nil)
  }

  /// A guest that sends all the time gets on better with a second thread.
  @Test func aStreamIsTheThreadsWork() throws {
    let rig = try Rig()
    #expect(try rig.sendsItself(100))
    for _ in 0..<400 { #expect(try rig.send(60) != nil) }
    let threads = rig.cable.threads.suffix(400)
    let others = threads.count { $0 != linux_gettid() }
    #expect(others > 0)
  }
}
