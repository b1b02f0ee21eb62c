// One processor with nothing around it that executes single instructions at CPL 3, as a process on Linux would see them:
// what the host's own processor can be asked to do too, so that the two can be compared.
import CSoftProcessor

#if canImport(Glibc)
  import Glibc
#endif

/// A processor in long mode at CPL 3 with one page of code and three pages of data, the last read-only. The pages around
/// them are not mapped.
package final class InstructionProbe {
  /// Registers and the rest of the state may be set and read between steps.
  package let cpu: UnsafeMutablePointer<soft_cpu>
  /// The 12 KiB of data.
  package let data: UnsafeMutablePointer<UInt8>

  private let memory: UnsafeMutablePointer<UInt8>
  private let pages: UnsafeMutablePointer<soft_page>
  private let board: UnsafeMutablePointer<soft_board>
  private let operations: UnsafeMutablePointer<soft_operation>
  private let block: UnsafeMutablePointer<soft_block>
  private let translations: TranslationMemory?
  /// Instructions that were translated.
  package private(set) var translatedCount = 0
  private var allocations: [UnsafeMutableRawPointer] = []
  private static let memorySize = 0x10000
  private static let dataStart = 0x8000

  /// - Parameters:
  ///   - codeAddress: linear address of the page of code, below 1 GiB.
  ///   - dataAddress: of the first page of data, below 1 GiB and in another 2 MiB.
  ///   - translates: 64-bit instructions are translated where that can be, and not interpreted.
  package init(codeAddress: UInt64, dataAddress: UInt64, translates: Bool = false) {
    translations = translates ? TranslationMemory() : nil
    var allocations: [UnsafeMutableRawPointer] = []
    func allocate(_ size: Int) -> UnsafeMutableRawPointer {
      let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
      memset(memory, 0, size)
      allocations.append(memory)
      return memory
    }
    memory = allocate(Self.memorySize).assumingMemoryBound(to: UInt8.self)
    data = memory + Self.dataStart
    pages = allocate(MemoryLayout<soft_page>.stride * 16).assumingMemoryBound(to: soft_page.self)
    board = allocate(MemoryLayout<soft_board>.stride).assumingMemoryBound(to: soft_board.self)
    cpu = allocate(MemoryLayout<soft_cpu>.stride).assumingMemoryBound(to: soft_cpu.self)
    operations = allocate(4096).assumingMemoryBound(to: soft_operation.self)
    block = allocate(MemoryLayout<soft_block>.stride).assumingMemoryBound(to: soft_block.self)
    let entryCount = Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES)
    cpu.pointee.tlb_entries = allocate(MemoryLayout<soft_tlb_entry>.stride * entryCount)
      .assumingMemoryBound(to: soft_tlb_entry.self)
    cpu.pointee.jump_cache = allocate(
      MemoryLayout<soft_jump_entry>.stride << Int(SOFT_JUMP_CACHE_BITS)
    ).assumingMemoryBound(to: soft_jump_entry.self)
    self.allocations = allocations

    board.pointee.region_count = 1
    board.pointee.processor_count = 1
    board.pointee.a20_mask = .max
    board.pointee.memory_read = { _, _, _ in .max }
    board.pointee.memory_write = { _, _, _, _ in }
    board.pointee.port_read = { _, _, _ in .max }
    board.pointee.port_write = { _, _, _, _ in }
    let region = soft_regions(board)
    region.pointee.start = 0
    region.pointee.end = UInt64(Self.memorySize)
    region.pointee.host = memory
    region.pointee.pages = pages
    region.pointee.is_writable = 1
    cpu.pointee.board = board

    translations?.attach(cpu, threshold: 0)
    makeTables(codeAddress: codeAddress, dataAddress: dataAddress)
    cpu.pointee.cr0 =
      Control0.protection | Control0.monitorCoprocessor | Control0.extensionType
      | Control0.numericError | Control0.writeProtect | Control0.paging
    cpu.pointee.cr4 =
      Control4.physicalAddressExtension | Control4.fastSave | Control4.vectorExceptions
      | Control4.extendedSave
    cpu.pointee.xcr0 = 7
    setLeaves(cpu, SoftProcessorFeatures.supportedLeaves)
    cpu.pointee.efer =
      Extended.systemCall | Extended.longModeEnable | Extended.longModeActive | Extended.noExecute
    cpu.pointee.mxcsr = 0x1F80
    soft_x87_initialize(cpu)
    flushTranslations(cpu, keepGlobal: false)
  }

  deinit {
    releaseLeaves(cpu)
    for allocation in allocations { allocation.deallocate() }
  }

  private func makeTables(codeAddress: UInt64, dataAddress: UInt64) {
    let tables = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt64.self)
    func set(_ table: Int, _ index: UInt64, _ value: UInt64) {
      tables[table / 8 + Int(index & 511)] = value
    }
    // Present, writable, user, accessed, dirty.
    let all: UInt64 = 0x67
    set(0x1000, 0, 0x2000 | all)
    set(0x2000, 0, 0x3000 | all)
    set(0x3000, codeAddress >> 21, 0x4000 | all)
    set(0x3000, dataAddress >> 21, 0x5000 | all)
    set(0x4000, codeAddress >> 12, 0x6000 | all)
    for page in 0..<UInt64(3) {
      let rights: UInt64 = page == 2 ? all & ~2 : all
      set(
        0x5000, dataAddress >> 12 &+ page,
        (UInt64(Self.dataStart) &+ page << 12) | rights | 1 << 63)
    }
    cpu.pointee.cr3 = 0x1000
  }

  /// Chooses 64-bit or 32-bit (compatibility mode) code.
  package func setMode(is32Bit: Bool) {
    let segments = cpu.segments
    let flatData: UInt16 = 0xC0F3
    for index in 0..<Int(SOFT_SEGMENT_COUNT) {
      segments[index] = soft_segment(base: 0, limit: .max, selector: 0, attributes: 0)
    }
    segments[Int(SOFT_CS)].selector = is32Bit ? 0x23 : 0x33
    segments[Int(SOFT_CS)].attributes = is32Bit ? 0xC0FB : 0xA0FB
    segments[Int(SOFT_SS)].selector = 0x2B
    segments[Int(SOFT_SS)].attributes = flatData
    if is32Bit {
      for index in [Int(SOFT_DS), Int(SOFT_ES)] {
        segments[index].selector = 0x2B
        segments[index].attributes = flatData
      }
    }
    updateMode(cpu)
    cpu.pointee.mode |= UInt32(SOFT_MODE_SINGLE)
  }

  /// RFLAGS.
  package var flags: UInt64 {
    get { readRFLAGS(cpu) }
    set { writeRFLAGS(cpu, newValue, mask: 0x3F_7FD5) }
  }

  /// The x87, MXCSR and XMM registers in FXSAVE's form with 64-bit pointers.
  package func loadExtended(_ image: UnsafePointer<UInt8>) {
    _ = soft_x87_load_legacy_area(cpu, image, 1, 1)
  }
  package func storeExtended(_ image: UnsafeMutablePointer<UInt8>) {
    soft_vector_leave(cpu)
    soft_x87_store_legacy_area(cpu, image, 1, 1)
  }

  /// Executes one instruction at `rip`. False when the bytes are no whole instruction; then nothing happened. The
  /// exception, if one was raised, is in `cpu.pointee.exception`.
  package func step(
    _ code: UnsafePointer<UInt8>, count: Int, at rip: UInt64
  ) -> Bool {
    var decoder = Decoder(bytes: code, available: count, mode: cpu.pointee.mode)
    cpu.pointee.rip = rip
    cpu.pointee.block = nil
    cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
    cpu.pointee.exception_error = 0
    guard case .decoded = decoder.decode(offset: 0) else { return false }
    operations[0] = decoder.operation
    var end = decoder.operation
    end.opcode = 0xFFFF
    end.offset = UInt16(truncatingIfNeeded: decoder.position)
    end.handler = { cpu, operation in leave(cpu, at: address(cpu, operation)) }
    operations[1] = end
    if !stepTranslated(code, count: decoder.position, at: rip) {
      operations[0].handler(cpu, operations)
    }
    // As the loop does: see `takeException`.
    if cpu.pointee.noncanonical != 0 {
      cpu.pointee.noncanonical = 0
      if operations[0].flags & UInt8(SOFT_OPERATION_MEMORY) != 0, operations[0].segment == 2,
        cpu.pointee.exception == Exception.generalProtection.rawValue
      {
        cpu.pointee.exception = Exception.stackFault.rawValue
      }
    }
    return true
  }

  /// Translates what stands in `operations` and executes that. False: nothing was done.
  private func stepTranslated(_ code: UnsafePointer<UInt8>, count: Int, at rip: UInt64) -> Bool {
    guard translations != nil, cpu.hasMode(SOFT_MODE_CODE64) else { return false }
    let page = 6
    let offset = Int(rip & 0xFFF)
    guard offset + count <= 0x1000 else { return false }
    (memory + page << 12 + offset).update(from: code, count: count)
    let generation = UnsafePointer(soft_generation_of(pages + page))
    let entry = operations + 8
    entry.pointee = operations[0]
    block.pointee = soft_block(
      physical_address: UInt64(page << 12 + offset),
      mode: cpu.pointee.mode & ~UInt32(SOFT_MODE_SINGLE), generation: generation.pointee,
      generation2: generation.pointee, length: UInt16(count), count: 1,
      page_generation: generation, page_generation2: generation,
      operations: UnsafePointer(operations), entry: UnsafePointer(entry),
      code: soft_interpreted_code(), link0: nil, link1: nil, next_in_bucket: nil)
    cpu.pointee.translations.position = 0
    translate(cpu, block)
    guard block.pointee.entry == UnsafePointer(entry) else { return false }
    translatedCount += 1
    cpu.pointee.block = block
    soft_run(cpu, entry)
    cpu.pointee.block = nil
    return true
  }

  /// Executes one instruction again and again, as a block does: to measure its handler. It must not branch.
  package func execute(_ code: UnsafePointer<UInt8>, count: Int, times: Int) {
    var decoder = Decoder(bytes: code, available: count, mode: cpu.pointee.mode)
    guard case .decoded = decoder.decode(offset: 0) else { return }
    for index in 0..<Self.chain { operations[index] = decoder.operation }
    var end = decoder.operation
    end.handler = { _, _ in }
    operations[Self.chain] = end
    cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
    for _ in 0..<(times / Self.chain) { operations[0].handler(cpu, operations) }
  }
  private static let chain = 64

  /// What the decoder made of the last instruction: for messages.
  package var length: Int { Int(operations[0].length) }
}
