import CLinux
import Devices
import GuestMemory
import Platform
import Synchronization
import Testing

/// A disk whose transfers are done when the test says so, the last one first.
final class HeldDisk: BlockBackend {
  struct Transfer: Sendable {
    var kind: BlockTransfer
    var offset: UInt64
    var token: Int
  }
  let waiting = Mutex<[Transfer]>([])
  let done = Mutex<[(token: Int, error: BlockBackendError?)]>([])
  let isHeld = Atomic<Bool>(true)
  /// Transfers that it takes at once at most.
  let room = Atomic<Int>(64)
  /// Transfers in flight at each write-zeroes.
  let zeroesWithInFlight = Mutex<[Int]>([])
  let notifier: EventNotifier
  let size: UInt64 = 1 << 20
  let isReadOnly = false

  init() throws { notifier = try EventNotifier() }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) {
    buffer.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: offset / 512))
  }
  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) {}
  func flush() {}
  func discard(at offset: UInt64, count: UInt64) {}
  func writeZeroes(at offset: UInt64, count: UInt64) {
    zeroesWithInFlight.withLock { $0.append(waiting.withLock { $0.count }) }
  }

  func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)? { Queue(self) }

  /// Everything that waits is done, with `error`.
  func finish(_ error: BlockBackendError? = nil) {
    let transfers = waiting.withLock { waiting in
      defer { waiting = [] }
      return waiting
    }
    done.withLock { $0 += transfers.reversed().map { ($0.token, error) } }
    notifier.signal()
  }

  final class Queue: BlockTransferQueue {
    let disk: HeldDisk
    var inFlight = 0
    init(_ disk: HeldDisk) { self.disk = disk }
    var descriptor: Int32 { disk.notifier.rawDescriptor }

    func submit(
      _ transfer: BlockTransfer, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64,
      token: Int
    ) -> Bool {
      guard inFlight < disk.room.load(ordering: .relaxed) else { return false }
      if transfer == .read, let base = vectors.first?.iov_base {
        memset(base, Int32(offset / 512 & 0xFF), vectors.first.map { Int($0.iov_len) } ?? 0)
      }
      disk.waiting.withLock { $0.append(.init(kind: transfer, offset: offset, token: token)) }
      inFlight += 1
      return true
    }
    func commit() {}
    func reap(waits: Bool, _ body: (Int, BlockBackendError?) -> Void) {
      repeat {
        if !disk.isHeld.load(ordering: .acquiring) { disk.finish() }
        let answers = disk.done.withLock { done in
          defer { done = [] }
          return done
        }
        disk.notifier.drain()
        for answer in answers {
          inFlight -= 1
          body(answer.token, answer.error)
        }
        if !answers.isEmpty { return }
        if waits { usleep(500) }
      } while waits && inFlight > 0
    }
  }
}

@Suite struct VirtioBlockQueueTests {
  typealias Driver = VirtioTestDriver

  struct Rig {
    let board: PCITestBoard
    let disk: HeldDisk
    let block: VirtioBlock
    let transport: VirtioPCITransport
    let driver: Driver

    init() throws {
      board = try PCITestBoard()
      disk = try HeldDisk()
      block = try VirtioBlock(backend: disk)
      transport = VirtioPCITransport(block, memory: board.memory, sink: board.sink)
      board.host.attach(transport, at: PCIAddress(device: 3))
      driver = Driver(board, device: 3, interface: .modern)
      driver.start()
    }

    func place(_ number: Int) -> UInt64 { driver.bufferBase + UInt64(number) * 0x2000 }

    /// Reads sector `number` into a place of its own; does not wait.
    func offer(_ number: Int, type: UInt32 = 0) {
      let base = place(number)
      board.memory.store(type, at: GuestAddress(base))
      board.memory.store(UInt32(0), at: GuestAddress(base + 4))
      board.memory.store(UInt64(number), at: GuestAddress(base + 8))
      board.memory.store(UInt8(0xFF), at: GuestAddress(base + 0x100))
      driver.chain(
        0,
        [
          .init(address: base, length: 16),
          .init(address: base + 0x1000, length: 512, isWritable: true),
          .init(address: base + 0x100, length: 1, isWritable: true),
        ], first: number * 3)
      driver.offer(0, head: UInt16(number * 3))
    }

    func status(_ number: Int) -> UInt8 {
      board.memory.load(at: GuestAddress(place(number) + 0x100)) ?? 0xEE
    }
  }

