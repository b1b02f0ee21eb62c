import CLinux
import Devices
import GuestMemory
import Platform
import Processor
import SoftProcessor
import Synchronization

/// What the processors of one machine share that live in software while their interrupts stay in the kernel.
final class ResidenceBoard: @unchecked Sendable {
  // @unchecked: `regions` and `generation` are used under `lock`; the rest is set once.
  private let parts: CompletionParts
  private let buses: CompletionBuses
  private let board: SoftBoard
  private let leaves: [[CPUIDLeaf]]
  private let memoryBus: MemoryBus
  let pulse: ResidencePulse
  private let lock = Monitor(())
  private var regions: [CompletionParts.Region] = []
  private var generation = 0

  /// - Parameter leaves: what CPUID tells each processor.
  /// - Throws: when the host gives no memory or thread.
  init(_ parts: CompletionParts, buses access: BusAccess, leaves: [[CPUIDLeaf]])
    throws(PlatformError)
  {
    self.parts = parts
    self.leaves = leaves
    memoryBus = access.memory
    buses = CompletionBuses(access, hasKernelChips: parts.hasKernelChips)
    board = try SoftBoard(
      memory: parts.memory, apicNumbers: leaves.indices.map { UInt32($0) }, bus: buses.functions)
    // Its timers and its interrupts are nobody's: the kernel has those of the guest.
    board.stop()
    pulse = try ResidencePulse(processorCount: leaves.count)
    let board = board
    // Devices that write where code was decoded from.
    parts.memory.observeWrites { [weak board] address, count in
      board?.noteWrite(at: address.rawValue, count: count)
    }
  }

  /// No processor runs any more.
  func stop() {
    parts.memory.observeWrites(nil)
    pulse.stop()
  }

  func makeProcessor(_ index: Int) throws(PlatformError) -> SoftProcessor {
    let processor = try SoftProcessor(index: index, board: board, leaves: leaves[index])
    processor.becomeBorrowed(hasChips: parts.hasKernelChips)
    return processor
  }

  /// Tables of the memory bus have piled up: all processors are to come out.
  var needsCollection: Bool { memoryBus.needsCollection }

  /// Option ROMs come and go with the guest's base addresses.
  func showRegions() {
    lock.update { _ in
      guard let now = parts.regions(since: &generation) else { return }
      for region in regions { board.unmap(at: region.address) }
      for region in now {
        guard let host = UnsafeMutableRawPointer(bitPattern: region.host) else { continue }
        // What does not fit is read through the bus.
        try? board.map(
          host, size: region.size, at: region.address, isWritable: false, owner: region.owner)
      }
      regions = now
    }
  }
}

/// Makes processors come out of software every few milliseconds, while there are any.
final class ResidencePulse: Sendable {
  private struct Control {
    var running: [SoftProcessor?]
    var count = 0
    var hasEnded = false
  }

  private let control: Monitor<Control>
  private let thread = Mutex<PosixThread?>(nil)

  /// Microseconds. A look for interrupts costs a hundred of them.
  private static let interval: UInt32 = 2000

  init(processorCount: Int) throws(PlatformError) {
    let control = Monitor(
      Control(running: Array(repeating: nil, count: processorCount)))
    self.control = control
    let created = try PosixThread(name: "pulse", role: .processor) {
      while true {
        let goesOn = control.wait { control -> Bool? in
          if control.hasEnded { return false }
          return control.count > 0 ? true : nil
        }
        guard goesOn else { return }
        usleep(Self.interval)
        control.read { control in
          for processor in control.running { processor?.interrupt() }
        }
      }
    }
    thread.withLock { $0 = created }
  }

  /// On the processor's thread, before it runs.
  func begin(_ processor: SoftProcessor) {
    control.update {
      $0.running[processor.index] = processor
      $0.count += 1
    }
  }

  func end(_ processor: SoftProcessor) {
    control.update {
      $0.running[processor.index] = nil
      $0.count -= 1
    }
  }

  func stop() {
    control.update { $0.hasEnded = true }
    thread.withLock { $0 }?.join()
  }
}
