// What every kernel without firmware needs before its first instruction: descriptors, page tables, a little memory
// below 640 KiB for what it is told, and the tables that firmware would have left.

/// A load plan in the making, with the boards's memory map.
struct BootArea {
  /// Free low memory: above the BIOS data area, below the extended one.
  static let lowMemory: Range<UInt64> = 0x1000..<PCMemory.extendedBIOSData
  private static let pageSize: UInt64 = 4096

  enum Selector {
    // What the Linux boot protocol wants; others do not care.
    static let code: UInt16 = 0x10
    static let data: UInt16 = 0x18
    static let task: UInt16 = 0x20
  }

  private enum Descriptor {
    /// Flat, present, ring 0, accessed; execute and read.
    static let code32: UInt64 = 0x00CF_9B00_0000_FFFF
    static let code64: UInt64 = 0x00AF_9B00_0000_FFFF
    static let data: UInt64 = 0x00CF_9300_0000_FFFF
    /// A busy TSS at 0 of 104 bytes: VMX wants one, no kernel uses it.
    static let task: UInt64 = 0x0000_8B00_0000_0067
  }

  private enum PageEntry {
    static let presentWritable: UInt64 = 0b11
    static let large: UInt64 = 1 << 7
  }

  let board: BoardDescription
  let map: MemoryMap
  var plan: LoadPlan
  private let subject: String

  /// - Parameter tables: what `tables(_:)` made for the same board.
  init(_ subject: String, _ board: BoardDescription, tables: LoadPlan) throws(FirmwareError) {
    self.subject = subject
    self.board = board
    map = .direct(memorySize: board.memorySize, reserved: board.reservedRanges)
    plan = LoadPlan(subject)
    try plan.add(tables)
  }

  /// What firmware would have left in memory below 1 MiB.
  static func tables(_ board: BoardDescription) throws(FirmwareError) -> LoadPlan {
    var plan = LoadPlan("tables")
    try plan.add(ACPITables(board).plan())
    try plan.add(SMBIOSTables(board).plan())
    try plan.add(ProcessorTable(board).plan())
    try plan.add(biosData(board), at: 0x400, "the BIOS data area")
    return plan
  }

  var rootPointerAddress: UInt64 { ACPITables.rootAddress }

