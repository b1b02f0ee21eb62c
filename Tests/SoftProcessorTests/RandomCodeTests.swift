// Random bytes as code, in every mode and at every privilege: whatever the guest runs, the process goes on, and memory
// stays bounded.
import CSoftProcessor
import Glibc
import GuestMemory
import Platform
import Processor
import SoftProcessor
import Synchronization
import Testing

/// Where a round starts.
private enum StartMode: CaseIterable {
  case real, protected16, protected32, protected32User, virtual8086, legacyPaging, pae, long,
    longUser, compatibility
}

private let pageTable: UInt64 = 0x10_0000
private let globalTable: UInt64 = 0x8_0000
private let interruptTable: UInt64 = 0x8_1000
private let taskState: UInt64 = 0x8_3000

@Suite("Random code")
struct RandomCodeTests {
  @Test("leaves the process running, in every mode")
  func everyMode() throws {
    let memory = try GuestMemory(size: 2 << 20)
    let board = try SoftBoard(
      memory: memory, apicNumbers: [0],
      bus: SoftBus(
        context: Unmanaged.passUnretained(memory).toOpaque(),
        memoryRead: { _, _, _ in .max }, memoryWrite: { _, _, _, _ in },
        portRead: { _, _, _ in .max }, portWrite: { _, _, _, _ in }))
    defer { board.stop() }
    let processor = try SoftProcessor(index: 0, board: board)
    var random = CaseRandom(seed: Self.seed)
    let before = residentMemory()
    try withTicker(processor) {
      let end = MonotonicClock.now + Self.seconds * 1_000_000_000
      var rounds = 0
      var report = MonotonicClock.now + 30_000_000_000
      while MonotonicClock.now < end {
        let mode = StartMode.allCases[rounds % StartMode.allCases.count]
        rounds += 1
        try fill(
          memory, &random, is64: mode == .long || mode == .longUser || mode == .compatibility)
        // A state that a guest cannot be in is refused, and that is fine.
        do { try processor.restoreState(state(mode, &random)) } catch { continue }
        if MonotonicClock.now > report {
          report += 30_000_000_000
          print("random code: \(residentMemory() >> 10) KiB resident after \(rounds) rounds")
        }
        for _ in 0..<2 { if case .shutdown = try processor.run() { break } }
      }
      #expect(rounds > 10)
    }
    #expect(processor.instructionCount > 1000)
    // Decoded code, translations, and the guest's 2 MiB: 64 MiB hold them with room to spare.
    let grown = residentMemory() - before
    #expect(grown < 64 << 20, "\(grown >> 10) KiB more than before")
    print("random code: \(processor.instructionCount) instructions, seed \(Self.seed)")
  }

