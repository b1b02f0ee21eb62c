// What the translation buffer does not let through: page walks, accesses that cross a page, the bus, stores to pages
// that hold decoded code.
import CSoftProcessor

/// Loads 1 to 8 bytes into `slow_value`; false after raising an exception.
@inline(never)
func slowLoad(_ cpu: CPU, _ linear: UInt64, count: UInt64) -> Bool {
  guard checkCanonical(cpu, linear, count: count) else { return false }
  checkDataBreakpoints(cpu, linear, count: count, isWrite: false)
  let offset = linear & 0xFFF
  if offset &+ count <= 0x1000 {
    guard let translation = translate(cpu, linear, .read) else { return false }
    if cpu.pointee.borrowed != 0, leavesMemory(cpu, translation.physical) { return false }
    enterTranslation(cpu, linear, translation, classNumber: cpu.pointee.tlb_class)
    cpu.pointee.slow_value = loadPhysical(cpu, translation.physical, count: count)
    return true
  }
  let first = 0x1000 &- offset
  let second = wrapped(cpu, linear &+ first)
  guard let low = translate(cpu, linear, .read), let high = translate(cpu, second, .read) else {
    return false
  }
  cpu.pointee.slow_value =
    loadPhysical(cpu, low.physical, count: first)
    | loadPhysical(cpu, high.physical, count: count &- first) &<< (first &* 8)
  return true
}

/// Stores 1 to 8 bytes; false after raising an exception, and then nothing was stored.
@inline(never)
func slowStore(_ cpu: CPU, _ linear: UInt64, _ value: UInt64, count: UInt64) -> Bool {
  guard checkCanonical(cpu, linear, count: count) else { return false }
  checkDataBreakpoints(cpu, linear, count: count, isWrite: true)
  let offset = linear & 0xFFF
  if offset &+ count <= 0x1000 {
    guard let translation = translate(cpu, linear, .write) else { return false }
      if cpu.pointee.borrowed != 0, leavesMemory(cpu, translation.physical) { return false }
    enterTranslation(
      cpu, linear, translation, classNumber: cpu.pointee.tlb_class, isStore: true)
    storePhysical(cpu, translation.physical, value, count: count)
    return true
  }
  let first = 0x1000 &- offset
  let second = wrapped(cpu, linear &+ first)
  guard let low = translate(cpu, linear, .write), let high = translate(cpu, second, .write) else {
    return false
  }
  storePhysical(cpu, low.physical, value, count: first)
  storePhysical(cpu, high.physical, value &>> (first &* 8), count: count &- first)
  return true
}

@inline(never)
func slowLoadBytes(
  _ cpu: CPU, _ linear: UInt64, into target: UnsafeMutableRawPointer, count: UInt64
) -> Bool {
  var done: UInt64 = 0
  while done < count {
    let address = wrapped(cpu, linear &+ done)
    let part = min(8, count &- done, 0x1000 &- (address & 0xFFF))
    guard slowLoad(cpu, address, count: part) else { return false }
    withUnsafeBytes(of: cpu.pointee.slow_value) { bytes in
      if let start = bytes.baseAddress {
        (target + Int(done)).copyMemory(from: start, byteCount: Int(part))
      }
    }
    done &+= part
  }
  return true
}

@inline(never)
func slowStoreBytes(
  _ cpu: CPU, _ linear: UInt64, from source: UnsafeRawPointer, count: UInt64
) -> Bool {
  guard checkCanonical(cpu, linear, count: count),
    probeStore(cpu, linear, count: count, classNumber: cpu.pointee.tlb_class)
  else { return false }
  var done: UInt64 = 0
  while done < count {
    let address = wrapped(cpu, linear &+ done)
    let part = min(8, count &- done, 0x1000 &- (address & 0xFFF))
    var value: UInt64 = 0
    for index in 0..<Int(part) {
      value |= UInt64((source + Int(done) + index).load(as: UInt8.self)) &<< UInt64(index &* 8)
    }
    guard slowStore(cpu, address, value, count: part) else { return false }
    done &+= part
  }
  return true
}

/// Linear addresses have 32 bits outside of long mode.
@inline(__always)
private func wrapped(_ cpu: CPU, _ linear: UInt64) -> UInt64 {
  cpu.hasMode(SOFT_MODE_LONG) ? linear : linear & 0xFFFF_FFFF
}

