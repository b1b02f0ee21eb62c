import Firmware
import Glibc
import GuestMemory
import Testing

/// Mutations of good kernels: every one is either planned inside the guest's memory, or refused in one line.
@Suite struct LoaderFuzzTests {
  /// 50,000 with optimization; a debug build needs minutes for that.
  private static let rounds: Int = {
    if let text = getenv("UNDERJACK_FUZZ_ROUNDS"), let rounds = Int(String(cString: text)) {
      return rounds
    }
    #if DEBUG
      return 2_000
    #else
      return 50_000
    #endif
  }()

  private static let images: [(name: String, bytes: [UInt8], interesting: Range<Int>)] = [
    ("linux", KernelImages.linux(payload: 64), 0x1F0..<0x270),
    ("multiboot", KernelImages.flatMultiboot(count: 512), 64..<96),
    (
      "elf32",
      KernelImages.elf32(
        [
          .init(
            address: 0x20_0000,
            bytes: KernelImages.multibootHeader() + [UInt8](repeating: 1, count: 60)),
          .init(address: 0x30_0000, bytes: [1, 2, 3], memorySize: 9000),
        ], entry: 0x20_0000), 0..<116
    ),
    (
      "pvh",
      KernelImages.elf64(
        [.init(address: 0x20_0000, bytes: [UInt8](repeating: 1, count: 60))], entry: 0x20_0000,
        pvhEntry: 0x20_0010), 0..<300
    ),
  ]

  @Test(arguments: 0..<4)
  func everyMutationIsPlannedOrRefused(kind: Int) throws {
    let image = Self.images[kind]
    let size: UInt64 = 32 << 20
    let memory = try GuestMemory(size: size)
    let loader = try KernelLoader(exampleBoard(memory: size, processors: 1))
    let edges: [UInt64] = [
      0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
      0xFFFF_F000, 0x10_0000, 0x7FFF_FFFF_FFFF_FFFF, .max, size, size - 1, 0xE_0000,
    ]
    var generator = FixedGenerator(UInt64(kind) + 100)
    var planned = 0
    for _ in 0..<Self.rounds {
      var bytes = image.bytes
      for _ in 0...Int.random(in: 0..<4, using: &generator) {
        let range = Bool.random(using: &generator) ? image.interesting : 0..<bytes.count
        let place = min(Int.random(in: range, using: &generator), bytes.count - 8)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
        case 1:
          bytes.put(
            UInt16(truncatingIfNeeded: edges[Int.random(in: edges.indices, using: &generator)]),
            at: place & ~1)
        case 2:
          bytes.put(
            UInt32(truncatingIfNeeded: edges[Int.random(in: edges.indices, using: &generator)]),
            at: place & ~3)
        default: bytes.put(edges[Int.random(in: edges.indices, using: &generator)], at: place & ~7)
        }
      }
      if Int.random(in: 0..<8, using: &generator) == 0 {
        bytes.removeLast(Int.random(in: 0..<(bytes.count - 16), using: &generator))
      }
      let disk = BootFile(name: "disk", bytes: [UInt8](repeating: 1, count: 5000))
      do throws(FirmwareError) {
        let plan = try loader.plan(
          KernelImages.request(bytes, modules: [.init(disk)]))
        try plan.validate(memory)
        planned += 1
        if planned % 100 == 0 { try plan.apply(to: memory) }
      } catch {
        #expect(!error.description.contains("\n") && !error.description.isEmpty)
      }
    }
    // Mutations that hit nothing important must still boot.
    #expect(planned > Self.rounds / 50 && planned < Self.rounds)
  }
}
