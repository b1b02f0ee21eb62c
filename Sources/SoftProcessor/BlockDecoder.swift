// From a physical address to a block: instructions one after the other until one that ends it, the page or the limit.
import CSoftProcessor

private var operationLimit: Int { 32 }

/// Decodes the block at `rip`; nil after raising an exception. The first page has been translated.
@inline(never)
func decodeBlock(_ cpu: CPU, linear: UInt64, physical: UInt64) -> UnsafeMutablePointer<soft_block>?
{
  if Int(cpu.pointee.cache.operation_count) + operationLimit + 3 > Int(SOFT_CACHE_OPERATIONS)
    || Int(cpu.pointee.cache.block_count) + 1 > Int(SOFT_CACHE_BLOCKS)
  {
    dropBlocks(cpu)
  }
  let operations = nextOperations(cpu)
  let mode = cpu.pointee.mode
  var limit = Int(0x1000 - (linear & 0xFFF))
  var isCutBySegment = false
  if mode & UInt32(SOFT_MODE_CODE64) == 0 {
    let left = UInt64(cpu.segments[Int(SOFT_CS)].limit) &+ 1 &- cpu.pointee.rip
    if left < UInt64(limit) {
      limit = Int(left)
      isCutBySegment = true
    }
  }
  guard let region = regionPage(cpu, physical) else {
    return decodeFromBus(cpu, linear: linear, physical: physical)
  }
  // Marked before the bytes are read: a store that comes meanwhile moves the generation on.
  let page = region.page
  let count = mode & UInt32(SOFT_MODE_SINGLE) != 0 ? 1 : operationLimit
  markCode(cpu, region.page, region.host, physical, length: min(limit, 16))
  let generation = soft_page_generation(pageGeneration(page))
  var position = 0
  var number = 0
  while number < count {
    var decoder = Decoder(
      bytes: UnsafePointer(region.host) + position, available: min(15, limit - position),
      mode: mode)
    let result = position < limit ? decoder.decode(offset: position) : .incomplete
    guard case .decoded(let endsBlock) = result else {
      if number > 0 { break }
      if limit >= 15 || isCutBySegment {
        // Longer than an instruction may be, or beyond the code segment.
        raise(cpu, .generalProtection, error: 0)
        return nil
      }
      return decodeAcross(
        cpu, linear: linear, physical: physical, first: limit, generation: generation, page: page)
    }
    operations[number] = decoder.operation
    position += decoder.position
    number += 1
    if endsBlock { break }
  }
  markCode(cpu, page, region.host, physical, length: position)
  return makeBlock(
    cpu, operations, count: number, length: position, physical: physical, page, generation, page,
    generation)
}

/// One instruction that begins in one page and ends in the next.
private func decodeAcross(
  _ cpu: CPU, linear: UInt64, physical: UInt64, first: Int, generation: UInt32,
  page: UnsafeMutablePointer<soft_page>
) -> UnsafeMutablePointer<soft_block>? {
  var second = linear &+ UInt64(first)
  if !cpu.hasMode(SOFT_MODE_LONG) { second &= 0xFFFF_FFFF }
  guard let translation = translate(cpu, second, .fetch) else { return nil }
  let bytes = soft_scratch(cpu)
  for index in 0..<15 {
    let address =
      index < first
      ? physical &+ UInt64(index) : translation.physical &+ UInt64(index - first)
    bytes[index] = UInt8(truncatingIfNeeded: loadPhysical(cpu, address, count: 1))
  }
  var available = 15
  if !cpu.hasMode(SOFT_MODE_CODE64) {
    let left = UInt64(cpu.segments[Int(SOFT_CS)].limit) &+ 1 &- cpu.pointee.rip
    available = Int(min(15, left))
  }
  var decoder = Decoder(bytes: bytes, available: available, mode: cpu.pointee.mode)
  guard case .decoded = decoder.decode(offset: 0) else {
    raise(cpu, .generalProtection, error: 0)
    return nil
  }
  var page2 = page
  var generation2 = generation
  if let region = regionPage(cpu, translation.physical) {
    page2 = region.page
    markCode(
      cpu, page2, region.host, translation.physical, length: max(1, decoder.position - first))
    generation2 = soft_page_generation(pageGeneration(page2))
  }
  let operations = nextOperations(cpu)
  operations[0] = decoder.operation
  return makeBlock(
    cpu, operations, count: 1, length: decoder.position, physical: page2 == page ? .max : physical,
    page, generation, page2, generation2, mode: cpu.pointee.mode | crossingMode)
}

