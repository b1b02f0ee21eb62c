// Executables in ELF (System V ABI, chapters 4 and 5), as far as a loader needs them. The file is not trusted.

/// The headers of an ELF executable for x86.
struct ELFFile {
  /// A PT_LOAD program header.
  struct Segment {
    var offset: UInt64
    var virtualAddress: UInt64
    var physicalAddress: UInt64
    var fileSize: UInt64
    var memorySize: UInt64
    /// PF_X, PF_W and PF_R.
    var flags: UInt32

    var isExecutable: Bool { flags & 1 != 0 }
    var isWritable: Bool { flags & 2 != 0 }
  }

  private enum SegmentKind {
    static let load: UInt32 = 1
    static let note: UInt32 = 4
  }

  private static let magic: [UInt8] = [0x7F, 0x45, 0x4C, 0x46]
  /// Kernels have fewer than ten.
  private static let headerLimit = 256
  private static let noteLimit = 64 << 10

  let is64Bit: Bool
  /// As the header has it: may be virtual.
  let entry: UInt64
  private(set) var segments: [Segment] = []
  private var notes: [(offset: UInt64, size: UInt64)] = []
  private let file: BootFile

  static func isELF(_ file: BootFile) -> Bool {
    (try? file.bytes(at: 0, count: 4)) == magic
  }

  init(_ file: BootFile) throws(FirmwareError) {
    func fail(_ problem: String) -> FirmwareError { FirmwareError(file.name, problem) }
    let identity = try file.bytes(at: 0, count: 16)
    guard identity.starts(with: Self.magic) else { throw fail("no ELF file") }
    guard identity[5] == 1 else { throw fail("an ELF file for big-endian machines") }
    guard identity[4] == 1 || identity[4] == 2 else { throw fail("an ELF file of unknown class") }
    is64Bit = identity[4] == 2
    self.file = file
    let header = try file.bytes(at: 0, count: is64Bit ? 64 : 52)
    let machine: UInt16 = header.load(at: 18) ?? 0
    guard machine == 3 || machine == 62 else {
      throw fail("an ELF file for machine \(machine), not for x86")
    }
    let kind: UInt16 = header.load(at: 16) ?? 0
    guard kind == 2 || kind == 3 else {
      throw fail("an ELF file of type \(kind), not an executable")
    }
    entry =
      is64Bit ? header.load(at: 24) ?? 0 : UInt64(header.load(UInt32.self, at: 24) ?? 0)
    let table: UInt64 =
      is64Bit ? header.load(at: 32) ?? 0 : UInt64(header.load(UInt32.self, at: 28) ?? 0)
    let entrySize = Int(header.load(UInt16.self, at: is64Bit ? 54 : 42) ?? 0)
    let count = Int(header.load(UInt16.self, at: is64Bit ? 56 : 44) ?? 0)
    guard count > 0 else { throw fail("has no program headers: not an executable") }
    guard count <= Self.headerLimit else { throw fail("\(count) program headers are too many") }
    guard entrySize >= (is64Bit ? 56 : 32), entrySize <= 1024 else {
      throw fail("program headers of \(entrySize) bytes")
    }
    let headers = try file.bytes(at: table, count: count * entrySize)
    for index in 0..<count { try addHeader(headers, at: index * entrySize) }
    guard !segments.isEmpty else { throw fail("has nothing to load") }
  }

  private mutating func addHeader(_ headers: [UInt8], at place: Int) throws(FirmwareError) {
    // The caller made sure that 32 or 56 bytes are there.
    func word(_ offset32: Int, _ offset64: Int) -> UInt64 {
      is64Bit
        ? headers.load(at: place + offset64) ?? 0
        : UInt64(headers.load(UInt32.self, at: place + offset32) ?? 0)
    }
    let kind: UInt32 = headers.load(at: place) ?? 0
    let segment = Segment(
      offset: word(4, 8), virtualAddress: word(8, 16), physicalAddress: word(12, 24),
      fileSize: word(16, 32), memorySize: word(20, 40),
      flags: headers.load(at: place + (is64Bit ? 4 : 24)) ?? 0)
    switch kind {
    case SegmentKind.load where segment.memorySize > 0:
      guard segment.fileSize <= segment.memorySize else {
        throw FirmwareError(file.name, "a segment is larger in the file than in memory")
      }
      segments.append(segment)
    case SegmentKind.note: notes.append((segment.offset, segment.fileSize))
    default: break
    }
  }

  /// The entry as a physical address: translated if a segment holds it as a virtual one.
  var physicalEntry: UInt64 {
    for segment in segments
    where entry >= segment.virtualAddress && entry - segment.virtualAddress < segment.memorySize {
      return segment.physicalAddress &+ (entry - segment.virtualAddress)
    }
    return entry
  }

  /// The content of the first note of this kind, or nil.
  func note(owner: String, kind wanted: UInt32) throws(FirmwareError) -> [UInt8]? {
    let name = Array(owner.utf8) + [0]
    for note in notes {
      guard note.size <= UInt64(Self.noteLimit) else { continue }
      let bytes = try file.bytes(at: note.offset, count: Int(note.size))
      var place = 0
      while place <= bytes.count - 12 {
        let nameSize = Int(bytes.load(UInt32.self, at: place) ?? 0)
        let size = Int(bytes.load(UInt32.self, at: place + 4) ?? 0)
        let kind = bytes.load(UInt32.self, at: place + 8)
        let content = place + 12 + (nameSize + 3) & ~3
        // Sums of two 32-bit numbers and a small one cannot overflow 64 bits.
        guard content + size <= bytes.count else { break }
        if kind == wanted, nameSize == name.count,
          Array(bytes[(place + 12)..<(place + 12 + nameSize)]) == name
        {
          return Array(bytes[content..<(content + size)])
        }
        place = content + (size + 3) & ~3
      }
    }
    return nil
  }

  /// Adds all segments at their physical addresses.
  func load(into plan: inout LoadPlan) throws(FirmwareError) {
    for (index, segment) in segments.enumerated() {
      let purpose = "segment \(index) of the kernel"
      try plan.add(
        file: file, offset: segment.offset, count: segment.fileSize, at: segment.physicalAddress,
        purpose)
      let (rest, overflow) = segment.physicalAddress.addingReportingOverflow(segment.fileSize)
      guard !overflow else {
        throw FirmwareError(file.name, "\(purpose) goes beyond the address space")
      }
      try plan.addZeros(segment.memorySize - segment.fileSize, at: rest, purpose)
    }
  }
}
