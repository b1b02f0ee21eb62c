// The translation buffer: how its entries are filled and flushed. The fast paths look straight into it.
//
// A flush that keeps global pages walks a list of the other entries that were filled, so that a write to CR3 costs what
// the old address space used and not the size of the buffer.
import CSoftProcessor

extension UnsafeMutablePointer where Pointee == soft_cpu {
  /// The entry of an address in an access class.
  @inline(__always)
  func translationEntry(_ linear: UInt64, classNumber: UInt32) -> UnsafeMutablePointer<
    soft_tlb_entry
  > {
    pointee.tlb_entries + Int(classNumber) * Int(SOFT_TLB_COUNT)
      + Int(truncatingIfNeeded: linear >> 12 & UInt64(SOFT_TLB_COUNT - 1))
  }
}

/// Holds a translation for an access class. Tags stay empty for what needs a slow path: the bus, ROM (writes), pages
/// with decoded code (writes), pages with a data breakpoint, fetches from those with a debugger's, and writes while stores are recorded, until there is one.
func enterTranslation(
  _ cpu: CPU, _ linear: UInt64, _ translation: Translation, classNumber: UInt32,
  isStore: Bool = false
) {
  let page = linear & ~0xFFF
  guard let region = regionPage(cpu, translation.physical & ~0xFFF) else { return }
  if cpu.pointee.dr.7 & 0xFF != 0, hasDataBreakpoint(cpu, page: page) { return }
  var isFetchedFast = translation.canFetch
  if let debugger = cpu.pointee.debugger {
    if debugger.watches(page: page) { return }
    isFetchedFast = isFetchedFast && !debugger.breaks(page: page)
  }
  let entry = cpu.translationEntry(linear, classNumber: classNumber)
  var isFastWrite =
    translation.canWrite && region.isWritable && region.page.pointee.code_lines == 0
  if soft_tracks_stores(cpu.pointee.board) != 0 {
    soft_drain_stores()
    keepMarks(cpu)
    isFastWrite = isFastWrite && isStore
    if isFastWrite { markStore(cpu, region.host, count: 1) }
  }
  entry.pointee.read_tag = translation.canRead ? page : .max
  entry.pointee.write_tag = isFastWrite ? page : .max
  entry.pointee.fetch_tag = isFetchedFast ? page : .max
  entry.pointee.addend = UInt64(UInt(bitPattern: region.host)) &- page

  if translation.pageShift > 12 {
    let bit = largePageBit(linear, shift: UInt64(translation.pageShift))
    soft_tlb_large(cpu)[bit >> 6] |= 1 << UInt64(bit & 63)
  }
  guard !translation.isGlobal else { return }
  let count = Int(cpu.pointee.tlb_fill_count)
  guard count < Int(SOFT_TLB_FILL_LIMIT) else {
    cpu.pointee.tlb_fill_count = UInt32(SOFT_TLB_FILL_LIMIT) + 1
    return
  }
  soft_tlb_fills(cpu)[count] = UInt16(truncatingIfNeeded: entry - cpu.pointee.tlb_entries)
  cpu.pointee.tlb_fill_count = UInt32(count + 1)
}

/// Forgets translations: all, or all that are not global.
@inline(never)
func flushTranslations(_ cpu: CPU, keepGlobal: Bool) {
  // Kernels count on it: a processor that says which address space it uses, and then looks into its tables, must not
  // miss both the change of an entry and the request to forget it.
  soft_drain_stores()
  keepMarks(cpu)
  cpu.pointee.tlb_generation &+= 1
  let entries = cpu.pointee.tlb_entries
  let count = Int(cpu.pointee.tlb_fill_count)
  if keepGlobal, count <= Int(SOFT_TLB_FILL_LIMIT) {
    let fills = soft_tlb_fills(cpu)
    for position in 0..<count { clear(entries + Int(fills[position])) }
  } else {
    for position in 0..<(Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES)) { clear(entries + position) }
    for word in 0..<Int(SOFT_TLB_LARGE_WORDS) { soft_tlb_large(cpu)[word] = 0 }
  }
  cpu.pointee.tlb_fill_count = 0
}

/// Forgets the page of an address, global or not (INVLPG).
@inline(never)
func flushTranslation(_ cpu: CPU, _ linear: UInt64) {
  soft_drain_stores()
  keepMarks(cpu)
  // A part of a large page: its other parts may be anywhere in the buffer.
  for shift: UInt64 in [21, 22, 30] {
    let bit = largePageBit(linear, shift: shift)
    if soft_tlb_large(cpu)[bit >> 6] >> UInt64(bit & 63) & 1 == 1 {
      return flushTranslations(cpu, keepGlobal: false)
    }
  }
  cpu.pointee.tlb_generation &+= 1
  for classNumber in 0..<UInt32(SOFT_TLB_CLASSES) {
    clear(cpu.translationEntry(linear, classNumber: classNumber))
  }
}

@inline(__always)
private func clear(_ entry: UnsafeMutablePointer<soft_tlb_entry>) {
  entry.pointee.read_tag = .max
  entry.pointee.write_tag = .max
  entry.pointee.fetch_tag = .max
}

/// The bit of `tlb_large` for a large page.
@inline(__always)
private func largePageBit(_ linear: UInt64, shift: UInt64) -> Int {
  let hash = (linear >> shift &+ shift &<< 40) &* 0x9E37_79B9_7F4A_7C15
  return Int(truncatingIfNeeded: hash >> 52) & (Int(SOFT_TLB_LARGE_WORDS) * 64 - 1)
}

