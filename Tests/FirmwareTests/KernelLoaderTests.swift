import Firmware
import Glibc
import GuestMemory
import Testing

/// A machine with a kernel in it.
private struct Booted {
  let memory: GuestMemory
  let plan: LoadPlan
  var entry: EntryState { plan.entry }

  init(_ request: KernelRequest, memory size: UInt64 = 64 << 20) throws {
    plan = try KernelLoader(exampleBoard(memory: size)).plan(request)
    memory = try GuestMemory(size: size)
    try plan.apply(to: memory)
  }

  func load<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type, _ address: UInt64
  ) -> Value {
    memory.load(Value.self, at: GuestAddress(address)) ?? 0
  }

  func bytes(_ address: UInt64, _ count: Int) -> [UInt8] {
    (try? memory.bytes(at: GuestAddress(address), count: count)) ?? []
  }

  func text(_ address: UInt64) -> String {
    String(decoding: bytes(address, 256).prefix { $0 != 0 }, as: UTF8.self)
  }
}

private func problem(_ request: KernelRequest, memory: UInt64 = 64 << 20) -> String {
  do throws(FirmwareError) {
    _ = try KernelLoader(exampleBoard(memory: memory)).plan(request)
    return ""
  } catch {
    return error.description
  }
}

@Suite struct LinuxLoaderTests {
  @Test func kernelIsEnteredIn64Bits() throws {
    let image = KernelImages.linux()
    let disk = [UInt8](repeating: 0x5A, count: 5000)
    let guest = try Booted(
      KernelImages.request(
        image, modules: [.init(BootFile(name: "initrd", bytes: disk))]))
    #expect(guest.entry.mode == .long64)
    #expect(guest.entry.instructionPointer == 0x10_0200)
    #expect(guest.plan.summary == "Linux 6.1.0-test (64-bit entry)")
    #expect(guest.bytes(0x10_0000, 4096) == Array(image[1024...]))
    let page = guest.entry[.rsi]
    #expect(page % 4096 == 0)
    #expect(guest.bytes(page + 0x202, 4) == Array("HdrS".utf8))
    #expect(guest.load(UInt8.self, page + 0x210) == 0xFF)
    #expect(guest.load(UInt8.self, page + 0x1EF) == 0)
    #expect(guest.text(UInt64(guest.load(UInt32.self, page + 0x228))) == "console=ttyS0")
    let diskAddress = UInt64(guest.load(UInt32.self, page + 0x218))
    #expect(diskAddress == (64 << 20) - 8192)
    #expect(guest.load(UInt32.self, page + 0x21C) == 5000)
    #expect(guest.bytes(diskAddress, 5000) == disk)
    let root = guest.load(UInt64.self, page + 0x70)
    #expect(guest.bytes(root, 8) == Array("RSD PTR ".utf8))
    #expect(guest.load(UInt8.self, page + 0x1E8) == 3)
    #expect(guest.load(UInt64.self, page + 0x2D0 + 8) == 0x9FC00)
    #expect(guest.load(UInt64.self, page + 0x2D0 + 48) == 63 << 20)
  }

  @Test func pagesMapFourGigabytesOneToOne() throws {
    let guest = try Booted(KernelImages.request(KernelImages.linux()))
    for address: UInt64 in [0, 0x10_0200, 0x1234_5678, 0xC000_0000, 0xFFFF_FFFF] {
      let mask: UInt64 = 0xF_FFFF_FFFF_F000
      let top = guest.load(UInt64.self, guest.entry.pageTableAddress + (address >> 39) * 8)
      let middle = guest.load(UInt64.self, (top & mask) + (address >> 30 & 511) * 8)
      let leaf = guest.load(UInt64.self, (middle & mask) + (address >> 21 & 511) * 8)
      #expect(top & 3 == 3 && middle & 0x83 == 3 && leaf & 0x83 == 0x83)
      #expect(leaf & ~0x1F_FFFF == address & ~0x1F_FFFF)
    }
    // Code and data where the boot protocol wants them.
    let table = guest.entry.descriptorTableAddress
    #expect(guest.load(UInt64.self, table + UInt64(guest.entry.codeSelector)) >> 40 == 0xAF9B)
    #expect(guest.load(UInt64.self, table + UInt64(guest.entry.dataSelector)) >> 40 == 0xCF93)
    #expect(guest.entry.codeSelector == 0x10 && guest.entry.dataSelector == 0x18)
    let stack = guest.entry[.rsp]
    #expect(stack % 16 == 0 && !guest.plan.isFree((stack - 64)..<stack))
  }

