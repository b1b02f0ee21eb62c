// Multiboot 0.6.96 (version 1): a header in the first 8 KiB says how the kernel is loaded; a structure tells it about
// the machine.

/// The header of a multiboot kernel.
struct MultibootHeader {
  /// Where things go according to the header itself (flag 16), for files that are no ELF.
  struct Addresses {
    var header: UInt32
    var load: UInt32
    /// 0: to the end of the file.
    var loadEnd: UInt32
    /// 0: nothing to clear.
    var zeroEnd: UInt32
    var entry: UInt32
  }

  private enum Flag {
    static let alignsModules: UInt32 = 1 << 0
    static let wantsMemory: UInt32 = 1 << 1
    /// A wish, and there is no display that could fulfil it.
    static let wantsVideo: UInt32 = 1 << 2
    static let hasAddresses: UInt32 = 1 << 16
    static let required: UInt32 = 0xFFFF
  }

  private enum InfoFlag {
    static let memory: UInt32 = 1 << 0
    static let commandLine: UInt32 = 1 << 2
    static let modules: UInt32 = 1 << 3
    static let map: UInt32 = 1 << 6
    static let loaderName: UInt32 = 1 << 9
  }

  private static let magic: UInt32 = 0x1BAD_B002
  private static let answer: UInt64 = 0x2BAD_B002
  private static let searchLimit = 8192
  private static let infoSize = 120
  private static let loaderName = "Underjack"
  private static let pageSize: UInt64 = 4096

  private let file: BootFile
  private let offset: Int
  private let flags: UInt32
  let addresses: Addresses?

  /// nil when the file has no such header.
  init?(_ file: BootFile) throws(FirmwareError) {
    let bytes = try file.bytes(at: 0, count: min(file.count, Self.searchLimit))
    let found = stride(from: 0, to: max(0, bytes.count - 11), by: 4).first { place in
      guard bytes.load(UInt32.self, at: place) == Self.magic,
        let flags: UInt32 = bytes.load(at: place + 4),
        let checksum: UInt32 = bytes.load(at: place + 8)
      else { return false }
      return Self.magic &+ flags &+ checksum == 0
    }
    guard let found, let flags: UInt32 = bytes.load(at: found + 4) else { return nil }
    self.file = file
    offset = found
    self.flags = flags
    guard flags & Flag.hasAddresses != 0 else {
      addresses = nil
      return
    }
    let fields = (0..<5).compactMap { bytes.load(UInt32.self, at: found + 12 + 4 * $0) }
    guard fields.count == 5 else {
      throw FirmwareError(file.name, "its multiboot header is cut off")
    }
    addresses = Addresses(
      header: fields[0], load: fields[1], loadEnd: fields[2], zeroEnd: fields[3], entry: fields[4])
  }

  func plan(_ request: KernelRequest, _ area: inout BootArea) throws(FirmwareError) {
    let known = Flag.alignsModules | Flag.wantsMemory | Flag.wantsVideo
    guard flags & Flag.required & ~known == 0 else {
      throw FirmwareError(
        file.name, "its multiboot header demands something unknown (flags \(hexadecimal(flags)))")
    }
    let entry: UInt64
    if let addresses {
      entry = try load(addresses, into: &area.plan)
    } else {
      let executable = try ELFFile(file)
      try executable.load(into: &area.plan)
      entry = executable.physicalEntry
    }
    let info = try addInformation(request, &area)
    var state = try area.enter32(at: entry)
    state[.rax] = Self.answer
    state[.rbx] = info
    area.plan.entry = state
    area.plan.summary = "multiboot kernel (\(addresses == nil ? "ELF" : "flat"))"
  }

