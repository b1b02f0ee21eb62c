import GuestMemory
import Processor
import Testing

/// Addresses through page tables of every kind, as a debugger sees them.
@Suite struct LinearTranslationTests {
  private static let protectionAndPaging: UInt64 = 1 | 1 << 31

  private func memory() throws -> GuestMemory {
    try GuestMemory(size: 16 << 20, hugePages: .refused)
  }

  private func longMode(_ table: UInt64, fiveLevels: Bool = false) -> ProcessorState {
    var state = ProcessorState()
    state.control0 = Self.protectionAndPaging
    state.control3 = table
    state.control4 = 1 << 5 | (fiveLevels ? 1 << 12 : 0)
    state.extendedFeatures = 0x500
    return state
  }

  private func put(_ memory: GuestMemory, _ table: UInt64, _ index: UInt64, _ entry: UInt64) {
    memory.store(entry, at: GuestAddress(table + index * 8))
  }

  private func expect(
    _ state: ProcessorState, _ memory: GuestMemory, _ linear: UInt64, _ physical: UInt64?
  ) {
    let found = state.physicalAddress(of: linear, in: memory)?.rawValue
    #expect(found == physical, "\(String(linear, radix: 16))")
  }

  @Test func withoutPagingAddressesAreWhatTheyAre() throws {
    let memory = try memory()
    expect(ProcessorState(), memory, 0x1234, 0x1234)
    expect(ProcessorState(), memory, 0x1_0000_1234, 0x1234)
  }

  @Test func fourLevelsAndLargePages() throws {
    let memory = try memory()
    let state = longMode(0x10_0000)
    // No execution (bit 63) and software's bits belong to no address.
    put(memory, 0x10_0000, 511, 0x8000_0000_0010_1E07)
    put(memory, 0x10_1000, 510, 0x10_2007)
    put(memory, 0x10_1000, 509, 0x4000_0087)
    put(memory, 0x10_2000, 8, 0x10_3007)
    put(memory, 0x10_2000, 9, 0x60_0087)
    put(memory, 0x10_3000, 3, 0x8000_0000_0070_0007)
    expect(state, memory, 0xFFFF_FFFF_8100_3ABC, 0x70_0ABC)
    expect(state, memory, 0xFFFF_FFFF_8100_4ABC, nil)
    expect(state, memory, 0xFFFF_FFFF_8123_4567, 0x60_0000 + 0x3_4567)
    expect(state, memory, 0xFFFF_FFFF_4765_4321, 0x4000_0000 + 0x0765_4321)
    // Not canonical: the same bits below.
    expect(state, memory, 0x0000_FFFF_8100_3ABC, nil)
    expect(state, memory, 0x1234, nil)
    // A table outside of memory.
    put(memory, 0x10_0000, 0, 0xF_FFFF_FFFF_F007)
    expect(state, memory, 0x1234, nil)
    expect(longMode(0xF_FFFF_FFFF_F000), memory, 0x1234, nil)
  }

  @Test func fiveLevels() throws {
    let memory = try memory()
    let state = longMode(0x10_0000, fiveLevels: true)
    put(memory, 0x10_0000, 511, 0x10_1007)
    put(memory, 0x10_1000, 256, 0x10_2007)
    put(memory, 0x10_2000, 0, 0x10_3007)
    put(memory, 0x10_3000, 1, 0x20_0087)
    expect(state, memory, 0xFFFF_8000_0020_0123, 0x20_0123)
    expect(state, memory, 0xFF00_0000_0000_0000, nil)
    expect(state, memory, 0x7FFF_8000_0020_0123, nil)
  }

  @Test func threeLevelsWithLoadedPointers() throws {
    let memory = try memory()
    var state = ProcessorState()
    state.control0 = Self.protectionAndPaging
    state.control4 = 1 << 5
    state.control3 = 0x10_0020
    put(memory, 0x10_0020, 3, 0x10_1001)
    put(memory, 0x10_1000, 0, 0x10_2007)
    put(memory, 0x10_1000, 1, 0x40_0087)
    put(memory, 0x10_2000, 5, 0x55_5007)
    expect(state, memory, 0xC000_5678, 0x55_5678)
    expect(state, memory, 0xC021_2345, 0x41_2345)
    expect(state, memory, 0x4000_0000, nil)
    // The processor keeps the pointers that it has loaded.
    state.pageDirectoryPointers = [0x10_1001, 0, 0, 0]
    expect(state, memory, 0x5678, 0x55_5678)
    expect(state, memory, 0xC000_5678, nil)
  }

  @Test func twoLevels() throws {
    let memory = try memory()
    var state = ProcessorState()
    state.control0 = Self.protectionAndPaging
    state.control4 = 1 << 4
    state.control3 = 0x10_0018
    memory.store(UInt32(0x10_1007), at: GuestAddress(0x10_0000 + 4 * 0x300))
    memory.store(UInt32(0x0040_0087), at: GuestAddress(0x10_0000 + 4 * 0x301))
    memory.store(UInt32(0x55_5007), at: GuestAddress(0x10_1000 + 4 * 5))
    expect(state, memory, 0xC000_5678, 0x55_5678)
    expect(state, memory, 0xC052_3456, 0x40_0000 + 0x12_3456)
    expect(state, memory, 0xC000_6678, nil)
    expect(state, memory, 0x1000, nil)
  }
}