  @Test func oldKernelsAreEnteredIn32Bits() throws {
    let guest = try Booted(
      KernelImages.request(KernelImages.linux(has64BitEntry: false)))
    #expect(guest.entry.mode == .protected32 && guest.entry.instructionPointer == 0x10_0000)
    let table = guest.entry.descriptorTableAddress
    #expect(guest.load(UInt64.self, table + 0x10) >> 40 == 0xCF9B)
    #expect(guest.load(UInt64.self, table + UInt64(guest.entry.taskSelector)) >> 40 & 0xFF == 0x8B)
  }

  @Test func ramDiskStaysBelowTheKernelsLimit() throws {
    var image = KernelImages.linux()
    image.put(UInt32(0x1FF_FFFF), at: 0x22C)
    let disk = BootFile(name: "initrd", bytes: [1, 2, 3])
    let guest = try Booted(KernelImages.request(image, modules: [.init(disk)]))
    let address = guest.load(UInt32.self, guest.entry[.rsi] + 0x218)
    #expect(address == 0x1FF_F000)
    // No room between the kernel's end and the limit.
    image.put(UInt32(0x11F_FFFF), at: 0x22C)
    #expect(problem(KernelImages.request(image, modules: [.init(disk)])).hasPrefix("initrd:"))
  }

  @Test func refusalsSayWhatIsWrong() {
    let image = KernelImages.linux()
    #expect(problem(KernelImages.request(image), memory: 16 << 20).contains("18 MiB"))
    #expect(
      problem(KernelImages.request(image, String(repeating: "x", count: 2048)))
        .contains("2047"))
    #expect(problem(KernelImages.request(image, "a\0b")).contains("NUL"))
    var old = image
    old.put(UInt16(0x201), at: 0x206)
    #expect(problem(KernelImages.request(old)).contains("2.1"))
    #expect(problem(KernelImages.request(Array(image[..<1024]))).contains("truncated"))
    #expect(problem(KernelImages.request([])).contains("empty"))
    #expect(problem(KernelImages.request([1, 2, 3])).contains("no kernel"))
    let disks = (0..<2).map { KernelRequest.Module(BootFile(name: "d\($0)", bytes: [1])) }
    #expect(problem(KernelImages.request(image, modules: disks)).contains("not several"))
    var far = image
    far.put(UInt64.max - 5, at: 0x258)
    #expect(problem(KernelImages.request(far)).contains("4 GiB"))
  }

  static let kernelPath = getenv("UNDERJACK_TEST_LINUX").map { String(cString: $0) } ?? ""

  @Test(.enabled(if: access(kernelPath, R_OK) == 0, "set UNDERJACK_TEST_LINUX to a bzImage"))
  func distributionKernelIsPlanned() throws {
    let request = try KernelRequest(
      kernel: Self.kernelPath, initrd: nil, commandLine: "console=ttyS0")
    let plan = try KernelLoader(exampleBoard(memory: 512 << 20)).plan(request)
    #expect(plan.summary.hasPrefix("Linux ") && plan.entry.mode == .long64)
    let memory = try GuestMemory(size: 512 << 20)
    try plan.apply(to: memory)
    #expect(try memory.bytes(at: GuestAddress(0x10_0200), count: 16).contains { $0 != 0 })
  }
}