  /// Loads a flat file; returns the entry.
  private func load(
    _ addresses: Addresses, into plan: inout LoadPlan
  ) throws(FirmwareError) -> UInt64 {
    func fail(_ problem: String) -> FirmwareError {
      FirmwareError(file.name, "its multiboot header is wrong: \(problem)")
    }
    guard addresses.load <= addresses.header else {
      throw fail("it says that it lies below the load address")
    }
    let before = UInt64(addresses.header - addresses.load)
    guard before <= UInt64(offset) else {
      throw fail("the load address lies before the file's first byte")
    }
    let start = UInt64(offset) - before
    let available = UInt64(file.count) - start
    let count: UInt64
    if addresses.loadEnd == 0 {
      count = available
    } else {
      guard addresses.loadEnd >= addresses.load else { throw fail("it ends before it begins") }
      count = UInt64(addresses.loadEnd - addresses.load)
    }
    try plan.add(file: file, offset: start, count: count, at: UInt64(addresses.load), "the kernel")
    let end = UInt64(addresses.load) + count
    if addresses.zeroEnd != 0 {
      guard UInt64(addresses.zeroEnd) >= end else {
        throw fail("its cleared memory ends before its data")
      }
      try plan.addZeros(UInt64(addresses.zeroEnd) - end, at: end, "the kernel's cleared memory")
    }
    return UInt64(addresses.entry)
  }

  // MARK: Information

  private func addInformation(
    _ request: KernelRequest, _ area: inout BootArea
  ) throws(FirmwareError) -> UInt64 {
    // As QEMU and GRUB legacy do: the kernel's name is the first word.
    let words = [file.name] + (request.commandLine.isEmpty ? [] : [request.commandLine])
    let line = try area.add(low: text(words.joined(separator: " ")), "the command line")
    let modules = try addModules(request, &area)
    let name = try area.add(low: text(Self.loaderName), "the loader's name")
    var map: [UInt8] = []
    for entry in area.map.entries {
      map.append(little: UInt32(20))
      map.append(little: entry.base)
      map.append(little: entry.size)
      map.append(little: entry.kind.rawValue)
    }
    let mapAddress = try area.add(low: map, "the memory map")
    var info = [UInt8](repeating: 0, count: Self.infoSize)
    var present = InfoFlag.memory | InfoFlag.commandLine | InfoFlag.map | InfoFlag.loaderName
    let lower = PCMemory.extendedBIOSData >> 10
    // Up to the first hole above 1 MiB.
    let upper = area.map.entries.first { $0.base == PCMemory.highStart && $0.kind == .ram }
    info.store(little: UInt32(lower), at: 4)
    info.store(little: UInt32((upper?.size ?? 0) >> 10), at: 8)
    info.store(little: UInt32(line), at: 16)
    if !request.modules.isEmpty {
      present |= InfoFlag.modules
      info.store(little: UInt32(request.modules.count), at: 20)
      info.store(little: UInt32(modules), at: 24)
    }
    info.store(little: UInt32(map.count), at: 44)
    info.store(little: UInt32(mapAddress), at: 48)
    info.store(little: UInt32(name), at: 64)
    info.store(little: present, at: 0)
    return try area.add(low: info, "the multiboot information")
  }

  /// Page-aligned, behind the kernel.
  private func addModules(
    _ request: KernelRequest, _ area: inout BootArea
  ) throws(FirmwareError) -> UInt64 {
    guard !request.modules.isEmpty else { return 0 }
    var list: [UInt8] = []
    for module in request.modules {
      let size = UInt64(module.file.count)
      let start = max(PCMemory.highStart, area.plan.end(below: 1 << 32))
      guard
        let address = area.firstFree(
          size, alignment: Self.pageSize, in: start..<max(start, area.board.lowMemorySize)),
        size == 0 || area.map.isRAM(address..<(address + size))
      else {
        throw FirmwareError(
          module.file.name, "does not fit into the machine's memory behind the kernel")
      }
      try area.plan.add(file: module.file, offset: 0, count: size, at: address, "a module")
      let words = [module.file.name] + (module.commandLine.isEmpty ? [] : [module.commandLine])
      list.append(little: UInt32(truncatingIfNeeded: address))
      list.append(little: UInt32(truncatingIfNeeded: address + size))
      list.append(
        little: UInt32(try area.add(low: text(words.joined(separator: " ")), "a module's text")))
      list.append(little: UInt32(0))
    }
    return try area.add(low: list, "the list of modules")
  }

  private func text(_ string: String) -> [UInt8] { Array(string.utf8) + [0] }
}
