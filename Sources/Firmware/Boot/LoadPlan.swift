// What a loader decided: which bytes go where, and how the boot processor starts. Loaders only make plans; memory is
// touched when a plan is carried out, after everything has been checked. A plan can be carried out again: that is what
// a reset of a guest without firmware does.
import GuestMemory

/// How the boot processor enters what was loaded. The machine turns it into a `ProcessorState`.
package struct EntryState: Sendable, Equatable {
  package enum Mode: String, Sendable {
    /// As after reset: CS selector 0xF000 with base 0xFFFF0000, IP 0xFFF0.
    case real
    /// Protection on, paging off, flat 32-bit segments.
    case protected32
    /// Paging on by the tables at `pageTableAddress`, flat 64-bit code segment.
    case long64
  }

  package var mode: Mode
  package var instructionPointer: UInt64
  /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15, in the encoding's order.
  package var generalRegisters: [UInt64] = Array(repeating: 0, count: 16)
  /// CR3; only for `long64`.
  package var pageTableAddress: UInt64 = 0
  /// Base and limit for GDTR. Outside real mode the table itself is part of the plan.
  package var descriptorTableAddress: UInt64 = 0
  package var descriptorTableLimit: UInt16 = 0
  /// The selectors to load: code, and data for DS, ES, SS, FS and GS.
  package var codeSelector: UInt16 = 0
  package var dataSelector: UInt16 = 0
  /// TR: a busy 32/64-bit TSS with base 0 and limit 0x67. 0: leave it as after reset.
  package var taskSelector: UInt16 = 0
  /// SSE is on, and pages that may not be written or executed are so for the kernel too.
  package var isPrepared = false

  package init(mode: Mode, instructionPointer: UInt64) {
    self.mode = mode
    self.instructionPointer = instructionPointer
  }

  /// The processor's own start after reset.
  package static let reset = EntryState(mode: .real, instructionPointer: 0xFFF0)

  package enum Register: Int, Sendable {
    case rax = 0
    case rcx, rdx, rbx, rsp, rbp, rsi, rdi
  }

  package subscript(register: Register) -> UInt64 {
    get { generalRegisters[register.rawValue] }
    set { generalRegisters[register.rawValue] = newValue }
  }
}

/// Writes to the guest's memory, and the start that they are made for.
package struct LoadPlan: Sendable {
  package enum Source: Sendable {
    case bytes([UInt8])
    case file(BootFile, offset: UInt64)
    case zeros
  }

  package struct Segment: Sendable {
    package var address: UInt64
    package var count: Int
    package var source: Source
    /// What messages call it.
    package var purpose: String

    package var range: Range<UInt64> { address..<(address &+ UInt64(count)) }
  }

  package private(set) var segments: [Segment] = []
  package var entry: EntryState
  /// For a unikernel: what is still to be told to it.
  package var unikernel: UnikernelStart?
  /// What was recognized, such as "Linux 6.1.0 (64-bit entry)".
  package var summary: String
  private let subject: String

  package init(_ subject: String, summary: String = "", entry: EntryState = .reset) {
    self.subject = subject
    self.summary = summary
    self.entry = entry
  }

  package mutating func add(
    _ bytes: [UInt8], at address: UInt64, _ purpose: String
  ) throws(FirmwareError) {
    try add(
      Segment(address: address, count: bytes.count, source: .bytes(bytes), purpose: purpose))
  }

  mutating func add(
    file: BootFile, offset: UInt64, count: UInt64, at address: UInt64, _ purpose: String
  ) throws(FirmwareError) {
    guard count <= UInt64(file.count), offset <= UInt64(file.count) - count else {
      throw FirmwareError(
        file.name, "ends early: \(purpose) needs \(count) bytes at offset \(offset)")
    }
    try add(
      Segment(
        address: address, count: Int(count), source: .file(file, offset: offset), purpose: purpose))
  }

  mutating func addZeros(
    _ count: UInt64, at address: UInt64, _ purpose: String
  ) throws(FirmwareError) {
    guard count <= UInt64(BootFile.sizeLimit) else {
      throw FirmwareError(subject, "\(purpose): \(count) bytes are too many")
    }
    try add(Segment(address: address, count: Int(count), source: .zeros, purpose: purpose))
  }

  private mutating func add(_ segment: Segment) throws(FirmwareError) {
    guard segment.count > 0 else { return }
    let (end, overflow) = segment.address.addingReportingOverflow(UInt64(segment.count))
    guard !overflow else {
      throw FirmwareError(subject, "\(segment.purpose) goes beyond the address space")
    }
    if let other = segments.first(where: { $0.range.overlaps(segment.address..<end) }) {
      throw FirmwareError(
        subject,
        "\(segment.purpose) at \(hexadecimal(segment.address)) overlaps \(other.purpose) at "
          + hexadecimal(other.address))
    }
    segments.append(segment)
  }

  /// Takes another plan's writes in; its entry is left.
  package mutating func add(_ other: LoadPlan) throws(FirmwareError) {
    for segment in other.segments { try add(segment) }
  }

  /// True if nothing in the plan touches the range.
  package func isFree(_ range: Range<UInt64>) -> Bool {
    !segments.contains { $0.range.overlaps(range) }
  }

  /// One past the last address written below `limit`.
  func end(below limit: UInt64) -> UInt64 {
    segments.map(\.range.upperBound).filter { $0 <= limit }.max() ?? 0
  }

  /// Checks that every write lies in RAM.
  package func validate(_ memory: GuestMemory) throws(FirmwareError) {
    for segment in segments
    where memory.slice(at: GuestAddress(segment.address), count: segment.count) == nil {
      throw FirmwareError(
        subject,
        "\(segment.purpose): \(segment.count) bytes at \(hexadecimal(segment.address)) are not "
          + "inside the guest's memory of \(memory.size >> 20) MiB: give the machine more memory")
    }
  }

  /// Checks, then writes.
  package func apply(to memory: GuestMemory) throws(FirmwareError) {
    try validate(memory)
    for segment in segments {
      let address = GuestAddress(segment.address)
      switch segment.source {
      case .bytes(let bytes):
        memory.slice(at: address, count: segment.count)?.copyBytes(from: bytes)
      case .zeros:
        memory.slice(at: address, count: segment.count)?.initializeMemory(
          as: UInt8.self, repeating: 0)
      case .file(let file, let offset):
        try file.copy(at: offset, count: segment.count, to: address, in: memory)
      }
      memory.markDirty(at: address, count: segment.count)
    }
    for case .file(let file, _) in segments.map(\.source) { file.didLoad() }
  }
}

func hexadecimal(_ value: some BinaryInteger) -> String {
  "0x" + String(value, radix: 16)
}
