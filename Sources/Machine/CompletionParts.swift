import CLinux
import Devices
import GuestMemory
import Platform
import Processor
import SoftProcessor
import Synchronization

/// What a software processor needs to work beside the kernel's in one board.
final class CompletionParts: Sendable {
  /// Memory that the guest sees beside RAM.
  struct Region {
    let host: Int
    let size: UInt64
    let address: UInt64
    let isWritable: Bool
    let owner: any AnyObject & Sendable
  }
  private struct Shown {
    var regions: [Region] = []
    var generation = 0
  }

  let memory: GuestMemory
  /// Addresses that are no RAM.
  let hole: Range<UInt64>?
  /// The kernel has the I/O APIC, the PIC and the PIT, which nobody else can reach.
  let hasKernelChips: Bool
  private let shown = Mutex(Shown())
  private struct Residence {
    /// What CPUID tells each processor; empty where none may move to software.
    var leaves: [[CPUIDLeaf]] = []
    var isWanted = false
    var board: ResidenceBoard?
  }
  private let residence = Mutex(Residence())
  private let connected = Mutex<BusAccess?>(nil)

  init(memory: GuestMemory, hole: Range<UInt64>? = nil, chip: InterruptChip) {
    self.memory = memory
    self.hole = hole
    hasKernelChips = chip == .kernel
  }

  /// Before any processor runs.
  var buses: BusAccess? {
    get { connected.withLock { $0 } }
    set { connected.withLock { $0 = newValue } }
  }

  // MARK: Processors that live in software

  /// The kernel emulates the guest's kernel mode: processors may move to software for good.
  ///
  /// - Parameter leaves: what CPUID tells each processor.
  func allowResidence(leaves: [[CPUIDLeaf]]) { residence.withLock { $0.leaves = leaves } }

  /// Whether `wantResidence` would change something.
  var mayWantResidence: Bool { residence.withLock { !$0.leaves.isEmpty && !$0.isWanted } }

  /// From now on all processors of the machine are to live in software. False where they may not, or do already.
  func wantResidence() -> Bool {
    residence.withLock {
      guard !$0.leaves.isEmpty, !$0.isWanted else { return false }
      $0.isWanted = true
      return true
    }
  }

  /// Where they live, once they are to.
  func residenceBoard() throws(PlatformError) -> ResidenceBoard? {
    try residence.withLock { residence throws(PlatformError) in
      guard residence.isWanted, let buses else { return nil }
      if let board = residence.board { return board }
      let board = try ResidenceBoard(self, buses: buses, leaves: residence.leaves)
      residence.board = board
      return board
    }
  }

  /// The processors' threads have ended.
  func stop() {
    residence.withLock {
      $0.board?.stop()
      $0 = Residence()
    }
    buses = nil
  }

  func show(
    _ host: UnsafeMutableRawPointer, size: UInt64, at address: UInt64, isWritable: Bool = false,
    owner: any AnyObject & Sendable
  ) {
    let region = Region(
      host: Int(bitPattern: host), size: size, address: address, isWritable: isWritable,
      owner: owner)
    shown.withLock {
      $0.regions.append(region)
      $0.generation += 1
    }
  }

  func hide(at address: UInt64, owner: AnyObject) {
    shown.withLock {
      $0.regions.removeAll { $0.address == address && $0.owner === owner }
      $0.generation += 1
    }
  }

  /// What is shown now, when it is not what it was at `generation`.
  func regions(since generation: inout Int) -> [Region]? {
    shown.withLock {
      guard $0.generation != generation else { return nil }
      generation = $0.generation
      return $0.regions
    }
  }
}

/// The buses as C functions, with a note of accesses that go to chips in the kernel.
final class CompletionBuses: Sendable {
  private let access: BusAccess
  private let hasKernelChips: Bool
  /// The instruction in hand wanted a chip that is the kernel's: what it did does not count.
  var hasTouchedKernel: Bool {
    get { touched.load(ordering: .relaxed) }
    set { touched.store(newValue, ordering: .relaxed) }
  }
  private let touched = Atomic(false)

  init(_ access: BusAccess, hasKernelChips: Bool) {
    self.access = access
    self.hasKernelChips = hasKernelChips
  }

  private func isKernels(memory address: UInt64) -> Bool {
    // The local APIC's page always is; the I/O APIC's may be.
    address >> 12 == 0xFEE00 || (hasKernelChips && address >> 12 == 0xFEC00)
  }

  private func isKernels(port: UInt32) -> Bool {
    switch port {
    case 0x20, 0x21, 0x40...0x43, 0x61, 0xA0, 0xA1, 0x4D0, 0x4D1: hasKernelChips
    default: false
    }
  }

  private func read(_ address: UInt64, _ size: UInt32) -> UInt64 {
    guard !isKernels(memory: address) else {
      hasTouchedKernel = true
      return .max
    }
    var value: UInt64 = 0
    access.readMemory(GuestAddress(address), Int(min(size, 8)), &value)
    return value
  }

  private func write(_ address: UInt64, _ size: UInt32, _ value: UInt64) {
    guard !isKernels(memory: address) else {
      hasTouchedKernel = true
      return
    }
    var value = value
    access.writeMemory(GuestAddress(address), Int(min(size, 8)), &value)
  }

  private func input(_ port: UInt32, _ size: UInt32) -> UInt64 {
    guard !isKernels(port: port), let width = AccessWidth(rawValue: UInt8(clamping: size)) else {
      hasTouchedKernel = true
      return .max
    }
    return access.readPort(UInt16(truncatingIfNeeded: port), width)
  }

  private func output(_ port: UInt32, _ size: UInt32, _ value: UInt64) {
    guard !isKernels(port: port), let width = AccessWidth(rawValue: UInt8(clamping: size)) else {
      hasTouchedKernel = true
      return
    }
    access.writePort(UInt16(truncatingIfNeeded: port), width, value & width.mask)
  }

  private static func of(
    _ context: UnsafeMutableRawPointer
  ) -> Unmanaged<CompletionBuses> { .fromOpaque(context) }

  /// Valid as long as this object.
  var functions: SoftBus {
    SoftBus(
      context: Unmanaged.passUnretained(self).toOpaque(),
      memoryRead: { context, address, size in
        CompletionBuses.of(context)._withUnsafeGuaranteedRef { $0.read(address, size) }
      },
      memoryWrite: { context, address, size, value in
        CompletionBuses.of(context)._withUnsafeGuaranteedRef { $0.write(address, size, value) }
      },
      portRead: { context, port, size in
        CompletionBuses.of(context)._withUnsafeGuaranteedRef { $0.input(port, size) }
      },
      portWrite: { context, port, size, value in
        CompletionBuses.of(context)._withUnsafeGuaranteedRef { $0.output(port, size, value) }
      })
  }
}
