// The Linux x86 boot protocol (Documentation/arch/x86/boot.rst, zero-page.rst of the kernel).

/// A bzImage: a setup part with a header, then the compressed kernel.
struct LinuxImage {
  /// Offsets in the file's first sectors and, equally, in the zero page.
  private enum Field {
    static let alternateMemory = 0x1E0
    static let rootPointer = 0x70
    static let extendedRAMDiskImage = 0xC0
    static let extendedRAMDiskSize = 0xC4
    static let mapCount = 0x1E8
    static let setupSectors = 0x1F1
    static let bootFlag = 0x1FE
    static let jump = 0x200
    static let magic = 0x202
    static let version = 0x206
    static let versionText = 0x20E
    static let loaderType = 0x210
    static let loadFlags = 0x211
    static let codeStart = 0x214
    static let ramDiskImage = 0x218
    static let ramDiskSize = 0x21C
    static let heapEnd = 0x224
    static let commandLine = 0x228
    static let ramDiskLimit = 0x22C
    static let isRelocatable = 0x234
    static let extendedLoadFlags = 0x236
    static let commandLineLimit = 0x238
    static let payloadOffset = 0x248
    static let payloadCount = 0x24C
    static let preferredAddress = 0x258
    static let initSize = 0x260
    /// The header of any version ends before this.
    static let headerEnd = 0x290
    static let map = 0x2D0
  }

  private static let magic: UInt32 = 0x5372_6448  // "HdrS"
  private static let mapLimit = 128
  private static let loadAddress: UInt64 = 0x10_0000
  private static let entry64Offset: UInt64 = 0x200
  private static let unknownLoader: UInt8 = 0xFF
  private static let isLoadedHigh: UInt8 = 1 << 0
  private static let isRandomized: UInt8 = 1 << 1
  private static let canUseHeap: UInt8 = 1 << 7
  private static let hasEntry64: UInt16 = 1 << 0
  private static let canBeAbove4GiB: UInt16 = 1 << 1
  private static let oldRAMDiskLimit: UInt64 = 0x37FF_FFFF
  private static let oldCommandLineLimit = 255

  private let file: BootFile
  private let header: [UInt8]
  private let version: UInt16
  private let protectedOffset: UInt64

  /// nil when the file is none.
  init?(_ file: BootFile) throws(FirmwareError) {
    guard file.count >= Field.headerEnd else { return nil }
    header = try file.bytes(at: 0, count: Field.headerEnd)
    guard header.load(UInt16.self, at: Field.bootFlag) == 0xAA55,
      header.load(UInt32.self, at: Field.magic) == Self.magic
    else { return nil }
    self.file = file
    version = header.load(at: Field.version) ?? 0
    guard version >= 0x202, header[Field.loadFlags] & Self.isLoadedHigh != 0 else {
      throw FirmwareError(
        file.name,
        "a Linux kernel with boot protocol \(version >> 8).\(version & 0xFF), too old (zImage)")
    }
    let sectors = header[Field.setupSectors] == 0 ? 4 : UInt64(header[Field.setupSectors])
    protectedOffset = (sectors + 1) * 512
    guard protectedOffset < UInt64(file.count) else {
      throw FirmwareError(file.name, "a Linux kernel that ends inside its setup part: truncated")
    }
  }

  /// The text with which the kernel names itself, such as "6.1.0-13-amd64".
  private var releaseName: String {
    guard let pointer: UInt16 = header.load(at: Field.versionText), pointer > 0,
      let bytes = try? file.bytes(
        at: UInt64(pointer) + 0x200, count: min(64, max(0, file.count - Int(pointer) - 0x200)))
    else { return "" }
    let word = bytes.prefix { (0x21...0x7E).contains($0) }
    return String(decoding: word, as: UTF8.self)
  }

  private var has64BitEntry: Bool {
    version >= 0x20C
      && (header.load(UInt16.self, at: Field.extendedLoadFlags) ?? 0)
        & Self.hasEntry64 != 0
  }

  /// One past the memory that the kernel unpacks itself into.
  private func kernelEnd() throws(FirmwareError) -> UInt64 {
    let fileEnd = Self.loadAddress + UInt64(file.count) - protectedOffset
    guard version >= 0x20A else { return fileEnd + (64 << 20) }
    let preferred: UInt64 = header.load(at: Field.preferredAddress) ?? 0
    let size = UInt64(header.load(UInt32.self, at: Field.initSize) ?? 0)
    let (end, overflow) = max(preferred, Self.loadAddress).addingReportingOverflow(size)
    guard !overflow, end <= 1 << 32 else {
      throw FirmwareError(file.name, "a Linux kernel that wants to be above 4 GiB: damaged?")
    }
    return max(end, fileEnd)
  }

