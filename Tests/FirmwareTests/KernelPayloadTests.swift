import Firmware
import Glibc
import GuestMemory
import Testing

/// The packers of the distribution, as the kernel's build calls them.
private enum Packer: String {
  case gzip, bzip2, lzma, xz, lz4, zstd

  var command: String {
    switch self {
    case .gzip: "gzip -n -9"
    case .bzip2: "bzip2 -9"
    case .lzma: "xz --format=lzma -9"
    case .xz: "xz --check=crc32 --x86 --lzma2=dict=32MiB"
    case .lz4: "lz4 -l -9 -q"
    case .zstd: "zstd -q -12 --ultra"
    }
  }

  static func has(_ tool: String) -> Bool {
    ["/usr/bin/", "/bin/", "/usr/local/bin/"].contains { access($0 + tool, X_OK) == 0 }
  }

  /// Packs in a pipe, as the build does, and appends the size where the format has none at its end.
  func pack(_ bytes: [UInt8]) throws -> [UInt8] {
    var template = Array("/tmp/payload-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      unlink(folder + "/in")
      unlink(folder + "/out")
      rmdir(folder)
    }
    let file = try #require(fopen(folder + "/in", "w"))
    #expect(fwrite(bytes, 1, bytes.count, file) == bytes.count)
    fclose(file)
    // A format per name: the tools are only reached by the fixed words above.
    try #require(system("cat \(folder)/in | \(command) -c > \(folder)/out") == 0)
    let packed = try BootFile(path: folder + "/out")
    var result = try packed.bytes(at: 0, count: packed.count)
    if self != .gzip {
      for shift in stride(from: 0, to: 32, by: 8) {
        result.append(UInt8(truncatingIfNeeded: bytes.count >> shift))
      }
    }
    return result
  }
}

private let codeAddress: UInt64 = 0x100_0000

/// More than one 8 MiB block of LZ4, with calls in it for the x86 filter of XZ, and a second segment with zeros behind.
private let code: [UInt8] = {
  var generator = FixedGenerator(7)
  var bytes = [UInt8](repeating: 0x90, count: 9 << 20)
  for place in stride(from: 0, to: bytes.count - 8, by: 64) {
    bytes[place] = 0xE8
    bytes.put(UInt32.random(in: 0...0xFFFFF, using: &generator), at: place + 1)
  }
  return bytes
}()

private let executable = KernelImages.elf64(
  [
    .init(address: codeAddress, virtualAddress: 0xFFFF_FFFF_8100_0000, bytes: code),
    .init(
      address: 0x200_0000, virtualAddress: 0xFFFF_FFFF_8200_0000, bytes: [1, 2, 3],
      memorySize: 9000),
  ], entry: codeAddress)

private func plan(
  _ kernel: [UInt8], unpacks: Bool = true, memory: UInt64 = 64 << 20
) throws -> LoadPlan {
  var request = KernelImages.request(
    kernel, modules: [.init(BootFile(name: "initrd", bytes: [UInt8](repeating: 5, count: 5000)))])
  request.unpacksKernel = unpacks
  return try KernelLoader(exampleBoard(memory: memory)).plan(request)
}

@Suite struct KernelPayloadTests {
  private func enters(_ packer: Packer) throws {
    let plan = try plan(KernelImages.linux(packed: try packer.pack(executable)))
    #expect(plan.summary == "Linux 6.1.0-test (unpacked here, 64-bit entry)")
    #expect(plan.entry.mode == .long64)
    #expect(plan.entry.instructionPointer == codeAddress)
    // Twice: a reset fills memory again.
    for _ in 0..<2 {
      let memory = try GuestMemory(size: 64 << 20)
      try plan.apply(to: memory)
      #expect(try memory.bytes(at: GuestAddress(codeAddress), count: code.count) == code)
      #expect(try memory.bytes(at: GuestAddress(0x200_0000), count: 4) == [1, 2, 3, 0])
      let page = plan.entry[.rsi]
      #expect(try memory.bytes(at: GuestAddress(page + 0x202), count: 4) == Array("HdrS".utf8))
      // No address was chosen at random.
      #expect(try memory.bytes(at: GuestAddress(page + 0x211), count: 1)[0] & 2 == 0)
      let disk: UInt32? = memory.load(at: GuestAddress(page + 0x218))
      #expect(disk == UInt32((64 << 20) - 8192))
    }
  }