  @Test(arguments: [0, 3]) func aFullQueueIsNoError(room: Int) throws {
    let rig = try Rig()
    rig.disk.room.store(room, ordering: .relaxed)
    for number in 0..<8 { rig.offer(number) }
    rig.driver.kick(0)
    if room > 0 {
      #expect(eventually { rig.disk.waiting.withLock { $0.count } == room })
      #expect(rig.driver.usedIndex(0) == 0)
    }
    rig.disk.isHeld.store(false, ordering: .releasing)
    #expect(eventually { rig.driver.usedIndex(0) == 8 })
    for number in 0..<8 {
      #expect(rig.status(number) == 0)
      let data = try rig.board.memory.bytes(
        at: GuestAddress(rig.place(number) + 0x1000), count: 512)
      #expect(data.allSatisfy { $0 == UInt8(number) })
    }
  }

  @Test func manyRequestsAreInFlightAndAnsweredInAnyOrder() throws {
    let rig = try Rig()
    for number in 0..<8 { rig.offer(number) }
    rig.driver.kick(0)
    #expect(eventually { rig.disk.waiting.withLock { $0.count } == 8 })
    #expect(rig.driver.usedIndex(0) == 0)
    for number in 0..<8 { #expect(rig.status(number) == 0xFF) }
    rig.disk.finish()
    #expect(eventually { rig.driver.usedIndex(0) == 8 })
    for number in 0..<8 {
      #expect(rig.status(number) == 0)
      let data = try rig.board.memory.bytes(
        at: GuestAddress(rig.place(number) + 0x1000), count: 512)
      #expect(data.allSatisfy { $0 == UInt8(number) })
    }
    #expect(rig.block.statistics.reads == 8)
  }

  /// A disk that lets nothing in until all that is inside has ended holds up what blocks: it must not be the thread that
  /// would end the others.
  @Test func whatBlocksWaitsForTheTransfersOfItsThread() throws {
    let rig = try Rig()
    for number in 0..<3 { rig.offer(number) }
    let base = rig.place(3)
    rig.board.memory.store(UInt32(13), at: GuestAddress(base))
    rig.board.memory.store(UInt64(8), at: GuestAddress(base + 0x200))
    rig.board.memory.store(UInt32(4), at: GuestAddress(base + 0x208))
    rig.board.memory.store(UInt32(0), at: GuestAddress(base + 0x20C))
    rig.driver.chain(
      0,
      [
        .init(address: base, length: 16), .init(address: base + 0x200, length: 16),
        .init(address: base + 0x100, length: 1, isWritable: true),
      ], first: 9)
    rig.driver.offer(0, head: 9)
    rig.driver.kick(0)
    #expect(eventually { rig.disk.waiting.withLock { $0.count } == 3 })
    usleep(20_000)
    #expect(rig.disk.zeroesWithInFlight.withLock { $0.isEmpty })
    rig.disk.finish()
    #expect(eventually { rig.driver.usedIndex(0) == 4 })
    #expect(rig.disk.zeroesWithInFlight.withLock { $0 } == [0])
    #expect(rig.status(3) == 0)
  }

  @Test func anErrorGoesToItsRequest() throws {
    let rig = try Rig()
    rig.offer(0)
    rig.driver.kick(0)
    #expect(eventually { rig.disk.waiting.withLock { $0.count } == 1 })
    rig.disk.finish(.noSpace)
    #expect(eventually { rig.status(0) == 1 })
    #expect(rig.block.statistics.errors == 1)
  }

  /// When `pause` returns the device works on guest memory no more, and the position of the queue is all its state.
  @Test func pausingWaitsForWhatIsInFlight() throws {
    let rig = try Rig()
    for number in 0..<4 { rig.offer(number) }
    rig.driver.kick(0)
    #expect(eventually { rig.disk.waiting.withLock { $0.count } == 4 })
    rig.disk.isHeld.store(false, ordering: .releasing)
    rig.transport.pause()
    #expect(rig.driver.usedIndex(0) == 4)
    for number in 0..<4 { #expect(rig.status(number) == 0) }
    let position = rig.block.queuePositions.first.flatMap { $0 }
    #expect(position?.nextAvailable == 4)
    #expect(position?.usedIndex == 4)
    rig.offer(4)
    rig.driver.kick(0)
    usleep(20_000)
    #expect(rig.driver.usedIndex(0) == 4)
    rig.transport.resume()
    #expect(eventually { rig.driver.usedIndex(0) == 5 })
  }

  @Test func aResetWaitsForWhatIsInFlight() throws {
    let rig = try Rig()
    rig.offer(0)
    rig.driver.kick(0)
    #expect(eventually { rig.disk.waiting.withLock { $0.count } == 1 })
    rig.disk.isHeld.store(false, ordering: .releasing)
    rig.driver.status = 0
    #expect(rig.driver.status == 0)
    #expect(rig.disk.waiting.withLock { $0.isEmpty })
    #expect(rig.status(0) == 0)
  }
}