/// Code outside of RAM and ROM: one instruction at a time, read over the bus, kept for one execution.
private func decodeFromBus(_ cpu: CPU, linear: UInt64, physical: UInt64)
  -> UnsafeMutablePointer<soft_block>?
{
  let bytes = soft_scratch(cpu)
  let available = Int(min(15, 0x1000 - (physical & 0xFFF)))
  for index in 0..<available {
    bytes[index] = UInt8(
      truncatingIfNeeded: loadPhysical(cpu, physical &+ UInt64(index), count: 1))
  }
  var decoder = Decoder(bytes: bytes, available: available, mode: cpu.pointee.mode)
  guard case .decoded = decoder.decode(offset: 0) else {
    raise(cpu, .generalProtection, error: 0)
    return nil
  }
  let operations = nextOperations(cpu)
  operations[0] = decoder.operation
  let page = cpu.pointee.cache.no_page
  return makeBlock(
    cpu, operations, count: 1, length: decoder.position, physical: .max, page, 0, page, 0)
}

private func pageGeneration(_ page: UnsafeMutablePointer<soft_page>) -> UnsafePointer<UInt32> {
  UnsafePointer(soft_generation_of(page))
}

/// Notes the lines that code is decoded from.
private func markCode(
  _ cpu: CPU, _ page: UnsafeMutablePointer<soft_page>, _ host: UnsafeMutablePointer<UInt8>,
  _ physical: UInt64, length: Int
) {
  let first = UInt32(truncatingIfNeeded: (physical & 0xFFF) >> 7)
  let last = UInt32(
    truncatingIfNeeded: min((physical & 0xFFF) + UInt64(max(length, 1)) - 1, 0xFFF) >> 7)
  let lines = (UInt32.max << first) & (UInt32.max >> (31 - last))
  if soft_code_lines(page) & lines == lines { return }
  if soft_add_code_lines(page, lines) == 0 {
    noteFirstCode(cpu, UInt64(UInt(bitPattern: host)) & ~0xFFF)
  }
}

/// Appends the end of the block and enters it in the cache.
private func makeBlock(
  _ cpu: CPU, _ operations: UnsafeMutablePointer<soft_operation>, count: Int, length: Int,
  physical: UInt64, _ page: UnsafeMutablePointer<soft_page>, _ generation: UInt32,
  _ page2: UnsafeMutablePointer<soft_page>, _ generation2: UInt32, mode key: UInt32? = nil
) -> UnsafeMutablePointer<soft_block> {
  let mode = key ?? cpu.pointee.mode
  var end = emptyOperation()
  end.opcode = 0xFFFF
  end.offset = UInt16(truncatingIfNeeded: length)
  end.handler = endOfBlock(cpu.pointee.mode)
  operations[count] = end
  let block = cpu.pointee.cache.blocks + Int(cpu.pointee.cache.block_count)
  block.pointee = soft_block(
    physical_address: physical, mode: mode, generation: generation,
    generation2: generation2, length: UInt16(truncatingIfNeeded: length),
    count: UInt16(truncatingIfNeeded: count), page_generation: pageGeneration(page),
    page_generation2: pageGeneration(page2), operations: UnsafePointer(operations),
    entry: UnsafePointer(operations), code: soft_interpreted_code(), link0: nil, link1: nil,
    next_in_bucket: nil)
  countExecutions(cpu, block)
  cpu.pointee.cache.operation_count += UInt32(count + 2)
  cpu.pointee.cache.block_count += 1
  if physical != .max {
    let bucket = soft_bucket(cpu, physical, mode)
    block.pointee.next_in_bucket = bucket.pointee
    bucket.pointee = block
  }
  return block
}

/// Where a block's operations go. One is left before them: see `countExecutions`.
private func nextOperations(_ cpu: CPU) -> UnsafeMutablePointer<soft_operation> {
  cpu.pointee.cache.operations + Int(cpu.pointee.cache.operation_count) + 1
}

/// What stands after the last operation of a block that does not end in a branch.
private func endOfBlock(_ mode: UInt32) -> soft_handler {
  if mode & UInt32(SOFT_MODE_FLAT) != 0, mode & UInt32(SOFT_MODE_SINGLE) == 0 {
    if mode & UInt32(SOFT_MODE_CODE64) != 0 {
      return { cpu, operation in jump(cpu, to: address(cpu, operation), slot: 1) }
    }
    return { cpu, operation in jump(cpu, to: address(cpu, operation) & 0xFFFF_FFFF, slot: 1) }
  }
  if mode & UInt32(SOFT_MODE_CODE64) != 0 {
    return { cpu, operation in leave(cpu, at: address(cpu, operation)) }
  }
  if mode & UInt32(SOFT_MODE_CODE32) != 0 {
    return { cpu, operation in leave(cpu, at: address(cpu, operation) & 0xFFFF_FFFF) }
  }
  // A sequential run past the end of a 64 KiB segment is a fault of the limit, not a wrap.
  return { cpu, operation in leave(cpu, at: address(cpu, operation)) }
}