@Suite struct MultibootTests {
  @Test func flatKernelGetsItsInformation() throws {
    let image = KernelImages.flatMultiboot()
    let module = BootFile(name: "mod", bytes: Array(1...100))
    let guest = try Booted(
      KernelImages.request(image, "verbose", modules: [.init(module, commandLine: "x=1")]))
    #expect(guest.entry.mode == .protected32)
    #expect(guest.entry.instructionPointer == 0x10_0100)
    #expect(guest.entry[.rax] == 0x2BAD_B002)
    #expect(guest.bytes(0x10_0000, 4096) == image)
    let info = guest.entry[.rbx]
    func field(_ offset: UInt64) -> UInt64 { UInt64(guest.load(UInt32.self, info + offset)) }
    #expect(field(0) == 0b10_0100_1101)
    #expect(field(4) == 639 && field(8) == 63 << 10)
    #expect(guest.text(field(16)) == "kernel verbose")
    #expect(guest.text(field(64)) == "Underjack")
    #expect(field(20) == 1)
    let list = field(24)
    let start = UInt64(guest.load(UInt32.self, list))
    let end = UInt64(guest.load(UInt32.self, list + 4))
    #expect(start % 4096 == 0 && start >= 0x10_0000 + 4096 + 8192 && end - start == 100)
    #expect(guest.bytes(start, 100) == Array(1...100))
    #expect(guest.text(UInt64(guest.load(UInt32.self, list + 8))) == "mod x=1")
    #expect(field(44) == 3 * 24)
    let map = field(48)
    #expect(guest.load(UInt32.self, map) == 20)
    #expect(guest.load(UInt64.self, map + 12) == 0x9FC00)
    #expect(guest.load(UInt32.self, map + 20) == 1)
    #expect(guest.load(UInt32.self, map + 44) == 2)
  }

  @Test func executableIsLoadedBySegments() throws {
    let code = KernelImages.multibootHeader() + [UInt8](repeating: 0x90, count: 100)
    let image = KernelImages.elf32(
      [
        .init(address: 0x20_0000, virtualAddress: 0xC020_0000, bytes: code),
        .init(address: 0x30_0000, bytes: [1, 2, 3], memorySize: 9000),
      ], entry: 0xC020_0010)
    let guest = try Booted(KernelImages.request(image))
    // The entry is virtual in the file.
    #expect(guest.entry.instructionPointer == 0x20_0010)
    #expect(guest.bytes(0x20_0000, code.count) == code)
    #expect(guest.bytes(0x30_0000, 4) == [1, 2, 3, 0])
  }

  @Test func longExecutablesNeedAddressesInTheHeader() throws {
    let header = KernelImages.multibootHeader(
      addresses: [0x10_0000, 0x10_0000, 0, 0, 0x10_0020])
    let image = KernelImages.elf64(
      [.init(address: 0x10_0000, bytes: header + [UInt8](repeating: 0x90, count: 64))],
      entry: 0x10_0000)
    let guest = try Booted(KernelImages.request(image))
    #expect(guest.plan.summary.contains("flat") && guest.entry.instructionPointer == 0x10_0020)
    #expect(guest.bytes(0x10_0000, header.count) == header)
    // Without: the file is an ordinary executable.
    let plain = KernelImages.elf64(
      [.init(address: 0x10_0000, bytes: KernelImages.multibootHeader())], entry: 0x10_0000)
    #expect(try Booted(KernelImages.request(plain)).plan.summary.contains("64-bit entry"))
  }

  @Test func contradictionsAreRefused() {
    let start: UInt32 = 0x10_0000
    func flat(_ addresses: [UInt32], flags: UInt32 = 3) -> String {
      var bytes = KernelImages.multibootHeader(flags, addresses: addresses)
      bytes += [UInt8](repeating: 0, count: 1000)
      return problem(KernelImages.request(bytes))
    }
    #expect(flat([start, start, 0, 0, start]) == "")
    #expect(flat([start, start + 4, 0, 0, start]).contains("below the load address"))
    #expect(flat([start, start - 4, 0, 0, start]).contains("before the file"))
    #expect(flat([start, start, start - 1, 0, start]).contains("ends before"))
    #expect(flat([start, start, start + 9999, 0, start]).contains("ends early"))
    #expect(flat([start, start, 0, start + 1, start]).contains("cleared memory"))
    #expect(flat([start, start, 0, .max, start]).contains("outside"))
    #expect(flat([start, start, 0, 0, 0x20_0000]).contains("entry"))
    #expect(flat([start, start, 0, 0, start], flags: 8).contains("unknown"))
    // On top of the tables that the kernel is to find.
    #expect(flat([0xE0000, 0xE0000, 0, 0, 0xE0000]).contains("overlaps"))
  }
}

@Suite struct ExecutableTests {
  private let code = KernelImages.Segment(
    address: 0x100_0000, bytes: [UInt8](repeating: 0x90, count: 300), memorySize: 5000)