  /// Bytes of this process in memory.
  private func residentMemory() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    // Size and resident pages.
    var size = 0
    var pages = 0
    return withUnsafeMutablePointer(to: &size) { size in
      withUnsafeMutablePointer(to: &pages) { pages in
        withVaList([size, pages]) { vfscanf(file, "%ld %ld", $0) } == 2 ? pages.pointee * 4096 : 0
      }
    }
  }

  /// Interrupts the processor all the time: random code loops.
  private func withTicker(
    _ processor: SoftProcessor, _ body: () throws -> Void
  ) throws {
    final class Flag: Sendable { let isSet = Atomic<Bool>(false) }
    let flag = Flag()
    let ticker = try PosixThread(name: "ticker") {
      while !flag.isSet.load(ordering: .relaxed) {
        usleep(400)
        processor.interrupt()
      }
    }
    defer {
      flag.isSet.store(true, ordering: .relaxed)
      ticker.join()
    }
    try body()
  }

  private static let seconds: UInt64 =
    getenv("UNDERJACK_RANDOM_SECONDS").flatMap { UInt64(String(cString: $0)) } ?? 3
  private static let seed: UInt64 =
    getenv("UNDERJACK_DIFFERENTIAL_SEED").flatMap { UInt64(String(cString: $0)) }
    ?? .random(in: 1 ... .max)

  // MARK: Memory

  private func fill(_ memory: GuestMemory, _ random: inout CaseRandom, is64: Bool) throws {
    var code = [UInt8](repeating: 0, count: 4096)
    let frequent: [UInt8] = [
      0x0F, 0x0F, 0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x48, 0x4C, 0xFF, 0x8E, 0xCD, 0xCF, 0xCB, 0xEA,
      0x9A, 0x01, 0x22, 0x30, 0xD9, 0xDD, 0xC4, 0xC5, 0xF4, 0xFB, 0x9D, 0xA5, 0xAB, 0xC8,
    ]
    for index in 0..<code.count {
      code[index] =
        random.chance(25) ? random.pick(frequent) : UInt8(truncatingIfNeeded: random.next() >> 24)
    }
    try memory.write(code, at: GuestAddress(0x10000))
    // Descriptors: mostly of use, some at random.
    var descriptors: [UInt64] = [
      0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00AF_9B00_0000_FFFF,
      0x00CF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0x008F_9B00_0000_FFFF,
      0x0000_8908_3000_0067, 0, 0x0000_8208_4000_00FF, 0x0000_EC00_0008_1234,
    ]
    for _ in 0..<20 { descriptors.append(random.next()) }
    try memory.write(bytes(descriptors), at: GuestAddress(globalTable))
    var gates: [UInt64] = []
    for _ in 0..<256 {
      let offset = 0x10000 &+ random.below(0x1000)
      let selector: UInt64 = random.chance(90) ? (is64 ? 0x18 : 0x08) : random.below(0x100)
      let type: UInt64 = random.chance(90) ? random.pick([0xEE, 0xEF, 0x8E]) : random.below(256)
      gates.append(
        offset & 0xFFFF | selector << 16 | type << 40 | (offset >> 16 & 0xFFFF) << 48)
      if is64 { gates.append(0) }
    }
    try memory.write(bytes(gates), at: GuestAddress(interruptTable))
    try memory.write(
      bytes((0..<13).map { _ in random.chance(80) ? 0x7000 : random.value() }),
      at: GuestAddress(taskState))
    // PML4, pointers and directory: the first 2 MiB as themselves, what follows at random.
    let rights: UInt64 = random.chance(90) ? 7 : random.below(8)
    try memory.write(
      bytes([(pageTable + 0x1000) | rights, random.next()]), at: GuestAddress(pageTable))
    try memory.write(
      bytes([(pageTable + 0x2000) | (is64 ? 7 : 1), random.next()]),
      at: GuestAddress(pageTable + 0x1000))
    try memory.write(
      bytes([0x87, random.next(), random.next() & ~0x80 | 7]), at: GuestAddress(pageTable + 0x2000))
    // 32-bit paging: 4 MiB pages.
    try memory.write(bytes([0x87 | random.next() << 32]), at: GuestAddress(pageTable + 0x3000))
  }

  private func bytes(_ words: [UInt64]) -> [UInt8] {
    words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) } }
  }

  // MARK: States

  private func state(_ mode: StartMode, _ random: inout CaseRandom) -> ProcessorState {
    let entry: UInt64 = 0x10000 &+ random.below(0x800)
    var state: ProcessorState
    switch mode {
    case .real, .virtual8086:
      state = ProcessorState()
      state.codeSegment = SegmentRegister(base: 0x10000, selector: 0x1000, type: 0xB)
      state.instructionPointer = entry &- 0x10000
      if mode == .virtual8086 {
        state.control0 |= 1
        state.flags |= 1 << 17
        makeVirtual(&state)
      }
    case .long, .longUser:
      state = .long64(entry: entry, pageTable: pageTable, stackPointer: 0x7000)
      state.codeSegment.selector = 0x18
      state.stackSegment.selector = 0x10
    case .compatibility:
      state = .long64(entry: entry, pageTable: pageTable, stackPointer: 0x7000)
      state.codeSegment = .flatCode32(selector: 0x08)
    default:
      state = .flat32(entry: UInt32(entry), codeSelector: 0x08)
      if mode == .protected16 {
        state.codeSegment.isDefault32 = false
        state.codeSegment.base = 0x10000
        state.instructionPointer = entry &- 0x10000
      }
      if mode == .legacyPaging || mode == .pae {
        state.control0 |= 1 << 31
        state.control3 = mode == .pae ? pageTable + 0x1000 : pageTable + 0x3000
        state.control4 = mode == .pae ? 0x20 : 0x10
      }
    }
    if mode == .longUser || mode == .protected32User {
      state.codeSegment.privilegeLevel = 3
      state.codeSegment.selector = mode == .longUser ? 0x33 : 0x23
      state.stackSegment.privilegeLevel = 3
      state.stackSegment.selector = 0x2B
    }
    for index in 0..<16 {
      state.generalRegisters[index] =
        random.chance(60) ? 0x6000 &+ random.below(0x20000) : random.value()
    }
    state.generalRegisters[4] = 0x7000
    state.globalDescriptors = DescriptorTable(base: globalTable, limit: 0xFF)
    state.interruptDescriptors =
      mode == .real
      ? DescriptorTable(base: 0, limit: 0x3FF) : DescriptorTable(base: interruptTable, limit: 0xFFF)
    state.taskRegister.base = taskState
    state.taskRegister.limit = 0x67
    state.control4 |= random.chance(50) ? 0x600 : random.next() & 0x0030_078F & ~0x20
    if random.chance(60) {
      // VEX instructions and XSAVE, with what of their state is on.
      state.control4 |= 0x4_0600
      state.extendedControls = [IndexedRegister(index: 0, value: random.pick([1, 3, 7, 7]))]
    }
    state.flags |= random.next() & 0x4ED5 | 2
    if random.chance(95) { state.flags &= ~0x100 }
    if random.chance(10) { state.debug7 = random.next() & 0xFFFF_03FF | 0x400 }
    return state
  }

  private func makeVirtual(_ state: inout ProcessorState) {
    func segment(_ base: UInt64) -> SegmentRegister {
      SegmentRegister(base: base, selector: UInt16(base >> 4), type: 0x3, privilegeLevel: 3)
    }
    state.codeSegment = segment(0x10000)
    for path in [
      \ProcessorState.dataSegment, \.extraSegment, \.extraSegmentF, \.extraSegmentG,
      \.stackSegment,
    ] { state[keyPath: path] = segment(0x1000) }
  }
}