  @Test(.enabled(if: Packer.has("gzip"), "gzip is not installed"))
  func gzip() throws { try enters(.gzip) }

  @Test(.enabled(if: Packer.has("bzip2"), "bzip2 is not installed"))
  func bzip2() throws { try enters(.bzip2) }

  @Test(.enabled(if: Packer.has("xz"), "xz is not installed"))
  func lzma() throws { try enters(.lzma) }

  @Test(.enabled(if: Packer.has("xz"), "xz is not installed"))
  func xz() throws { try enters(.xz) }

  @Test(.enabled(if: Packer.has("lz4"), "lz4 is not installed"))
  func lz4() throws { try enters(.lz4) }

  @Test(.enabled(if: Packer.has("zstd"), "zstd is not installed"))
  func zstd() throws { try enters(.zstd) }

  @Test func plainExecutableIsEntered() throws {
    let plan = try plan(KernelImages.linux(packed: executable))
    #expect(plan.entry.instructionPointer == codeAddress)
    #expect(plan.summary.contains("unpacked here"))
  }

  @Test func executableOf32BitsIsEnteredWithoutPaging() throws {
    let kernel = KernelImages.elf32(
      [.init(address: codeAddress, virtualAddress: 0xC100_0000, bytes: [UInt8](code.prefix(64)))],
      entry: codeAddress)
    let plan = try plan(KernelImages.linux(packed: kernel))
    #expect(plan.entry.mode == .protected32)
    #expect(plan.entry.instructionPointer == codeAddress)
  }

  @Test func guestUnpacksItselfWhereToldOrWhereNobodyElseCan() throws {
    let whole = KernelImages.linux(packed: executable)
    let asked = try plan(whole, unpacks: false)
    #expect(asked.entry.instructionPointer == 0x10_0200)
    #expect(asked.summary == "Linux 6.1.0-test (64-bit entry)")

    var unknown = KernelImages.linux(packed: executable)
    unknown[1024 + 0x200] = 0x89  // LZO
    #expect(
      try plan(unknown).summary
        == "Linux 6.1.0-test (64-bit entry; its payload is packed in an unknown way)")

    var outside = whole
    outside.put(UInt32.max, at: 0x248)
    #expect(try plan(outside).entry.instructionPointer == 0x10_0200)
    outside.put(UInt32.max, at: 0x24C)
    #expect(try plan(outside).entry.instructionPointer == 0x10_0200)

    // Segments that the machine has no memory for.
    let far = KernelImages.elf64([.init(address: 1 << 30, bytes: [1])], entry: 1 << 30)
    #expect(try plan(KernelImages.linux(packed: far)).entry.instructionPointer == 0x10_0200)
  }

  @Test(.enabled(if: Packer.has("gzip"), "gzip is not installed"))
  func sizeThatIsALieIsNotBelieved() throws {
    var packed = try Packer.gzip.pack(executable)
    for lie in [0, 1, UInt32(executable.count - 1), UInt32(executable.count + 1), 1 << 31, .max] {
      packed.put(lie, at: packed.count - 4)
      let plan = try plan(KernelImages.linux(packed: packed))
      #expect(plan.entry.instructionPointer == 0x10_0200, "\(lie)")
    }
  }

  @Test(
    .enabled(if: Packer.has("xz") && Packer.has("lz4") && Packer.has("zstd"), "packers missing"))
  func damageIsNoHarm() throws {
    let small = KernelImages.elf64(
      [.init(address: codeAddress, bytes: [UInt8](code.prefix(70_000)))], entry: codeAddress)
    var generator = FixedGenerator(99)
    for packer in [Packer.gzip, .bzip2, .lzma, .xz, .lz4, .zstd] {
      let packed = try packer.pack(small)
      var fallbacks = 0
      for _ in 0..<80 {
        var damaged = packed
        for _ in 0...Int.random(in: 0..<3, using: &generator) {
          damaged[Int.random(in: 6..<damaged.count, using: &generator)] =
            .random(in: 0...255, using: &generator)
        }
        if Bool.random(using: &generator) {
          damaged.removeLast(Int.random(in: 0..<damaged.count - 20, using: &generator))
        }
        let plan = try plan(KernelImages.linux(packed: damaged))
        if plan.entry.instructionPointer == 0x10_0200 { fallbacks += 1 }
      }
      #expect(fallbacks > 40, "\(packer)")
    }
  }
}