/// #GP unless all bytes are canonical. The loop turns it into #SS where the operand is on the stack.
func checkCanonical(_ cpu: CPU, _ linear: UInt64, count: UInt64) -> Bool {
  let last = linear &+ (count &- 1)
  guard cpu.hasMode(SOFT_MODE_CODE64),
    ((linear &+ (1 &<< 47)) | (last &+ (1 &<< 47))) &>> 48 != 0
  else { return true }
  raise(cpu, .generalProtection, error: 0)
  cpu.pointee.noncanonical = 1
  return false
}

// MARK: Physical memory

/// 1 to 8 bytes that do not cross a page.
@inline(never)
func loadPhysical(_ cpu: CPU, _ physical: UInt64, count: UInt64) -> UInt64 {
  guard let region = regionPage(cpu, physical) else { return busLoad(cpu, physical, count: count) }
  let host = UnsafeRawPointer(region.host)
  switch count {
  case 1: return UInt64(host.load(as: UInt8.self))
  case 2: return UInt64(host.loadUnaligned(as: UInt16.self))
  case 4: return UInt64(host.loadUnaligned(as: UInt32.self))
  case 8: return host.loadUnaligned(as: UInt64.self)
  default:
    var value: UInt64 = 0
    for index in 0..<Int(count) { value |= UInt64(region.host[index]) &<< UInt64(index &* 8) }
    return value
  }
}

/// Stores 1 to 8 bytes that do not cross a page; code that was decoded from there is stale then.
@inline(never)
func storePhysical(_ cpu: CPU, _ physical: UInt64, _ value: UInt64, count: UInt64) {
  guard let region = regionPage(cpu, physical), region.isWritable else {
    return busStore(cpu, physical, value, count: count)
  }
  let host = UnsafeMutableRawPointer(region.host)
  switch count {
  case 1: host.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
  case 2: host.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
  case 4: host.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
  case 8: host.storeBytes(of: value, as: UInt64.self)
  default:
    for index in 0..<Int(count) {
      region.host[index] = UInt8(truncatingIfNeeded: value &>> UInt64(index &* 8))
    }
  }
  // Whoever decodes marks the lines and then reads the bytes; here it is the other way round. One sees the other.
  soft_drain_stores()
  if soft_tracks_stores(cpu.pointee.board) != 0 { markStore(cpu, region.host, count: count) }
  if soft_code_lines(region.page) != 0 {
    noteCodeStore(cpu, region.page, offset: physical & 0xFFF, count: count)
  }
}

/// Bytes of a page that holds decoded code were written. If they lie in its lines, all blocks of the page are stale; the
/// block that runs goes no further than this instruction.
@inline(never)
func noteCodeStore(
  _ cpu: CPU, _ page: UnsafeMutablePointer<soft_page>, offset: UInt64, count: UInt64
) {
  let first = UInt32(truncatingIfNeeded: offset >> 7)
  let last = UInt32(truncatingIfNeeded: min(offset &+ count &- 1, 0xFFF) >> 7)
  let lines = (UInt32.max &<< first) & (UInt32.max &>> (31 &- last))
  guard soft_code_lines(page) & lines != 0 else { return }
  soft_page_invalidate(page)
  stopRunningBlock(cpu, page)
}

/// Of an access that is not to RAM: the local APIC's page, then the machine's buses.
@inline(never)
func busLoad(_ cpu: CPU, _ physical: UInt64, count: UInt64) -> UInt64 {
  if isLocalAPIC(cpu, physical) {
    return readLocalAPIC(cpu, physical, UInt32(truncatingIfNeeded: count))
  }
  let board = cpu.pointee.board
  return board.pointee.memory_read(
    board.pointee.context, physical, UInt32(truncatingIfNeeded: count))
}

@inline(never)
func busStore(_ cpu: CPU, _ physical: UInt64, _ value: UInt64, count: UInt64) {
  if isLocalAPIC(cpu, physical) { return writeLocalAPIC(cpu, physical, value) }
  let board = cpu.pointee.board
  board.pointee.memory_write(
    board.pointee.context, physical, UInt32(truncatingIfNeeded: count), value)
}
