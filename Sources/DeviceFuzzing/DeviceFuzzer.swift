import Devices
import GuestMemory
import Platform
import Processor
import Synchronization

/// A guest gone mad: random accesses, biased to where something is and to values that are nearly right.
///
/// The same seed gives the same accesses; device threads make the interleaving differ from run to run.
package final class DeviceFuzzer {
  package let board: FuzzBoard
  /// Accesses so far, for a watcher on another thread: one that stands still is a hang.
  package let progress: FuzzProgress
  var random: SeededGenerator
  var drivers: [FuzzDriver]
  var storage: FuzzStorageDriver
  var report: FuzzReport

  /// How much the process may grow after the warm-up, whatever the number of accesses.
  package static let growthLimit = 32 << 20

  /// - Parameter companions: networks that the adapters' frames go to as well.
  package init(
    seed: UInt64, progress: FuzzProgress = FuzzProgress(),
    companions: (virtio: any NetworkBackend, plain: any NetworkBackend)? = nil
  ) throws {
    board = try FuzzBoard(companions: companions)
    self.progress = progress
    random = SeededGenerator(seed: seed)
    report = FuzzReport(seed: seed)
    let board = board
    drivers = board.transports.indices.map { FuzzDriver(board, index: $0) }
    storage = FuzzStorageDriver(board)
    for index in drivers.indices { start(index) }
    startStorage()
    startNetwork()
  }

  /// What most accesses go to.
  package enum Focus: Sendable {
    case all
    /// Both kinds of network adapters.
    case networks
    /// Streams between guest and host.
    case sockets
  }

  package var focus = Focus.all

  /// Makes `count` accesses, then resets the machine and tries every device.
  package func run(count: Int) -> FuzzReport {
    let warmUp = min(count / 5, 500_000)
    var isWarm = false
    var round = 0
    while report.accesses < count {
      step()
      round &+= 1
      if round & 0xFF == 0 {
        if board.memoryBus.needsCollection { board.memoryBus.collect() }
        progress.accesses.store(report.accesses, ordering: .relaxed)
      }
      if !isWarm && report.accesses >= warmUp {
        isWarm = true
        report.residentBefore = ProcessMemory.residentBytes()
      }
    }
    report.residentAfter = ProcessMemory.residentBytes()
    let sockets = board.socketPeer.point.statistics
    report.streams = sockets.opened
    report.streamBytes = sockets.bytesToGuest + sockets.bytesFromGuest
    report.networkPairs = board.cable.use.count
    report.messages = board.interrupts.messageCount
    tryEverything()
    return report
  }

  private func step() {
    if focus == .networks, !random.rarely(16) {
      return random.rarely(2) ? accessNetwork() : accessQueue(of: networkDriver)
    }
    if focus == .sockets, !random.rarely(16) { return accessQueue(of: socketDriver) }
    switch random.below(1000) {
    case 0..<300: accessPort()
    case 300..<330: accessNetwork()
    case 330..<560: accessMemory()
    case 560..<690: accessConfiguration()
    case 690..<830: accessQueue()
    case 830..<900: accessStorage()
    case 900..<950: passTime()
    case 950..<975: giveInput()
    case 975..<994: endInterrupts()
    case 994..<998: start(Int(random.below(UInt64(drivers.count))))
    default: disturb()
    }
  }

  // MARK: Values

  /// Small and special numbers more often than others.
  func value() -> UInt64 {
    switch random.below(10) {
    case 0: 0
    case 1: .max
    case 2: random.below(16)
    case 3: 1 << random.below(64)
    case 4: random.below(FuzzBoard.memorySize)
    case 5: random.next() & 0xFFFF
    case 6: random.next() & 0xFF
    case 7: FuzzBoard.memorySize &- random.below(64)
    default: random.next()
    }
  }

  func width(upTo limit: UInt64) -> AccessWidth {
    switch random.below(limit) {
    case 0: .byte
    case 1: .word
    case 2: .doubleword
    default: .quadword
    }
  }

  /// The virtio network adapter's.
  private var networkDriver: Int {
    board.transports.firstIndex { $0.device is VirtioNetwork } ?? 0
  }

  /// The virtio socket device's.
  private var socketDriver: Int {
    board.transports.firstIndex { $0.device is VirtioSocket } ?? 0
  }

  func driver() -> FuzzDriver { drivers[Int(random.below(UInt64(drivers.count)))] }

  // MARK: The end

  /// Power-on: whatever the guest did, a proper driver finds every device at work again.
  private func tryEverything() {
    board.host.reset()
    for which in drivers.indices {
      drivers[which].start(wanted: .max)
      let expected =
        FuzzDriver.Status.driver | FuzzDriver.Status.featuresAccepted | FuzzDriver.Status.ready
      let name = "\(board.transports[which].device.type)"
      guard drivers[which].status == expected else {
        report.broken.append("\(name) (status \(drivers[which].status))")
        continue
      }
      if board.transports[which].device is VirtioBlock, !readsBlock(which) {
        report.broken.append("\(name) (no answer)")
      }
    }
    report.broken += brokenStorage() + brokenNetwork()
  }

  /// Reads sector 0 through queue 0.
  private func readsBlock(_ which: Int) -> Bool {
    let base = drivers[which].bufferBase
    let memory = board.memory
    memory.store(UInt64(0), at: GuestAddress(base))
    memory.store(UInt64(0), at: GuestAddress(base + 8))
    memory.store(UInt8(0xFF), at: GuestAddress(base + 0x1000))
    drivers[which].chain(
      0,
      [
        .init(address: base, length: 16, isWritable: false),
        .init(address: base + 0x200, length: 512, isWritable: true),
        .init(address: base + 0x1000, length: 1, isWritable: true),
      ], first: 0, indirect: nil)
    drivers[which].offer(0, head: 0)
    drivers[which].kick(0)
    let limit = MonotonicClock.now + 10_000_000_000
    while drivers[which].usedIndex(0) == 0 {
      if MonotonicClock.now > limit { return false }
      ProcessMemory.rest()
    }
    return memory.load(UInt8.self, at: GuestAddress(base + 0x1000)) == 0
  }
}

/// How far a fuzzer has got, readable from any thread.
package final class FuzzProgress: Sendable {
  package let accesses = Atomic<Int>(0)
  package init() {}
}
