// Decoded blocks by physical address and mode, and how one block leads to the next.
import CSoftProcessor

extension UnsafeMutablePointer where Pointee == soft_block {
  /// The pages that it was decoded from have not changed.
  @inline(__always) var isFresh: Bool {
    soft_page_generation(pointee.page_generation) == pointee.generation
      && soft_page_generation(pointee.page_generation2) == pointee.generation2
  }

  /// The same, of a block of one page.
  @inline(__always) var isFreshPage: Bool {
    soft_page_generation(pointee.page_generation) == pointee.generation
  }
}

/// Runs a block from its start; the last thing that a handler does.
@inline(__always)
func enter(_ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>, at rip: UInt64) {
  cpu.pointee.rip = rip
  cpu.pointee.block = block
  cpu.pointee.instructions &+= UInt64(block.pointee.count)
  let operation = block.pointee.entry
  operation.pointee.handler(cpu, operation)
}

/// The same from the loop: the handlers may end in translated code, which uses registers that a caller relies on.
@inline(__always)
func enterFromLoop(_ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>) {
  cpu.pointee.block = block
  cpu.pointee.instructions &+= UInt64(block.pointee.count)
  soft_run(cpu, block.pointee.entry)
}

/// Goes on at `rip`, a taken branch's target (slot 0) or what follows (slot 1). Cut to the code segment's width already.
@inline(__always)
func jump(_ cpu: CPU, to rip: UInt64, slot: Int) {
  if let block = cpu.pointee.block,
    let link = slot == 0 ? block.pointee.link0 : block.pointee.link1,
    soft_events(cpu) == 0, link.isFreshPage
  {
    return enter(cpu, link, at: rip)
  }
  jumpSlow(cpu, rip, slot)
}

/// As above, where the target is another each time.
@inline(__always)
func jumpIndirect(_ cpu: CPU, to rip: UInt64) {
  let entry = cpu.jumpEntry(rip)
  if entry.pointee.linear == rip, entry.pointee.generation == cpu.pointee.tlb_generation,
    entry.pointee.mode == cpu.pointee.mode, let block = entry.pointee.block,
    soft_events(cpu) == 0, block.isFreshPage
  {
    return enter(cpu, block, at: rip)
  }
  jumpSlow(cpu, rip, 2)
}

extension UnsafeMutablePointer where Pointee == soft_cpu {
  /// By RIP: the base of the code segment is 0 wherever entries are made.
  @inline(__always)
  func jumpEntry(_ rip: UInt64) -> UnsafeMutablePointer<soft_jump_entry> {
    let index =
      (rip ^ rip &>> UInt64(SOFT_JUMP_CACHE_BITS)) & (1 &<< UInt64(SOFT_JUMP_CACHE_BITS) &- 1)
    return pointee.jump_cache + Int(truncatingIfNeeded: index)
  }
}

/// Finds the successor through the caches and goes on there; back to the loop where it needs decoding or an event waits.
@inline(never)
private func jumpSlow(_ cpu: CPU, _ rip: UInt64, _ slot: Int) {
  guard let block = findSuccessor(cpu, rip, slot) else {
    cpu.pointee.rip = rip
    return
  }
  enter(cpu, block, at: rip)
}

@inline(never)
private func findSuccessor(_ cpu: CPU, _ rip: UInt64, _ slot: Int) -> UnsafeMutablePointer<
  soft_block
>? {
  guard soft_events(cpu) == 0, cpu.hasMode(SOFT_MODE_FLAT), !cpu.hasMode(SOFT_MODE_SINGLE) else {
    return nil
  }
  let current = cpu.pointee.block
  let start = cpu.pointee.rip
  let entry = cpu.jumpEntry(rip)
  var found: UnsafeMutablePointer<soft_block>?
  if entry.pointee.linear == rip, entry.pointee.generation == cpu.pointee.tlb_generation,
    entry.pointee.mode == cpu.pointee.mode, let block = entry.pointee.block, block.isFresh
  {
    found = block
  } else if let block = cachedBlock(cpu, rip) {
    enterJump(cpu, entry, rip, block)
    found = block
  }
  guard let found else { return nil }
  // Both in one page, which cannot be mapped apart: no look at the translation is needed next time.
  if slot < 2, let current, (start ^ rip) >> 12 == 0,
    current.pointee.page_generation == current.pointee.page_generation2,
    found.pointee.page_generation == current.pointee.page_generation,
    found.pointee.page_generation2 == current.pointee.page_generation, current.isFresh
  {
    if slot == 0 { current.pointee.link0 = found } else { current.pointee.link1 = found }
  }
  return found
}

@inline(__always)
private func enterJump(
  _ cpu: CPU, _ entry: UnsafeMutablePointer<soft_jump_entry>, _ rip: UInt64,
  _ block: UnsafeMutablePointer<soft_block>
) {
  // A block over two pages depends on both translations: it is looked up each time.
  guard block.pointee.page_generation == block.pointee.page_generation2 else { return }
  entry.pointee.linear = rip
  entry.pointee.block = block
  entry.pointee.generation = cpu.pointee.tlb_generation
  entry.pointee.mode = cpu.pointee.mode
}