  func plan(_ request: KernelRequest, _ area: inout BootArea) throws(FirmwareError) {
    let end = try kernelEnd()
    guard end <= area.board.lowMemorySize else {
      throw FirmwareError(
        file.name,
        "needs \((end + (1 << 20) - 1) >> 20) MiB of memory to unpack, the machine has "
          + "\(area.board.memorySize >> 20) MiB")
    }
    var note = ""
    if request.unpacksKernel && namesPayload {
      do throws(FirmwareError) {
        var attempt = area
        let executable = try loadPayload(into: &attempt)
        try planUnpacked(executable, end: end, request, &attempt)
        area = attempt
        return
      } catch {
        note = "; \(error.problem)"
      }
    }
    try area.plan.add(
      file: file, offset: protectedOffset, count: UInt64(file.count) - protectedOffset,
      at: Self.loadAddress, "the kernel")
    var page = try zeroPage(request)
    try addRAMDisk(request, above: end, to: &page, &area)
    try Self.finish(
      page, request, &area, entry: has64BitEntry ? Self.loadAddress + Self.entry64Offset : nil,
      entry32: Self.loadAddress)
    area.plan.summary = "Linux \(releaseName) (\(has64BitEntry ? 64 : 32)-bit entry\(note))"
  }

  /// Boot protocol 2.08 and later, unless the build left it out.
  private var namesPayload: Bool {
    version >= 0x208 && header.load(UInt32.self, at: Field.payloadCount) ?? 0 > 0
  }

  /// Unpacks the payload and adds its segments.
  private func loadPayload(into area: inout BootArea) throws(FirmwareError) -> ELFFile {
    let offset = header.load(UInt32.self, at: Field.payloadOffset) ?? 0
    let count = header.load(UInt32.self, at: Field.payloadCount) ?? 0
    let payload = try KernelPayload(
      file, offset: protectedOffset + UInt64(offset), count: Int(count),
      limit: area.board.lowMemorySize)
    let executable = try ELFFile(BootFile(name: file.name, payload))
    try executable.load(into: &area.plan)
    return executable
  }

  /// Enters the executable at the address it is linked for, where it needs no relocation: nobody has chosen another one
  /// at random (the zero page's KASLR flag stays clear), as no decompressor runs.
  private func planUnpacked(
    _ executable: ELFFile, end: UInt64, _ request: KernelRequest, _ area: inout BootArea
  ) throws(FirmwareError) {
    var page = try zeroPage(request)
    page[Field.loadFlags] &= ~Self.isRandomized
    let floor = max(end, area.plan.end(below: 1 << 32))
    try addRAMDisk(request, above: floor, to: &page, &area)
    let entry = executable.physicalEntry
    try Self.finish(page, request, &area, entry: executable.is64Bit ? entry : nil, entry32: entry)
    try area.check()
    area.plan.summary =
      "Linux \(releaseName) (unpacked here, \(executable.is64Bit ? 64 : 32)-bit entry)"
  }

