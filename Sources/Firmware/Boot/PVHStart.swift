// The Xen PVH entry (Xen's public/arch-x86/hvm/start_info.h): a note in an ELF file names a 32-bit entry, which gets
// one structure. Linux, FreeBSD, NetBSD and unikernels have it.

enum PVHStart {
  private static let noteOwner = "Xen"
  private static let entryNote: UInt32 = 18
  private static let magic: UInt32 = 0x336E_C578
  private static let version: UInt32 = 1

  /// The physical entry, or nil for files without the note.
  static func entry(of executable: ELFFile, _ file: BootFile) throws(FirmwareError) -> UInt64? {
    guard let note = try executable.note(owner: noteOwner, kind: entryNote) else { return nil }
    let entry: UInt64?
    switch note.count {
    case 4: entry = note.load(UInt32.self, at: 0).map(UInt64.init)
    case 8: entry = note.load(at: 0)
    default: entry = nil
    }
    guard let entry else {
      throw FirmwareError(file.name, "a PVH note of \(note.count) bytes instead of 4 or 8")
    }
    return entry
  }

  /// The segments are in the plan already.
  static func plan(
    _ request: KernelRequest, entry: UInt64, _ area: inout BootArea
  ) throws(FirmwareError) {
    let floor = area.plan.end(below: 1 << 32)
    var list: [UInt8] = []
    for module in request.modules {
      let size = UInt64(module.file.count)
      guard let address = area.lastFree(max(1, size), above: floor, below: 1 << 32) else {
        throw FirmwareError(
          module.file.name, "does not fit into the machine's memory behind the kernel")
      }
      try area.plan.add(file: module.file, offset: 0, count: size, at: address, "a module")
      list.append(little: address)
      list.append(little: size)
      list.append(
        little: module.commandLine.isEmpty
          ? UInt64(0) : try area.add(low: Array(module.commandLine.utf8) + [0], "a module's text"))
      list.append(little: UInt64(0))
    }
    var map: [UInt8] = []
    for entry in area.map.entries {
      map.append(little: entry.base)
      map.append(little: entry.size)
      map.append(little: entry.kind.rawValue)
      map.append(little: UInt32(0))
    }
    var info: [UInt8] = []
    info.append(little: magic)
    info.append(little: version)
    info.append(little: UInt32(0))
    info.append(little: UInt32(request.modules.count))
    info.append(
      little: list.isEmpty ? UInt64(0) : try area.add(low: list, "the list of modules"))
    info.append(
      little: try area.add(low: Array(request.commandLine.utf8) + [0], "the command line"))
    info.append(little: area.rootPointerAddress)
    info.append(little: try area.add(low: map, "the memory map"))
    info.append(little: UInt32(area.map.entries.count))
    info.append(little: UInt32(0))
    let address = try area.add(low: info, "the start information")
    var state = try area.enter32(at: entry)
    state[.rbx] = address
    area.plan.entry = state
    area.plan.summary = "ELF kernel (PVH entry)"
  }
}
