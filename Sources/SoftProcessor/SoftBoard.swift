import CLinux
import CSoftProcessor
import GuestMemory
import Platform

/// Where processors' accesses to what is not RAM go, as C functions: the caller is inside an instruction.
package struct SoftBus: Sendable {
  /// Handed to each function; outlives the board.
  package nonisolated(unsafe) var context: UnsafeMutableRawPointer
  package var memoryRead: @convention(c) (UnsafeMutableRawPointer, UInt64, UInt32) -> UInt64
  package var memoryWrite: @convention(c) (UnsafeMutableRawPointer, UInt64, UInt32, UInt64) -> Void
  package var portRead: @convention(c) (UnsafeMutableRawPointer, UInt32, UInt32) -> UInt64
  package var portWrite: @convention(c) (UnsafeMutableRawPointer, UInt32, UInt32, UInt64) -> Void

  package init(
    context: UnsafeMutableRawPointer,
    memoryRead: @escaping @convention(c) (UnsafeMutableRawPointer, UInt64, UInt32) -> UInt64,
    memoryWrite: @escaping @convention(c) (UnsafeMutableRawPointer, UInt64, UInt32, UInt64) -> Void,
    portRead: @escaping @convention(c) (UnsafeMutableRawPointer, UInt32, UInt32) -> UInt64,
    portWrite: @escaping @convention(c) (UnsafeMutableRawPointer, UInt32, UInt32, UInt64) -> Void
  ) {
    self.context = context
    self.memoryRead = memoryRead
    self.memoryWrite = memoryWrite
    self.portRead = portRead
    self.portWrite = portWrite
  }
}

