// Paging: 32-bit, PAE and 4-level (Intel SDM 3A, chapter 4). Accessed and dirty bits are set as on the processor, by a
// compare and exchange with what was read, so that an entry that another processor takes away is never marked.
import CSoftProcessor

/// What an access to memory is for.
enum Access {
  /// By the instruction's own operand, at the current privilege level.
  case read, write, fetch
  /// By the processor itself, to descriptor tables, task states and the like: as supervisor at any privilege level.
  case systemRead, systemWrite

  @inline(__always) var isWrite: Bool { self == .write || self == .systemWrite }
  @inline(__always) var isSystem: Bool { self == .systemRead || self == .systemWrite }
}

/// Access classes: each has its own part of the translation buffer (`soft_cpu.tlb_class`).
enum AccessClass {
  static let user: UInt32 = 0
  static let supervisor: UInt32 = 1
  /// Supervisor with EFLAGS.AC set: SMAP is off for the moment.
  static let supervisorOnUser: UInt32 = 2
}

/// Where a linear address leads, and what its access class may do there without another look at the tables.
struct Translation {
  /// Of the address itself, not of its page.
  var physical: UInt64
  var canRead: Bool
  /// Permitted, and the dirty bit is set.
  var canWrite: Bool
  var canFetch: Bool
  var isGlobal: Bool
  /// log2 of the page's size: 12, 21, 22 or 30.
  var pageShift: UInt8
}

enum PageEntry {
  static let present: UInt64 = 1 << 0
  static let writable: UInt64 = 1 << 1
  static let user: UInt64 = 1 << 2
  static let accessed: UInt64 = 1 << 5
  static let dirty: UInt64 = 1 << 6
  static let large: UInt64 = 1 << 7
  static let global: UInt64 = 1 << 8
  static let noExecute: UInt64 = 1 << 63
}

/// Bits of an error code of #PF.
private enum PageFault {
  static let protection: UInt32 = 1
  static let write: UInt32 = 2
  static let user: UInt32 = 4
  static let reserved: UInt32 = 8
  static let fetch: UInt32 = 16
}

/// Bits of a physical address (CPUID leaf 0x80000008).
@inline(__always) var physicalAddressBits: UInt64 { 46 }

/// Host memory behind a physical address, and the page's record; nil where the bus is.
@inline(__always)
func regionPage(_ cpu: CPU, _ physical: UInt64) -> (
  host: UnsafeMutablePointer<UInt8>, page: UnsafeMutablePointer<soft_page>, isWritable: Bool
)? {
  let board = cpu.pointee.board
  let count = Int(board.pointee.region_count)
  let regions = soft_regions(board)
  var index = 0
  while index < count {
    let region = regions + index
    if physical &- region.pointee.start < region.pointee.end &- region.pointee.start {
      let offset = Int(truncatingIfNeeded: physical &- region.pointee.start)
      return (
        region.pointee.host + offset, region.pointee.pages + (offset >> 12),
        region.pointee.is_writable != 0
      )
    }
    index &+= 1
  }
  return nil
}

/// Translates a linear address, or raises #PF and gives nil.
@inline(__always)
func translate(_ cpu: CPU, _ linear: UInt64, _ access: Access) -> Translation? {
  translate(
    cpu, linear, access,
    classNumber: access.isSystem ? AccessClass.supervisor : cpu.pointee.tlb_class)
}

/// As above, for another access class than the current: a stack of another privilege level.
@inline(never)
func translate(
  _ cpu: CPU, _ linear: UInt64, _ access: Access, classNumber: UInt32
) -> Translation? {
  if cpu.pointee.cr0 & Control0.paging == 0 {
    return Translation(
      physical: linear & 0xFFFF_FFFF & cpu.pointee.board.pointee.a20_mask, canRead: true,
      canWrite: true, canFetch: true, isGlobal: false, pageShift: 12)
  }
  while true {
    switch walk(cpu, linear, access, classNumber: classNumber) {
    case .found(let translation): return translation
    case .changed: continue
    case .failed(let code):
      cpu.pointee.cr2 = linear
      raise(cpu, .pageFault, error: code)
      return nil
    }
  }
}