/// A fresh block of one page that stands in the cache, if the translation buffer knows the page; no exceptions.
private func cachedBlock(_ cpu: CPU, _ rip: UInt64) -> UnsafeMutablePointer<soft_block>? {
  let entry = cpu.translationEntry(rip, classNumber: cpu.pointee.tlb_class)
  guard entry.pointee.fetch_tag == rip & ~0xFFF, let physical = physicalAddress(cpu, entry, rip)
  else { return nil }
  guard let block = lookUp(cpu, physical, cpu.pointee.mode),
    block.pointee.page_generation == block.pointee.page_generation2
  else { return nil }
  return block
}

/// From the host address in a translation entry back to the guest-physical one.
@inline(__always)
func physicalAddress(_ cpu: CPU, _ entry: UnsafeMutablePointer<soft_tlb_entry>, _ linear: UInt64)
  -> UInt64?
{
  let host = linear &+ entry.pointee.addend
  let board = cpu.pointee.board
  let regions = soft_regions(board)
  for index in 0..<Int(board.pointee.region_count) {
    let region = regions + index
    let offset = host &- UInt64(UInt(bitPattern: region.pointee.host))
    if offset < region.pointee.end &- region.pointee.start { return region.pointee.start &+ offset }
  }
  return nil
}

/// The fresh block of an address and mode, or nil.
@inline(__always)
private func lookUp(_ cpu: CPU, _ physical: UInt64, _ mode: UInt32) -> UnsafeMutablePointer<
  soft_block
>? {
  let bucket = soft_bucket(cpu, physical, mode)
  var previous: UnsafeMutablePointer<soft_block>?
  var candidate = bucket.pointee
  while let block = candidate {
    if block.pointee.physical_address == physical, block.pointee.mode == mode {
      if block.isFresh { return block }
      // Stale for good: out of the chain, so that it stays short.
      if let previous {
        previous.pointee.next_in_bucket = block.pointee.next_in_bucket
      } else {
        bucket.pointee = block.pointee.next_in_bucket
      }
      candidate = block.pointee.next_in_bucket
      continue
    }
    previous = block
    candidate = block.pointee.next_in_bucket
  }
  return nil
}

/// The block at `rip`, decoded if need be; nil after raising an exception. Only from the loop.
func block(_ cpu: CPU) -> UnsafeMutablePointer<soft_block>? {
  let rip = cpu.pointee.rip
  let mode = cpu.pointee.mode
  var linear = rip
  if mode & UInt32(SOFT_MODE_CODE64) == 0 {
    let code = cpu.segments[Int(SOFT_CS)]
    guard rip <= UInt64(code.limit) else {
      raise(cpu, .generalProtection, error: 0)
      return nil
    }
    linear = (code.base &+ rip) & 0xFFFF_FFFF
  } else if rip &+ (1 &<< 47) >= 1 &<< 48 {
    raise(cpu, .generalProtection, error: 0)
    return nil
  }
  let entry = cpu.translationEntry(linear, classNumber: cpu.pointee.tlb_class)
  var physical: UInt64
  if entry.pointee.fetch_tag == linear & ~0xFFF, let known = physicalAddress(cpu, entry, linear) {
    physical = known
  } else {
    guard let translation = translate(cpu, linear, .fetch) else { return nil }
    enterTranslation(cpu, linear, translation, classNumber: cpu.pointee.tlb_class)
    physical = translation.physical
  }
  if let found = lookUp(cpu, physical, mode) {
    if isWithinLimit(cpu, found, rip),
      found.pointee.page_generation == found.pointee.page_generation2
    {
      if cpu.hasMode(SOFT_MODE_FLAT), !cpu.hasMode(SOFT_MODE_SINGLE) {
        enterJump(cpu, cpu.jumpEntry(rip), rip, found)
      }
      return found
    }
  }
  // The longest instruction that begins here reaches into the next page.
  if linear & 0xFFF > 0xFF0, let found = lookUp(cpu, physical, mode | crossingMode),
    isWithinLimit(cpu, found, rip)
  {
    guard let page = secondPage(cpu, linear) else { return nil }
    if UnsafePointer(soft_generation_of(page)) == found.pointee.page_generation2 { return found }
  }
  return decodeBlock(cpu, linear: linear, physical: physical)
}

/// In the key of blocks that reach into a second page: they are valid only with the page that it is mapped to.
@inline(__always) var crossingMode: UInt32 { 1 << 31 }