/// What the software processors of a machine share: memory, the way to the buses, the interrupt network and the clocks.
package final class SoftBoard: @unchecked Sendable {
  // @unchecked: regions are added and taken away under `mapping` and read by processors without a lock: an entry is
  // complete before it is counted, and host memory that was ever mapped stays until the board goes.
  package let memory: GuestMemory
  package let network: LocalAPICNetwork
  package let clock: ParavirtualClock
  package let timeStamps: TimeStampClock
  package let processorCount: Int
  package nonisolated(unsafe) let shared: UnsafeMutablePointer<soft_board>

  private struct Mapping {
    /// Keeps host memory alive.
    var owners: [AnyObject] = []
    var pageTables: [(pointer: UnsafeMutableRawPointer, size: Int)] = []
    var count = 0
    /// Of each entry when it is shown.
    var sizes: [UInt64] = []
  }

  private let mapping = Monitor(Mapping())
  private let registers: UnsafeMutablePointer<ParavirtualRegisters>
  /// Processors in the order of their numbers; they add themselves before any of them runs.
  private var processors: [UnsafeMutablePointer<soft_cpu>] = []
  /// The same for C: a null for each that has not come yet.
  private let processorTable: UnsafeMutablePointer<UnsafeMutablePointer<soft_cpu>?>

  /// - Parameters:
  ///   - apicNumbers: of the processors, in order.
  ///   - hole: addresses that the buses serve although RAM could.
  ///   - bus: used by all processors at the same time.
  package init(
    memory: GuestMemory, hole: Range<UInt64>? = nil, apicNumbers: [UInt32], bus: SoftBus,
    timeStamps: TimeStampClock = .host
  ) throws(PlatformError) {
    self.memory = memory
    self.apicNumbers = apicNumbers
    self.timeStamps = timeStamps
    processorCount = apicNumbers.count
    clock = ParavirtualClock(timeStamps)
    network = try LocalAPICNetwork(bootIdentity: apicNumbers.first ?? 0, clock: timeStamps)
    shared = .allocate(capacity: 1)
    UnsafeMutableRawPointer(shared).initializeMemory(
      as: UInt8.self, repeating: 0, count: MemoryLayout<soft_board>.size)
    processorTable = .allocate(capacity: max(1, apicNumbers.count))
    processorTable.initialize(repeating: nil, count: max(1, apicNumbers.count))
    registers = .allocate(capacity: max(1, apicNumbers.count))
    registers.initialize(repeating: ParavirtualRegisters(), count: max(1, apicNumbers.count))
    shared.pointee.processor_count = UInt32(apicNumbers.count)
    shared.pointee.a20_mask = .max
    shared.pointee.processors = processorTable
    shared.pointee.memory_read = bus.memoryRead
    shared.pointee.memory_write = bus.memoryWrite
    shared.pointee.port_read = bus.portRead
    shared.pointee.port_write = bus.portWrite
    shared.pointee.context = bus.context
    for region in memory.regions(without: hole) {
      try map(
        region.host, size: region.size, at: region.base.rawValue, isWritable: true, owner: memory)
    }
    try network.timers.start()
  }

  private let apicNumbers: [UInt32]

  deinit {
    network.timers.stop()
    mapping.update { mapping in
      for table in mapping.pageTables { munmap(table.pointer, table.size) }
    }
    registers.deallocate()
    processorTable.deallocate()
    shared.deallocate()
  }

  // MARK: Processors

  /// Wires a processor: its local APIC and its way back to this board. Before any processor runs, in order.
  ///
  /// - Parameter cpu: zeroed, its index set; outlives the board's use.
  package func attach(_ cpu: UnsafeMutablePointer<soft_cpu>) -> LocalAPIC {
    cpu.pointee.board = shared
    cpu.pointee.soft_board = Unmanaged.passUnretained(self).toOpaque()
    let index = Int(cpu.pointee.index)
    let identity = index < apicNumbers.count ? apicNumbers[index] : UInt32(index)
    // The guest's counter starts at zero, for all processors alike.
    cpu.pointee.tsc_offset = 0 &- startTicks
    let apic = LocalAPIC(identity: identity, cpu: cpu, network: network)
    cpu.pointee.apic = Unmanaged.passUnretained(apic).toOpaque()
    network.add(apic)
    processors.append(cpu)
    if index < apicNumbers.count { processorTable[index] = cpu }
    return apic
  }

  private let startTicks = soft_host_tsc()

  /// The board that a processor is on.
  static func of(_ cpu: UnsafeMutablePointer<soft_cpu>) -> SoftBoard? {
    guard let owner = cpu.pointee.soft_board else { return nil }
    return Unmanaged<SoftBoard>.fromOpaque(owner).takeUnretainedValue()
  }

  func paravirtualRegisters(_ index: Int) -> UnsafeMutablePointer<ParavirtualRegisters> {
    registers + min(max(index, 0), max(processorCount - 1, 0))
  }

  /// Makes every processor's `run` come back.
  package func stopAll() { postAll(SOFT_EVENT_STOP) }

  // MARK: Time

  /// The machine's time stands still: counters, clock and timers. While no processor runs; what is saved or restored
  /// until `continueTime` belongs to this one moment.
  package func stopTime() {
    guard shared.pointee.stopped_ticks == 0 else { return }
    let (ticks, time) = TimeStampClock.samplePair()
    network.timers.stopTime(at: time)
    clock.stop(at: time)
    soft_set_stopped_ticks(shared, ticks)
  }

  /// And goes on where it stood, as if no time had passed. While no processor runs.
  package func continueTime() {
    let stopped = shared.pointee.stopped_ticks
    guard stopped != 0 else { return }
    let (ticks, time) = TimeStampClock.samplePair()
    for cpu in processors { cpu.pointee.tsc_offset &-= ticks &- stopped }
    clock.go(on: time, ticks: ticks)
    soft_set_stopped_ticks(shared, 0)
    for (index, cpu) in processors.enumerated() {
      let value = paravirtualRegisters(index).pointee.systemTime
      guard value & 1 != 0 else { continue }
      clock.writeSystemTime(at: value & ~1, offset: cpu.pointee.tsc_offset, self)
    }
    network.timers.continueTime(at: time)
  }

  /// The paravirtual clock shows a saved time, in nanoseconds, when time goes on. While time stands still.
  package func restoreClock(_ time: UInt64) { clock.restore(time) }

  func forEachProcessor(_ body: (UnsafeMutablePointer<soft_cpu>) -> Void) {
    for cpu in processors { body(cpu) }
  }

  /// Posts events to every processor.
  package func postAll(_ events: Int) {
    for cpu in processors { soft_post(cpu, UInt32(events)) }
  }

  // MARK: Memory

  /// Shows host memory to the guest.
  ///
  /// - Parameters:
  ///   - size: bytes, a multiple of 4 KiB.
  ///   - owner: kept until the board goes.
  package func map(
    _ host: UnsafeMutableRawPointer, size: UInt64, at address: UInt64, isWritable: Bool,
    owner: AnyObject
  ) throws(PlatformError) {
    if showAgain(host, size: size, at: address, isWritable: isWritable) {
      return postAll(SOFT_EVENT_MAP)
    }
    let bytes = Int(size / GuestMemory.pageSize) * MemoryLayout<soft_page>.stride
    // Touched where code is: a few pages of a large guest's table.
    let table = mmap(
      nil, max(bytes, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    guard let table, table != linux_map_failed() else {
      throw PlatformError(operation: "mmap", code: linux_error_number(), subject: "page table")
    }
    let region = soft_region(
      start: address, end: address &+ size,
      host: host.assumingMemoryBound(to: UInt8.self),
      pages: table.assumingMemoryBound(to: soft_page.self), is_writable: isWritable ? 1 : 0)
    let isMapped = mapping.update { mapping in
      mapping.pageTables.append((table, max(bytes, 1)))
      mapping.owners.append(owner)
      let list = soft_regions(shared)
      guard mapping.count < Int(SOFT_REGION_LIMIT) else { return false }
      list[mapping.count] = region
      mapping.sizes.append(size)
      mapping.count += 1
      soft_publish_regions(shared, UInt32(mapping.count))
      return true
    }
    guard isMapped else {
      throw PlatformError(operation: "map", code: ENOSPC, subject: "memory regions")
    }
    postAll(SOFT_EVENT_MAP)
  }

  /// What was shown there before and taken away gets its entry back: memory that comes and goes takes one for ever.
  private func showAgain(
    _ host: UnsafeMutableRawPointer, size: UInt64, at address: UInt64, isWritable: Bool
  ) -> Bool {
    mapping.update { mapping in
      let list = soft_regions(shared)
      for index in 0..<mapping.count {
        let region = list + index
        guard region.pointee.start == address, region.pointee.end == address,
          mapping.sizes[index] == size, UnsafeMutableRawPointer(region.pointee.host) == host,
          region.pointee.is_writable == (isWritable ? 1 : 0)
        else { continue }
        // Nobody noted what was written meanwhile.
        for page in 0..<Int(size / GuestMemory.pageSize) {
          soft_page_changed(region.pointee.pages + page)
        }
        soft_show_region(region, size)
        return true
      }
      return false
    }
  }

  /// Takes a range that `map` has shown away again. Its entry is empty from then on and never means another range:
  /// a processor may be looking at it. Where entries have run out, the buses serve what cannot be shown.
  package func unmap(at address: UInt64) {
    mapping.update { mapping in
      let list = soft_regions(shared)
      for index in 0..<mapping.count where list[index].start == address {
        soft_empty_region(list + index)
      }
    }
    postAll(SOFT_EVENT_MAP)
  }

  /// Whether any of a range is shown already.
  package func isMapped(at address: UInt64, size: UInt64) -> Bool {
    let (end, overflow) = address.addingReportingOverflow(size)
    guard !overflow else { return true }
    return mapping.read { mapping in
      let list = soft_regions(shared)
      return (0..<mapping.count).contains { list[$0].start < end && list[$0].end > address }
    }
  }

  /// Host memory behind a range of RAM.
  func guestPointer(at address: UInt64, count: UInt64) -> UnsafeMutableRawPointer? {
    memory.pointer(at: GuestAddress(address), count: count)
  }

  /// Someone else than a processor has written guest memory: code that was decoded from there is stale.
  package func noteWrite(at address: UInt64, count: UInt64) {
    guard count > 0 else { return }
    soft_drain_stores()
    let list = soft_regions(shared)
    let last = address.addingReportingOverflow(count - 1)
    let end = last.overflow ? UInt64.max : last.partialValue
    for index in 0..<Int(shared.pointee.region_count) {
      let region = list + index
      guard region.pointee.start < region.pointee.end, address < region.pointee.end,
        end >= region.pointee.start
      else { continue }
      let first = max(address, region.pointee.start) &- region.pointee.start
      let final = min(end, region.pointee.end &- 1) &- region.pointee.start
      for page in (first >> 12)...(final >> 12) {
        soft_page_changed(region.pointee.pages + Int(page))
      }
    }
  }

  /// Opens or masks address line 20.
  package func setA20(_ isOpen: Bool) {
    let mask: UInt64 = isOpen ? .max : ~(1 << 20)
    guard shared.pointee.a20_mask != mask else { return }
    shared.pointee.a20_mask = mask
    postAll(SOFT_EVENT_MAP)
  }

  /// The record of a processor's stolen time: none was.
  func clearStealTime(at address: UInt64) {
    guard let record = guestPointer(at: address, count: 64) else { return }
    record.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
    memory.recordStore(host: record, count: 64)
    noteWrite(at: address, count: 64)
  }

  /// Nothing delivers or fires afterwards. Before the processors' state is freed.
  package func stop() { network.timers.stop() }
}