  /// What the kernel's own header says, and that a loader has been here.
  private func zeroPage(_ request: KernelRequest) throws(FirmwareError) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: 4096)
    let headerEnd = min(Field.magic + Int(header[Field.jump + 1]), Field.headerEnd)
    if headerEnd > Field.setupSectors {
      page.replaceSubrange(
        Field.setupSectors..<headerEnd, with: header[Field.setupSectors..<headerEnd])
    }
    page[Field.loaderType] = Self.unknownLoader
    page[Field.loadFlags] = header[Field.loadFlags] | Self.canUseHeap
    page.store(little: UInt16(0xFE00), at: Field.heapEnd)
    page.store(little: UInt32(Self.loadAddress), at: Field.codeStart)
    let limit =
      version >= 0x206
      ? Int(header.load(UInt32.self, at: Field.commandLineLimit) ?? 0) : Self.oldCommandLineLimit
    guard request.commandLine.utf8.count <= limit else {
      throw FirmwareError(
        file.name,
        "a command line of \(request.commandLine.utf8.count) bytes; this kernel takes \(limit)")
    }
    return page
  }

  private func addRAMDisk(
    _ request: KernelRequest, above floor: UInt64, to page: inout [UInt8], _ area: inout BootArea
  ) throws(FirmwareError) {
    let highest =
      version >= 0x203
      ? UInt64(header.load(UInt32.self, at: Field.ramDiskLimit) ?? 0) : Self.oldRAMDiskLimit
    let flags: UInt16 = version >= 0x20C ? header.load(at: Field.extendedLoadFlags) ?? 0 : 0
    try Self.addRAMDisk(
      request, above: floor, below: highest + 1,
      canBeHigh: flags & Self.canBeAbove4GiB != 0, to: &page, &area)
  }

  private static func addRAMDisk(
    _ request: KernelRequest, above floor: UInt64, below limit: UInt64, canBeHigh: Bool,
    to page: inout [UInt8], _ area: inout BootArea
  ) throws(FirmwareError) {
    guard request.modules.count <= 1 else {
      throw FirmwareError(request.kernel.name, "Linux takes one initial RAM disk, not several")
    }
    guard let disk = request.modules.first?.file, disk.count > 0 else { return }
    let size = UInt64(disk.count)
    guard
      let address = area.lastFree(size, above: floor, below: limit)
        ?? (canBeHigh ? area.lastFree(size, above: 1 << 32, below: .max) : nil)
    else {
      throw FirmwareError(
        disk.name,
        "\(size >> 20) MiB do not fit behind the kernel into \(area.board.memorySize >> 20) MiB: "
          + "give the machine more memory")
    }
    try area.plan.add(file: disk, offset: 0, count: size, at: address, "the initial RAM disk")
    page.store(little: UInt32(truncatingIfNeeded: address), at: Field.ramDiskImage)
    page.store(little: UInt32(truncatingIfNeeded: size), at: Field.ramDiskSize)
    page.store(little: UInt32(truncatingIfNeeded: address >> 32), at: Field.extendedRAMDiskImage)
    page.store(little: UInt32(truncatingIfNeeded: size >> 32), at: Field.extendedRAMDiskSize)
  }

  /// A kernel that was never packed (vmlinux), or any other ELF file without a protocol of its own: the segments are
  /// in the plan already.
  static func planExecutable(
    _ executable: ELFFile, _ request: KernelRequest, _ area: inout BootArea
  ) throws(FirmwareError) {
    var page = [UInt8](repeating: 0, count: 4096)
    page.store(little: UInt16(0xAA55), at: Field.bootFlag)
    page.store(little: magic, at: Field.magic)
    page.store(little: UInt16(0x20C), at: Field.version)
    page[Field.loaderType] = unknownLoader
    page[Field.loadFlags] = isLoadedHigh
    let floor = area.plan.end(below: 1 << 32)
    try addRAMDisk(request, above: floor, below: 1 << 32, canBeHigh: false, to: &page, &area)
    let entry = executable.physicalEntry
    try finish(
      page, request, &area, entry: executable.is64Bit ? entry : nil, entry32: entry)
    area.plan.summary = "ELF kernel (\(executable.is64Bit ? 64 : 32)-bit entry)"
  }

  /// The parts of the zero page that say what the machine is, and the entry.
  private static func finish(
    _ template: [UInt8], _ request: KernelRequest, _ area: inout BootArea, entry: UInt64?,
    entry32: UInt64
  ) throws(FirmwareError) {
    var page = template
    let line = try area.add(low: Array(request.commandLine.utf8) + [0], "the command line")
    page.store(little: UInt32(line), at: Field.commandLine)
    page.store(little: area.rootPointerAddress, at: Field.rootPointer)
    let above1MiB = (area.board.lowMemorySize - min(area.board.lowMemorySize, 1 << 20)) >> 10
    page.store(little: UInt32(above1MiB), at: Field.alternateMemory)
    guard area.map.entries.count <= mapLimit else {
      throw FirmwareError(request.kernel.name, "too many reserved ranges for Linux")
    }
    if area.board.hasDisplay { DisplayDescription.textMode.store(in: &page) }
    page[Field.mapCount] = UInt8(area.map.entries.count)
    let map = area.map.bytes
    page.replaceSubrange(Field.map..<(Field.map + map.count), with: map)
    let address = try area.add(low: page, alignment: 4096, "the zero page")
    var state: EntryState
    if let entry {
      state = try area.enter64(at: entry)
    } else {
      state = try area.enter32(at: entry32)
    }
    state[.rsi] = address
    area.plan.entry = state
  }
}