  @Test(arguments: [true, false])
  func pvhNoteGivesTheEntry(is64Bit: Bool) throws {
    let image =
      is64Bit
      ? KernelImages.elf64([code], entry: 1, pvhEntry: 0x100_0040)
      : KernelImages.elf32([code], entry: 1, pvhEntry: 0x100_0040)
    let disk = BootFile(name: "initrd", bytes: Array(1...50))
    let guest = try Booted(KernelImages.request(image, modules: [.init(disk)]))
    #expect(guest.entry.mode == .protected32 && guest.entry.instructionPointer == 0x100_0040)
    let info = guest.entry[.rbx]
    #expect(guest.load(UInt32.self, info) == 0x336E_C578)
    #expect(guest.load(UInt32.self, info + 4) == 1 && guest.load(UInt32.self, info + 12) == 1)
    let list = guest.load(UInt64.self, info + 16)
    #expect(guest.bytes(guest.load(UInt64.self, list), 50) == Array(1...50))
    #expect(guest.load(UInt64.self, list + 8) == 50)
    #expect(guest.text(guest.load(UInt64.self, info + 24)) == "console=ttyS0")
    #expect(guest.bytes(guest.load(UInt64.self, info + 32), 4) == Array("RSD ".utf8))
    let map = guest.load(UInt64.self, info + 40)
    #expect(guest.load(UInt32.self, info + 48) == 3)
    #expect(guest.load(UInt64.self, map + 48) == 0x10_0000)
    #expect(guest.load(UInt32.self, map + 64) == 1)
  }

  @Test func plainExecutableIsEnteredInItsOwnWidth() throws {
    let long = try Booted(KernelImages.request(KernelImages.elf64([code], entry: 0x100_0000)))
    #expect(long.entry.mode == .long64 && long.entry.instructionPointer == 0x100_0000)
    let page = long.entry[.rsi]
    #expect(long.bytes(page + 0x202, 4) == Array("HdrS".utf8))
    let short = try Booted(KernelImages.request(KernelImages.elf32([code], entry: 0x100_0000)))
    #expect(short.entry.mode == .protected32)
  }

  @Test func reloadingRestoresMemory() throws {
    let guest = try Booted(KernelImages.request(KernelImages.elf64([code], entry: 0x100_0000)))
    for address in [0x100_0000, 0x100_0000 + 4000] as [UInt64] {
      guest.memory.store(UInt64.max, at: GuestAddress(address))
    }
    try guest.plan.apply(to: guest.memory)
    #expect(guest.load(UInt64.self, 0x100_0000) == 0x9090_9090_9090_9090)
    #expect(guest.load(UInt64.self, 0x100_0000 + 4000) == 0)
  }

  @Test func damagedHeadersAreRefused() {
    let good = KernelImages.elf64([code, code], entry: 0x100_0000)
    #expect(problem(KernelImages.request(good)).contains("overlaps"))
    var image = KernelImages.elf64([code], entry: 0x100_0000)
    func changed(_ change: (inout [UInt8]) -> Void) -> String {
      var copy = image
      change(&copy)
      return problem(KernelImages.request(copy))
    }
    #expect(changed { $0[5] = 2 }.contains("big-endian"))
    #expect(changed { $0[18] = 40 }.contains("machine 40"))
    #expect(changed { $0[16] = 1 }.contains("not an executable"))
    #expect(changed { $0.put(UInt16(0), at: 56) }.contains("program headers"))
    #expect(changed { $0.put(UInt16.max, at: 56) }.contains("too many"))
    #expect(changed { $0.put(UInt64.max, at: 32) }.contains("ends early"))
    #expect(changed { $0.put(UInt64.max, at: 64 + 32) }.contains("larger in the file"))
    #expect(changed { $0.put(UInt64.max, at: 64 + 8) }.contains("ends early"))
    #expect(changed { $0.put(UInt64.max - 10, at: 64 + 24) }.contains("address space"))
    #expect(changed { $0.put(UInt64(1) << 38, at: 64 + 40) }.contains("outside"))
    #expect(changed { $0.put(UInt64(1) << 41, at: 64 + 40) }.contains("too many"))
    image = Array(image[..<70])
    #expect(problem(KernelImages.request(image)).contains("ends early"))
  }
}