/// The record of the page behind the one of an address, as code is fetched from it; nil after raising #PF.
private func secondPage(_ cpu: CPU, _ linear: UInt64) -> UnsafeMutablePointer<soft_page>? {
  var next = (linear | 0xFFF) &+ 1
  if !cpu.hasMode(SOFT_MODE_LONG) { next &= 0xFFFF_FFFF }
  let entry = cpu.translationEntry(next, classNumber: cpu.pointee.tlb_class)
  var physical: UInt64?
  if entry.pointee.fetch_tag == next { physical = physicalAddress(cpu, entry, next) }
  if physical == nil {
    guard let translation = translate(cpu, next, .fetch) else { return nil }
    enterTranslation(cpu, next, translation, classNumber: cpu.pointee.tlb_class)
    physical = translation.physical
  }
  guard let physical, let region = regionPage(cpu, physical) else {
    return cpu.pointee.cache.no_page
  }
  return region.page
}

/// Outside of flat modes a block may reach beyond the code segment's limit: then it is decoded anew, cut.
private func isWithinLimit(_ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>, _ rip: UInt64)
  -> Bool
{
  cpu.hasMode(SOFT_MODE_FLAT)
    || rip &+ UInt64(block.pointee.length) <= UInt64(cpu.segments[Int(SOFT_CS)].limit) &+ 1
}

/// Drops all decoded code. No block may run on afterwards but to its end.
func dropBlocks(_ cpu: CPU) {
  cpu.pointee.cache.buckets.update(repeating: nil, count: 1 << Int(SOFT_CACHE_BUCKET_BITS))
  cpu.pointee.cache.operation_count = 0
  cpu.pointee.cache.block_count = 0
  cpu.pointee.cache.epoch &+= 1
  cpu.pointee.translations.position = 0
  cpu.pointee.block = nil
  for index in 0..<(1 << Int(SOFT_JUMP_CACHE_BITS)) {
    (cpu.pointee.jump_cache + index).pointee.block = nil
  }
}

/// The same after a run of single instructions, which fill little of the cache and enter no jumps.
func dropSingleBlocks(_ cpu: CPU) {
  let count = Int(cpu.pointee.cache.block_count)
  guard count < 4096 else { return dropBlocks(cpu) }
  for position in 0..<count {
    let block = cpu.pointee.cache.blocks + position
    soft_bucket(cpu, block.pointee.physical_address, block.pointee.mode).pointee = nil
  }
  cpu.pointee.cache.operation_count = 0
  cpu.pointee.cache.block_count = 0
  cpu.pointee.cache.epoch &+= 1
  cpu.pointee.block = nil
}

// MARK: Code that changes

/// If the running block was decoded from `page`, what follows the instruction in hand must be decoded again: every
/// operation after it becomes the end of the block. The block is stale, so nothing else will run it.
func stopRunningBlock(_ cpu: CPU, _ page: UnsafeMutablePointer<soft_page>) {
  guard let block = cpu.pointee.block, !block.isFresh else { return }
  let operations = UnsafeMutablePointer(mutating: block.pointee.operations)
  for index in 0...Int(block.pointee.count) {
    operations[index].handler = { cpu, operation in leave(cpu, at: address(cpu, operation)) }
  }
}

/// Code was decoded from a page for the first time: no translation buffer may write to it unseen.
@inline(never)
func noteFirstCode(_ cpu: CPU, _ host: UInt64) {
  soft_drain_stores()
  keepMarks(cpu)
  let entries = cpu.pointee.tlb_entries
  for position in 0..<(Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES)) {
    let entry = entries + position
    if entry.pointee.write_tag != .max, entry.pointee.write_tag &+ entry.pointee.addend == host {
      entry.pointee.write_tag = .max
    }
  }
  postCodeEvent(cpu)
}

/// `SOFT_EVENT_CODE`: another processor decoded code from pages that this one may have been writing to.
func dropCodeWriteTags(_ cpu: CPU) {
  soft_drain_stores()
  keepMarks(cpu)
  let board = cpu.pointee.board
  let regions = soft_regions(board)
  let entries = cpu.pointee.tlb_entries
  for position in 0..<(Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES)) {
    let entry = entries + position
    guard entry.pointee.write_tag != .max else { continue }
    let host = entry.pointee.write_tag &+ entry.pointee.addend
    for index in 0..<Int(board.pointee.region_count) {
      let region = regions + index
      let offset = host &- UInt64(UInt(bitPattern: region.pointee.host))
      guard offset < region.pointee.end &- region.pointee.start else { continue }
      let page = region.pointee.pages + Int(offset >> 12)
      if soft_code_lines(page) != 0 {
        entry.pointee.write_tag = .max
        soft_page_invalidate(page)
      }
    }
  }
}

private func postCodeEvent(_ cpu: CPU) {
  let board = cpu.pointee.board
  guard let processors = board.pointee.processors else { return }
  for index in 0..<Int(board.pointee.processor_count) {
    if let other = processors[index], other != cpu { soft_post(other, UInt32(SOFT_EVENT_CODE)) }
  }
}
