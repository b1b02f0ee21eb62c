// How hvt, Solo5's monitor, starts a unikernel (Solo5's hvt_abi.h and architecture.md): in long mode, with one
// structure, its pages protected as its segments ask.

/// Where a unikernel expects what the monitor tells it, and what is only known when the board is there.
package struct UnikernelStart: Sendable {
  /// `struct hvt_boot_info`.
  private enum Field {
    static let frequency = 16
    static let size = 56
  }

  /// Below, nothing is mapped: a null pointer faults.
  private static let informationAddress: UInt64 = 0x1_0000
  private static let lowestSegment: UInt64 = 0x10_0000
  private static let commandLineSize = 8192
  private static let pageSize: UInt64 = 4096
  private static let largePage: UInt64 = 2 << 20
  /// Page tables are for segments with rights of their own; a unikernel has few MiB of those.
  private static let protectedLimit: UInt64 = 128 << 20

  private enum PageEntry {
    static let present: UInt64 = 1 << 0
    static let writable: UInt64 = 1 << 1
    static let large: UInt64 = 1 << 7
    static let noExecute: UInt64 = 1 << 63
  }

  package let manifest: UnikernelManifest
  private let manifestAddress: UInt64

  /// What is written once the board's devices and its clock are known: address and bytes.
  ///
  /// - Parameter frequency: of the time stamp counter, Hz.
  package func lateContent(
    _ attachments: [UnikernelManifest.Attachment?], frequency: UInt64
  ) -> [(address: UInt64, bytes: [UInt8])] {
    var word: [UInt8] = []
    word.append(little: frequency)
    return [
      (Self.informationAddress + UInt64(Field.frequency), word),
      (manifestAddress, manifest.content(attachments)),
    ]
  }

  /// Plans the start of a unikernel.
  static func plan(
    _ executable: ELFFile, _ manifest: UnikernelManifest, _ request: KernelRequest,
    _ area: inout BootArea
  ) throws(FirmwareError) {
    func fail(_ problem: String) -> FirmwareError { FirmwareError(request.kernel.name, problem) }
    guard executable.is64Bit else { throw fail("a Solo5 unikernel of 32 bits") }
    guard request.modules.isEmpty else { throw fail("a Solo5 unikernel takes no initial RAM disk") }
    guard request.commandLine.utf8.count < commandLineSize else {
      throw fail("a command line longer than Solo5's \(commandLineSize - 1) bytes")
    }
    let loaded = executable.segments.filter { $0.memorySize > 0 }
    guard loaded.allSatisfy({ $0.physicalAddress >= lowestSegment }) else {
      throw fail("a segment below \(hexadecimal(lowestSegment))")
    }
    try executable.load(into: &area.plan)
    let kernelEnd = area.plan.end(below: 1 << 32).alignedUp(to: pageSize) ?? 0
    // Of RAM in one piece: what lies above 4 GiB is out of hvt's reach.
    let memorySize = area.board.lowMemorySize.alignedDown(to: largePage)
    guard kernelEnd + pageSize < memorySize else {
      throw fail("does not fit into \(area.board.memorySize >> 20) MiB of memory")
    }
    let manifestAddress = informationAddress + UInt64(Field.size)
    let lineAddress = manifestAddress + UInt64(manifest.size)
    var information: [UInt8] = []
    information.append(little: memorySize)
    information.append(little: kernelEnd)
    information.append(little: UInt64(0))  // the clock's frequency: `lateContent`
    information.append(little: lineAddress)
    information.append(little: manifestAddress)
    information.append(little: UInt64(0))  // no ring: features of host and guest
    information.append(little: UInt64(0))
    information += manifest.content([])
    information += Array(request.commandLine.utf8) + [0]
    try area.plan.add(information, at: informationAddress, "the start information")
    var state = try area.enter64(
      at: executable.entry,
      pageTable: try addPageTables(loaded, memorySize: memorySize, fail, &area),
      stack: memorySize - 8)
    state[.rdi] = informationAddress
    state.isPrepared = true
    area.plan.entry = state
    area.plan.unikernel = UnikernelStart(manifest: manifest, manifestAddress: manifestAddress)
    area.plan.summary = "Solo5 unikernel (hvt)"
  }

  /// One to one, by 2 MiB pages that may be written and executed, as hvt has it; by 4 KiB pages with their own rights
  /// up to the end of the segments.
  private static func addPageTables(
    _ segments: [ELFFile.Segment], memorySize: UInt64, _ fail: (String) -> FirmwareError,
    _ area: inout BootArea
  ) throws(FirmwareError) -> UInt64 {
    let ends = segments.map { $0.physicalAddress &+ $0.memorySize }
    // The heap behind the last segment may be written: whole pages of 2 MiB do for it.
    guard let fine = (ends.max() ?? largePage).alignedUp(to: largePage), fine <= protectedLimit
    else { throw fail("segments beyond \(protectedLimit >> 20) MiB") }
    let tableCount = fine / largePage
    let directoryCount = (memorySize + (1 << 30) - 1) >> 30
    let size = (2 + directoryCount + tableCount) * pageSize
    let perTable = Int(pageSize / 8)
    guard let base = area.firstFree(size, alignment: pageSize, in: BootArea.lowMemory) else {
      throw fail("no room for page tables")
    }
    let table = PageEntry.present | PageEntry.writable
    var entries = [UInt64](repeating: 0, count: Int(size / 8))
    entries[0] = (base + pageSize) | table
    for index in 0..<directoryCount {
      entries[perTable + Int(index)] = (base + (2 + index) * pageSize) | table
    }
    let directories = 2 * perTable
    let tables = (2 + Int(directoryCount)) * perTable
    for page in 0..<(memorySize / largePage) {
      entries[directories + Int(page)] =
        page < tableCount
        ? (base + (2 + directoryCount + page) * pageSize) | table
        : page * largePage | table | PageEntry.large
    }
    for page in (informationAddress / pageSize)..<(fine / pageSize) {
      entries[tables + Int(page)] =
        page * pageSize | rights(of: page * pageSize..<(page + 1) * pageSize, segments)
    }
    try area.plan.add(
      entries.withUnsafeBytes { [UInt8]($0) }, at: base, "page tables")
    return base
  }

  /// What all segments of a page allow together; everything where there is none.
  private static func rights(
    of page: Range<UInt64>, _ segments: [ELFFile.Segment]
  ) -> UInt64 {
    let here = segments.filter {
      page.overlaps($0.physicalAddress..<($0.physicalAddress &+ $0.memorySize))
    }
    guard !here.isEmpty else { return PageEntry.present | PageEntry.writable }
    var entry = PageEntry.present
    if here.contains(where: \.isWritable) { entry |= PageEntry.writable }
    if !here.contains(where: \.isExecutable) { entry |= PageEntry.noExecute }
    return entry
  }
}