/// Where an address leads, without any mark in the tables and without an exception: for debuggers and dumps.
func inspectTranslation(_ cpu: CPU, _ linear: UInt64) -> UInt64? {
  guard cpu.pointee.cr0 & Control0.paging != 0 else {
    return linear & 0xFFFF_FFFF & cpu.pointee.board.pointee.a20_mask
  }
  guard
    case .found(let translation) = walk(
      cpu, linear, .systemRead, classNumber: AccessClass.supervisor, marks: false, checks: false)
  else { return nil }
  return translation.physical
}

private enum WalkResult {
  case found(Translation)
  /// Another processor changed an entry while it was marked: look again.
  case changed
  /// With the error code.
  case failed(UInt32)
}

private func walk(
  _ cpu: CPU, _ linear: UInt64, _ access: Access, classNumber: UInt32, marks: Bool = true,
  checks: Bool = true
) -> WalkResult {
  let control4 = cpu.pointee.cr4
  let isPAE = control4 & Control4.physicalAddressExtension != 0
  let isLong = cpu.pointee.efer & Extended.longModeActive != 0
  let hasNoExecute = isPAE && cpu.pointee.efer & Extended.noExecute != 0

  var code: UInt32 = access.isWrite ? PageFault.write : 0
  if classNumber == AccessClass.user { code |= PageFault.user }
  if access == .fetch, hasNoExecute || control4 & Control4.supervisorExecution != 0 {
    code |= PageFault.fetch
  }

  // The table of the first level, and how its index is cut out of the address.
  var table: UInt64
  var shift: UInt64
  if isLong {
    (table, shift) = (cpu.pointee.cr3 & 0x000F_FFFF_FFFF_F000, 39)
  } else if isPAE {
    let pointer = soft_page_directory_pointers(cpu)[Int(truncatingIfNeeded: linear >> 30 & 3)]
    guard pointer & PageEntry.present != 0 else { return .failed(code) }
    (table, shift) = (pointer & 0x000F_FFFF_FFFF_F000, 21)
  } else {
    (table, shift) = (cpu.pointee.cr3 & 0xFFFF_F000, 22)
  }

  var permissions = PageEntry.writable | PageEntry.user
  var noExecute: UInt64 = 0
  // Upper entries are marked as accessed when the walk has succeeded, not when it fails below them.
  var unmarked = InlineArray<3, (address: UInt64, entry: UInt64)>(repeating: (0, 0))
  var unmarkedCount = 0
  while true {
    let entry: UInt64
    let address: UInt64
    if isPAE {
      address = table &+ (linear >> shift & 0x1FF) &* 8
      entry = readEntry64(cpu, address)
    } else {
      address = table &+ (linear >> shift & 0x3FF) &* 4
      entry = readEntry32(cpu, address)
    }
    guard entry & PageEntry.present != 0 else { return .failed(code) }

    let isLeaf: Bool
    if shift == 12 {
      isLeaf = true
    } else if entry & PageEntry.large != 0 {
      isLeaf = isPAE || control4 & Control4.pageSizeExtension != 0
    } else {
      isLeaf = false
    }
    if checks {
      let reserved = reservedBits(
        shift: shift, isLeaf: isLeaf, isPAE: isPAE, isLong: isLong, hasNoExecute: hasNoExecute)
      if entry & reserved != 0 {
        return .failed(code | PageFault.protection | PageFault.reserved)
      }
    }
    permissions &= entry
    noExecute |= entry & PageEntry.noExecute

    if isLeaf {
      // Reserved where NX is off, so that it never counts there.
      let rights = Rights(
        cpu, classNumber: classNumber, permissions: permissions,
        noExecute: hasNoExecute && noExecute != 0)
      if checks {
        let isPermitted =
          access.isWrite ? rights.write : access == .fetch ? rights.fetch : rights.read
        if !isPermitted { return .failed(code | PageFault.protection) }
      }
      var wanted = entry | PageEntry.accessed
      if access.isWrite { wanted |= PageEntry.dirty }
      if marks {
        for index in 0..<unmarkedCount {
          let (address, entry) = unmarked[index]
          guard mark(cpu, address, entry, entry | PageEntry.accessed, isWide: isPAE) else {
            return .changed
          }
        }
      }
      if marks, wanted != entry {
        guard mark(cpu, address, entry, wanted, isWide: isPAE) else { return .changed }
      }
      let mask = (UInt64(1) << shift) &- 1
      var base = entry & 0x000F_FFFF_FFFF_F000 & ~mask
      if !isPAE {
        base = entry & 0xFFFF_F000 & ~mask
        // PSE-36: bits 13 to 20 are bits 32 to 39 of the address.
        if shift == 22 { base |= (entry >> 13 & 0xFF) << 32 }
      }
      return .found(
        Translation(
          physical: (base | linear & mask) & cpu.pointee.board.pointee.a20_mask,
          canRead: rights.read, canWrite: rights.write && wanted & PageEntry.dirty != 0,
          canFetch: rights.fetch,
          isGlobal: entry & PageEntry.global != 0 && control4 & Control4.pageGlobal != 0,
          pageShift: UInt8(truncatingIfNeeded: shift)))
    }
    if entry & PageEntry.accessed == 0, unmarkedCount < 3 {
      unmarked[unmarkedCount] = (address, entry)
      unmarkedCount += 1
    }
    table = entry & (isPAE ? 0x000F_FFFF_FFFF_F000 : 0xFFFF_F000)
    shift &-= isPAE ? 9 : 10
  }
}