// MARK: Accesses in a given class

/// Host memory for an access that does not cross a page and is in the buffer, or nil.
@inline(__always)
private func cachedPointer(
  _ cpu: CPU, _ linear: UInt64, isWrite: Bool, classNumber: UInt32
) -> UnsafeMutableRawPointer? {
  let entry = cpu.translationEntry(linear, classNumber: classNumber)
  let tag = isWrite ? entry.pointee.write_tag : entry.pointee.read_tag
  guard tag == linear & ~0xFFF else { return nil }
  return UnsafeMutableRawPointer(
    bitPattern: UInt(truncatingIfNeeded: linear &+ entry.pointee.addend))
}

/// 1 to 8 bytes as supervisor, little-endian; nil after raising #PF.
func systemLoad(_ cpu: CPU, _ linear: UInt64, count: UInt64) -> UInt64? {
  load(cpu, linear, count: count, classNumber: AccessClass.supervisor)
}

/// Stores 1 to 8 bytes as supervisor; false after raising #PF. Stores nothing unless all of it can be stored.
func systemStore(_ cpu: CPU, _ linear: UInt64, _ value: UInt64, count: UInt64) -> Bool {
  store(cpu, linear, value, count: count, classNumber: AccessClass.supervisor)
}

/// 1 to 8 bytes in an access class; nil after raising #PF.
@inline(never)
func load(_ cpu: CPU, _ linear: UInt64, count: UInt64, classNumber: UInt32) -> UInt64? {
  if linear & 0xFFF &+ count <= 0x1000,
    let host = cachedPointer(cpu, linear, isWrite: false, classNumber: classNumber)
  {
    switch count {
    case 1: return UInt64(host.load(as: UInt8.self))
    case 2: return UInt64(host.loadUnaligned(as: UInt16.self))
    case 4: return UInt64(host.loadUnaligned(as: UInt32.self))
    case 8: return host.loadUnaligned(as: UInt64.self)
    default: break
    }
  }
  var value: UInt64 = 0
  var done: UInt64 = 0
  while done < count {
    let address = wrapped(cpu, linear &+ done)
    let part = min(count &- done, 0x1000 &- (address & 0xFFF))
    guard let translation = translate(cpu, address, .read, classNumber: classNumber) else {
      return nil
    }
    enterTranslation(cpu, address, translation, classNumber: classNumber)
    value |= loadPhysical(cpu, translation.physical, count: part) &<< (done &* 8)
    done &+= part
  }
  return value
}

/// Stores 1 to 8 bytes in an access class; false after raising #PF, and then nothing was stored.
@inline(never)
func store(
  _ cpu: CPU, _ linear: UInt64, _ value: UInt64, count: UInt64, classNumber: UInt32
) -> Bool {
  let firstPart = min(count, 0x1000 &- (linear & 0xFFF))
  if firstPart == count,
    let host = cachedPointer(cpu, linear, isWrite: true, classNumber: classNumber)
  {
    switch count {
    case 1:
      host.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
      return true
    case 2:
      host.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
      return true
    case 4:
      host.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
      return true
    case 8:
      host.storeBytes(of: value, as: UInt64.self)
      return true
    default: break
    }
  }
  guard let first = translate(cpu, linear, .write, classNumber: classNumber) else { return false }
  guard firstPart < count else {
    enterTranslation(cpu, linear, first, classNumber: classNumber, isStore: true)
    storePhysical(cpu, first.physical, value, count: count)
    return true
  }
  let address = wrapped(cpu, linear &+ firstPart)
  guard let second = translate(cpu, address, .write, classNumber: classNumber) else {
    return false
  }
  storePhysical(cpu, first.physical, value, count: firstPart)
  storePhysical(cpu, second.physical, value >> (firstPart &* 8), count: count &- firstPart)
  return true
}

/// Whether a store of the whole range would succeed, for instructions that store more than once; raises #PF if not.
@inline(never)
func probeStore(_ cpu: CPU, _ linear: UInt64, count: UInt64, classNumber: UInt32) -> Bool {
  var done: UInt64 = 0
  while done < count {
    let address = wrapped(cpu, linear &+ done)
    if cpu.translationEntry(address, classNumber: classNumber).pointee.write_tag != address & ~0xFFF
    {
      guard let translation = translate(cpu, address, .write, classNumber: classNumber) else {
        return false
      }
      enterTranslation(cpu, address, translation, classNumber: classNumber, isStore: true)
    }
    done &+= 0x1000 &- (address & 0xFFF)
  }
  return true
}

/// Linear addresses have 32 bits outside of long mode.
@inline(__always)
private func wrapped(_ cpu: CPU, _ linear: UInt64) -> UInt64 {
  cpu.hasMode(SOFT_MODE_LONG) ? linear : linear & 0xFFFF_FFFF
}

// MARK: Breakpoints

/// Whether DR7 has a data breakpoint enabled in a page (Intel SDM 3B, 18.2.4).
func hasDataBreakpoint(_ cpu: CPU, page: UInt64) -> Bool {
  let registers = soft_debug_registers(cpu)
  let control = registers[7]
  for number in 0..<4 where control >> UInt64(number * 2) & 3 != 0 {
    let kind = control >> UInt64(16 + number * 4) & 3
    if kind == 1 || kind == 3, registers[number] & ~0xFFF == page { return true }
  }
  return false
}