  /// The first words of the BIOS data area: serial ports, extended area, KiB of conventional memory.
  private static func biosData(_ board: BoardDescription) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 0x15)
    for (index, port) in board.serialPorts.prefix(4).enumerated() {
      bytes.store(little: port.base, at: index * 2)
    }
    bytes.store(little: UInt16(PCMemory.extendedBIOSData >> 4), at: 0x0E)
    bytes.store(little: UInt16(PCMemory.extendedBIOSData >> 10), at: 0x13)
    return bytes
  }

  // MARK: Places

  /// Adds bytes in free low memory and returns where.
  mutating func add(
    low bytes: [UInt8], alignment: UInt64 = 16, _ purpose: String
  ) throws(FirmwareError) -> UInt64 {
    guard
      let address = firstFree(UInt64(bytes.count), alignment: alignment, in: Self.lowMemory)
    else { throw FirmwareError(subject, "no room below 640 KiB for \(purpose)") }
    try plan.add(bytes, at: address, purpose)
    return address
  }

  /// The lowest free place in a range; the memory map is the caller's matter.
  func firstFree(_ count: UInt64, alignment: UInt64, in range: Range<UInt64>) -> UInt64? {
    var candidate = range.lowerBound.alignedUp(to: alignment)
    let taken = plan.segments.map(\.range).sorted { $0.lowerBound < $1.lowerBound }
    for other in taken {
      guard let start = candidate else { return nil }
      let (end, overflow) = start.addingReportingOverflow(max(1, count))
      guard !overflow else { return nil }
      if other.overlaps(start..<end) { candidate = other.upperBound.alignedUp(to: alignment) }
    }
    guard let start = candidate, start <= range.upperBound, count <= range.upperBound - start
    else { return nil }
    return start
  }

  /// The highest page-aligned free place in RAM that ends at or below `limit` and starts at or above `floor`.
  func lastFree(_ count: UInt64, above floor: UInt64, below limit: UInt64) -> UInt64? {
    for entry in map.entries.reversed() where entry.kind == .ram {
      var end = min(entry.end, limit)
      let lowest = max(entry.base, floor)
      while end > lowest, end - lowest >= count {
        let start = (end - count).alignedDown(to: Self.pageSize)
        guard start >= lowest else { break }
        let blocking = plan.segments.map(\.range).filter { $0.overlaps(start..<(start + count)) }
        guard let next = blocking.map(\.lowerBound).min() else { return start }
        end = next
      }
    }
    return nil
  }

  /// Checks that everything planned lies in RAM, and the entry in what was planned.
  func check() throws(FirmwareError) {
    let entry = plan.entry.instructionPointer
    guard plan.segments.contains(where: { $0.range.contains(entry) }) else {
      throw FirmwareError(
        subject, "its entry \(hexadecimal(entry)) lies outside of what it loads")
    }
    let ram = MemoryMap.ram(memorySize: board.memorySize)
    for segment in plan.segments where !ram.isRAM(segment.range) {
      throw FirmwareError(
        subject,
        "\(segment.purpose) (\(hexadecimal(segment.address)), \(segment.count) bytes) is outside "
          + "the machine's \(board.memorySize >> 20) MiB of memory")
    }
  }

  // MARK: Entry

  /// A 32-bit entry with flat segments, paging off.
  mutating func enter32(at address: UInt64) throws(FirmwareError) -> EntryState {
    guard address <= UInt64(UInt32.max) else {
      throw FirmwareError(subject, "its entry \(hexadecimal(address)) is above 4 GiB")
    }
    return try entry(.protected32, at: address, code: Descriptor.code32)
  }

  /// A 64-bit entry: the first 4 GiB mapped one to one by 2 MiB pages.
  mutating func enter64(at address: UInt64) throws(FirmwareError) -> EntryState {
    let table = try addPageTables()
    let stack = try add(
      low: [UInt8](repeating: 0, count: Int(Self.pageSize)), alignment: Self.pageSize,
      "a stack")
    return try enter64(at: address, pageTable: table, stack: stack + Self.pageSize - 16)
  }

  /// A 64-bit entry with the caller's page tables.
  mutating func enter64(
    at address: UInt64, pageTable: UInt64, stack: UInt64
  ) throws(FirmwareError) -> EntryState {
    var state = try entry(.long64, at: address, code: Descriptor.code64)
    state.pageTableAddress = pageTable
    state[.rsp] = stack
    return state
  }

  private mutating func entry(
    _ mode: EntryState.Mode, at address: UInt64, code: UInt64
  ) throws(FirmwareError) -> EntryState {
    var table: [UInt8] = []
    for descriptor in [0, 0, code, Descriptor.data, Descriptor.task, 0] as [UInt64] {
      table.append(little: descriptor)
    }
    var state = EntryState(mode: mode, instructionPointer: address)
    state.descriptorTableAddress = try add(low: table, "the descriptor table")
    state.descriptorTableLimit = UInt16(table.count - 1)
    state.codeSelector = Selector.code
    state.dataSelector = Selector.data
    state.taskSelector = Selector.task
    return state
  }

  private mutating func addPageTables() throws(FirmwareError) -> UInt64 {
    let directories: UInt64 = 4
    let size = (2 + directories) * Self.pageSize
    guard let base = firstFree(size, alignment: Self.pageSize, in: Self.lowMemory) else {
      throw FirmwareError(subject, "no room below 640 KiB for page tables")
    }
    let perTable: UInt64 = 512
    var entries = [UInt64](repeating: 0, count: Int(size / 8))
    entries[0] = (base + Self.pageSize) | PageEntry.presentWritable
    for index in 0..<directories {
      entries[Int(perTable + index)] =
        (base + (2 + index) * Self.pageSize) | PageEntry.presentWritable
    }
    for page in 0..<(directories * perTable) {
      entries[Int(2 * perTable + page)] =
        page << 21 | PageEntry.presentWritable | PageEntry.large
    }
    let bytes = entries.withUnsafeBytes { [UInt8]($0) }  // this host is little-endian too
    try plan.add(bytes, at: base, "page tables")
    return base
  }
}