/// What an access class may do with a page.
private struct Rights {
  var read: Bool
  var write: Bool
  var fetch: Bool

  init(_ cpu: CPU, classNumber: UInt32, permissions: UInt64, noExecute: Bool) {
    let isUserPage = permissions & PageEntry.user != 0
    let isWritable = permissions & PageEntry.writable != 0
    if classNumber == AccessClass.user {
      read = isUserPage
      write = isUserPage && isWritable
      fetch = isUserPage && !noExecute
      return
    }
    let control4 = cpu.pointee.cr4
    let isBarred =
      isUserPage && control4 & Control4.supervisorAccess != 0
      && classNumber == AccessClass.supervisor
    read = !isBarred
    write = !isBarred && (isWritable || cpu.pointee.cr0 & Control0.writeProtect == 0)
    fetch = !noExecute && !(isUserPage && control4 & Control4.supervisorExecution != 0)
  }
}

private func reservedBits(
  shift: UInt64, isLeaf: Bool, isPAE: Bool, isLong: Bool, hasNoExecute: Bool
) -> UInt64 {
  guard isPAE else {
    // A page of 4 MiB has addresses of 40 bits: bit 21 is left.
    return isLeaf && shift == 22 ? 1 << 21 : 0
  }
  var bits = (UInt64(1) << 52) &- (1 << physicalAddressBits)
  if !hasNoExecute { bits |= PageEntry.noExecute }
  if !isLong { bits |= 0x7FF << 52 }
  if shift == 39 { bits |= PageEntry.large }
  if isLeaf, shift > 12 {
    // Bit 12 is PAT.
    bits |= ((UInt64(1) << shift) &- 1) & ~0x1FFF
  }
  return bits
}

// MARK: Entries

private func readEntry64(_ cpu: CPU, _ address: UInt64) -> UInt64 {
  let physical = address & cpu.pointee.board.pointee.a20_mask
  guard let page = regionPage(cpu, physical) else {
    return cpu.pointee.board.pointee.memory_read(cpu.pointee.board.pointee.context, physical, 8)
  }
  return soft_entry_load64(page.host)
}

private func readEntry32(_ cpu: CPU, _ address: UInt64) -> UInt64 {
  let physical = address & cpu.pointee.board.pointee.a20_mask
  guard let page = regionPage(cpu, physical) else {
    return cpu.pointee.board.pointee.memory_read(cpu.pointee.board.pointee.context, physical, 4)
      & 0xFFFF_FFFF
  }
  return UInt64(soft_entry_load32(page.host))
}

/// False if the entry is no longer what it was.
private func mark(
  _ cpu: CPU, _ address: UInt64, _ old: UInt64, _ new: UInt64, isWide: Bool
) -> Bool {
  let physical = address & cpu.pointee.board.pointee.a20_mask
  guard let page = regionPage(cpu, physical) else {
    cpu.pointee.board.pointee.memory_write(
      cpu.pointee.board.pointee.context, physical, isWide ? 8 : 4, new)
    return true
  }
  // Tables in ROM cannot be marked; the access goes on.
  guard page.isWritable else { return true }
  let isMarked =
    isWide
    ? soft_entry_mark64(page.host, old, new)
    : soft_entry_mark32(
      page.host, UInt32(truncatingIfNeeded: old), UInt32(truncatingIfNeeded: new))
  if isMarked != 0, soft_tracks_stores(cpu.pointee.board) != 0 {
    markStore(cpu, page.host, count: isWide ? 8 : 4)
  }
  return isMarked != 0
}
