import CLinux
import Devices
import GuestMemory
import Platform
import Processor
import SoftProcessor
import Synchronization

/// A board's processors in software: the memory that they see, their way to the buses, and the chips that KVM would have
/// in the kernel.
final class SoftVirtualization: Virtualization {
  let regionMapper: (any PCIRegionMapper)?
  let doorbells: (any DoorbellBinding)? = nil
  private let board: SoftBoard
  private let buses: SoftBuses
  private let configuration: MachineConfiguration
  private let shown = Mutex<[[CPUIDLeaf]]>([])

  /// - Throws: `MachineError` when the host gives no memory or thread.
  init(_ configuration: MachineConfiguration, memory: GuestMemory) throws(MachineError) {
    self.configuration = configuration
    let topology = configuration.topology
    let buses = SoftBuses()
    self.buses = buses
    do {
      board = try SoftBoard(
        memory: memory, hole: configuration.memoryHole,
        apicNumbers: (0..<topology.processorCount).map { topology.apicNumber(of: $0) },
        bus: buses.functions)
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
    // Until the processors run for the first time: states that are restored before that belong to one moment.
    board.stopTime()
    regionMapper = SoftRegionMapper(board)
    // Devices that write where code was decoded from.
    memory.observeWrites { [weak board] address, count in
      board?.noteWrite(at: address.rawValue, count: count)
    }
  }

  func makeVectors() -> (any MessageVectorBinding)? { nil }

  /// There is no kernel to have the chips: both kinds are ours.
  func makeInterrupts() -> BoardInterrupts {
    let network = board.network
    let router = InterruptRouter(
      InterruptRouter.Outputs(
        interruptRequest: { network.setExternalRequest($0) },
        deliver: { network.deliver(address: $0.address, data: $0.data) }))
    network.acknowledge8259 = { [weak router] in router?.acknowledge().rawValue ?? 0xFF }
    network.endOfInterrupt = { [weak router] in router?.endOfInterrupt(VectorNumber($0)) }
    return BoardInterrupts(sink: router, router: router, external: nil)
  }

  func mapFirmware(_ image: FirmwareMapping, at address: GuestAddress) throws(MachineError) {
    do {
      try board.map(
        image.pointer, size: UInt64(image.size), at: address.rawValue, isWritable: false,
        owner: image)
    } catch {
      throw MachineError("\(error)")
    }
  }

  func connect(_ buses: BusAccess) {
    self.buses.connect(buses) { [weak board] in board?.stopAll() }
  }

  func makeProcessors(
    showing saved: [[CPUIDLeaf]]?
  ) throws(MachineError) -> [any BoardProcessor] {
    let policy = Self.policy(configuration, timeStampKilohertz: board.timeStamps.kilohertz)
    let own = (0..<configuration.processorCount).map {
      policy.leaves(supported: SoftProcessorFeatures.supportedLeaves, index: $0)
    }
    let leaves = try CPUIDCompatibility.leaves(saved, on: own)
    do {
      var made: [SoftProcessor] = []
      for index in 0..<configuration.processorCount {
        made.append(try SoftProcessor(index: index, board: board, leaves: leaves[index]))
      }
      shown.withLock { $0 = leaves }
      return made
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
  }

  var shownLeaves: [[CPUIDLeaf]] { shown.withLock { $0 } }

  func saveState() throws(MachineError) -> VirtualizationState {
    VirtualizationState(clock: board.clock.now)
  }

  func restoreState(_ state: VirtualizationState) throws(MachineError) {
    guard state.chips == nil else {
      throw MachineError("the saved state has chips of the kernel's, and here is no kernel's")
    }
    board.restoreClock(state.clock)
  }

  /// What CPUID tells the processors of a configuration.
  static func policy(
    _ configuration: MachineConfiguration, timeStampKilohertz: UInt64? = nil
  ) -> CPUIDPolicy {
    CPUIDPolicy(
      topology: configuration.topology, model: configuration.processorModel,
      timeStampKilohertz: timeStampKilohertz.map { UInt32(clamping: $0) })
  }

  // MARK: What is written

  func startTracking() throws(MachineError) -> Bool {
    do throws(GuestMemoryError) {
      try board.startDirtyTracking()
    } catch {
      throw MachineError("\(error)")
    }
    return true
  }

  func takeWritten(isStopped: Bool) throws(MachineError) -> [Range<UInt64>] {
    board.memory.regions.indices.flatMap { index in
      board.takeDirtyPages(ofRegion: index, isStopped: isStopped)
        .map { board.memory.regions[index].offsets(of: $0) } ?? []
    }
  }

  func stopTracking() { board.stopDirtyTracking() }

  func stopTime() { board.stopTime() }

  func continueTime() { board.continueTime() }

  func stop() {
    board.memory.observeWrites(nil)
    board.stop()
  }
}

extension SoftProcessor: BoardProcessor {
  var executedInstructions: UInt64? { instructionCount }
  var isStuck: Bool {
    switch activity {
    case .running: false
    case .halted(let acceptsInterrupts): !acceptsInterrupts
    case .waiting: true
    }
  }
}

/// The buses as C functions: the processors call them from inside an instruction.
private final class SoftBuses: @unchecked Sendable {
  // @unchecked: set once by `connect`, before any processor runs.
  private var access: BusAccess?
  private var collect: (@Sendable () -> Void)?

  /// - Parameter collect: called when tables of the memory bus have piled up; makes all processors come out.
  func connect(_ access: BusAccess, collect: @escaping @Sendable () -> Void) {
    self.access = access
    self.collect = collect
  }

  private func read(_ address: UInt64, _ size: UInt32) -> UInt64 {
    guard let access else { return .max }
    var value: UInt64 = 0
    access.readMemory(GuestAddress(address), Int(min(size, 8)), &value)
    return value
  }

  private func write(_ address: UInt64, _ size: UInt32, _ value: UInt64) {
    var value = value
    access?.writeMemory(GuestAddress(address), Int(min(size, 8)), &value)
    collectIfNeeded()
  }

  private func input(_ port: UInt32, _ size: UInt32) -> UInt64 {
    guard let access, let width = AccessWidth(rawValue: UInt8(truncatingIfNeeded: size)) else {
      return .max
    }
    return access.readPort(UInt16(truncatingIfNeeded: port), width)
  }

  private func output(_ port: UInt32, _ size: UInt32, _ value: UInt64) {
    guard let access, let width = AccessWidth(rawValue: UInt8(truncatingIfNeeded: size)) else {
      return
    }
    access.writePort(UInt16(truncatingIfNeeded: port), width, value & width.mask)
    collectIfNeeded()
  }

  private func collectIfNeeded() {
    if access?.memory.needsCollection == true { collect?() }
  }

  /// The context is this object, which its owner keeps longer than the processors.
  private static func of(_ context: UnsafeMutableRawPointer) -> Unmanaged<SoftBuses> {
    .fromOpaque(context)
  }

  var functions: SoftBus {
    SoftBus(
      context: Unmanaged.passUnretained(self).toOpaque(),
      memoryRead: { context, address, size in
        SoftBuses.of(context)._withUnsafeGuaranteedRef { $0.read(address, size) }
      },
      memoryWrite: { context, address, size, value in
        SoftBuses.of(context)._withUnsafeGuaranteedRef { $0.write(address, size, value) }
      },
      portRead: { context, port, size in
        SoftBuses.of(context)._withUnsafeGuaranteedRef { $0.input(port, size) }
      },
      portWrite: { context, port, size, value in
        SoftBuses.of(context)._withUnsafeGuaranteedRef { $0.output(port, size, value) }
      })
  }
}

/// Shows option ROMs and display memory as regions of the processors' memory.
private final class SoftRegionMapper: PCIRegionMapper {
  private let board: SoftBoard

  init(_ board: SoftBoard) { self.board = board }

  func mapRegion(_ region: PCIRegion, at base: GuestAddress) -> Bool {
    guard !board.isMapped(at: base.rawValue, size: UInt64(region.size)) else { return false }
    do {
      try board.map(
        region.host, size: UInt64(region.size), at: base.rawValue, isWritable: region.isWritable,
        owner: region)
      return true
    } catch {
      return false
    }
  }

  func unmapRegion(_ region: PCIRegion, at base: GuestAddress) { board.unmap(at: base.rawValue) }
}
