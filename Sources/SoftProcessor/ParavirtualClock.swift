import CLinux
import CSoftProcessor
import GuestMemory
import Platform
import Synchronization

/// The clock that KVM offers its guests (Linux, Documentation/virt/kvm/x86/msr.rst and cpuid.rst): guest time as a
/// function of the time stamp counter, told once in a page of the guest's.
///
/// The counters of all processors run at one rate and from one zero, so the page is written when the guest asks for it
/// and stays true until the machine's time was stopped. All pages count from the same moment: with one of its own for
/// each, what the measured rate is off by would make time differ between processors.
package final class ParavirtualClock: Sendable {
  package enum Register {
    static let wallClockOld: UInt32 = 0x11
    static let systemTimeOld: UInt32 = 0x12
    static let wallClock: UInt32 = 0x4B56_4D00
    static let systemTime: UInt32 = 0x4B56_4D01
    static let stealTime: UInt32 = 0x4B56_4D03
  }

  /// Bits of leaf 0x40000001, EAX.
  private enum Feature {
    static let clockOld: UInt32 = 1 << 0
    static let noPortDelay: UInt32 = 1 << 1
    static let clock: UInt32 = 1 << 3
    static let stealTime: UInt32 = 1 << 5
    static let clockIsStable: UInt32 = 1 << 24
  }

  static let firstLeaf: UInt32 = 0x4000_0000
  static let lastLeaf: UInt32 = 0x4000_0001

  private let timeStamps: TimeStampClock
  /// Host nanoseconds at the zero of guest time.
  private let start: Atomic<UInt64>
  /// The moment that the pages count from: host ticks and nanoseconds. Changes only while no processor runs.
  private let originTicks: Atomic<UInt64>
  private let originTime: Atomic<UInt64>
  /// When guest time was stopped; 0 while it runs.
  private let stoppedAt = Atomic<UInt64>(0)

  package init(_ timeStamps: TimeStampClock) {
    self.timeStamps = timeStamps
    let (ticks, time) = TimeStampClock.samplePair()
    start = Atomic(time)
    originTicks = Atomic(ticks)
    originTime = Atomic(time)
  }

  /// Nanoseconds of guest time since the machine started.
  package var now: UInt64 {
    let stopped = stoppedAt.load(ordering: .relaxed)
    return (stopped != 0 ? stopped : MonotonicClock.now) &- start.load(ordering: .relaxed)
  }

  /// Guest time stands still at a moment of the host's.
  func stop(at time: UInt64) { stoppedAt.store(time, ordering: .relaxed) }

  /// Guest time stands at a saved value. While it is stopped.
  func restore(_ time: UInt64) {
    start.store(stoppedAt.load(ordering: .relaxed) &- time, ordering: .relaxed)
  }

  /// Guest time goes on; the pages count from here.
  func go(on time: UInt64, ticks: UInt64) {
    start.store(time &- now, ordering: .relaxed)
    stoppedAt.store(0, ordering: .relaxed)
    originTicks.store(ticks, ordering: .relaxed)
    originTime.store(time, ordering: .relaxed)
  }

  /// Leaves 0x40000000 and 0x40000001; nil for others.
  static func leaf(_ number: UInt32) -> (eax: UInt32, ebx: UInt32, ecx: UInt32, edx: UInt32)? {
    switch number {
    case firstLeaf:
      // "KVMKVMKVM" and three zeros.
      return (lastLeaf, 0x4B4D_564B, 0x564B_4D56, 0x0000_004D)
    case lastLeaf:
      let features =
        Feature.clockOld | Feature.noPortDelay | Feature.clock | Feature.stealTime
        | Feature.clockIsStable
      return (features, 0, 0, 0)
    default: return nil
    }
  }

  // MARK: The guest's pages

  /// struct pvclock_wall_clock: version, seconds, nanoseconds of the day when guest time was zero.
  func writeWallClock(at address: UInt64, _ board: SoftBoard) {
    guard address & 3 == 0, let page = board.guestPointer(at: address, count: 12) else { return }
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    let real = UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
    let zero = real &- now
    let version = page.loadUnaligned(as: UInt32.self) & ~1
    soft_store_release32(page, version | 1)
    soft_full_fence()
    page.storeBytes(
      of: UInt32(truncatingIfNeeded: zero / 1_000_000_000), toByteOffset: 4, as: UInt32.self)
    page.storeBytes(of: UInt32(zero % 1_000_000_000), toByteOffset: 8, as: UInt32.self)
    soft_store_release32(page, version &+ 2)
    board.memory.recordStore(host: page, count: 12)
    board.noteWrite(at: address, count: 12)
  }

  /// struct pvclock_vcpu_time_info: 32 bytes.
  func writeSystemTime(at address: UInt64, offset: UInt64, _ board: SoftBoard) {
    guard address & 3 == 0, let page = board.guestPointer(at: address, count: 32) else { return }
    let ticks = originTicks.load(ordering: .relaxed)
    let time = originTime.load(ordering: .relaxed)
    let scale = timeStamps.scale
    let version = page.loadUnaligned(as: UInt32.self) & ~1
    soft_store_release32(page, version | 1)
    soft_full_fence()
    page.storeBytes(of: UInt32(0), toByteOffset: 4, as: UInt32.self)
    page.storeBytes(of: ticks &+ offset, toByteOffset: 8, as: UInt64.self)
    page.storeBytes(
      of: time &- start.load(ordering: .relaxed), toByteOffset: 16, as: UInt64.self)
    page.storeBytes(of: scale.multiplier, toByteOffset: 24, as: UInt32.self)
    page.storeBytes(of: scale.shift, toByteOffset: 28, as: Int8.self)
    // Bit 0: one time for all processors.
    page.storeBytes(of: UInt16(1), toByteOffset: 29, as: UInt16.self)
    page.storeBytes(of: UInt8(0), toByteOffset: 31, as: UInt8.self)
    soft_store_release32(page, version &+ 2)
    board.memory.recordStore(host: page, count: 32)
    board.noteWrite(at: address, count: 32)
  }
}

/// The registers of one processor.
struct ParavirtualRegisters {
  var wallClock: UInt64 = 0
  var systemTime: UInt64 = 0
  /// Accepted and kept; the time that a processor was not run is told as none.
  var stealTime: UInt64 = 0
}

// MARK: What instructions call

/// CPUID leaves 0x40000000 and up: nil for those that do not exist.
func paravirtualLeaf(_ number: UInt32) -> (eax: UInt32, ebx: UInt32, ecx: UInt32, edx: UInt32)? {
  ParavirtualClock.leaf(number)
}

/// RDMSR; nil for registers that are not the clock's, or #GP.
@inline(never)
func readParavirtualRegister(_ cpu: CPU, _ index: UInt32) -> UInt64? {
  guard let board = SoftBoard.of(cpu) else { return nil }
  let registers = board.paravirtualRegisters(Int(cpu.pointee.index))
  switch index {
  case ParavirtualClock.Register.wallClock, ParavirtualClock.Register.wallClockOld:
    return registers.pointee.wallClock
  case ParavirtualClock.Register.systemTime, ParavirtualClock.Register.systemTimeOld:
    return registers.pointee.systemTime
  case ParavirtualClock.Register.stealTime: return registers.pointee.stealTime
  default: return nil
  }
}

/// WRMSR; false for registers that are not the clock's, or values that it refuses: #GP.
@inline(never)
func writeParavirtualRegister(_ cpu: CPU, _ index: UInt32, _ value: UInt64) -> Bool {
  guard let board = SoftBoard.of(cpu) else { return false }
  let registers = board.paravirtualRegisters(Int(cpu.pointee.index))
  switch index {
  case ParavirtualClock.Register.wallClock, ParavirtualClock.Register.wallClockOld:
    registers.pointee.wallClock = value
    board.clock.writeWallClock(at: value, board)
  case ParavirtualClock.Register.systemTime, ParavirtualClock.Register.systemTimeOld:
    registers.pointee.systemTime = value
    if value & 1 != 0 {
      board.clock.writeSystemTime(at: value & ~1, offset: cpu.pointee.tsc_offset, board)
    }
  case ParavirtualClock.Register.stealTime:
    // Bits 1 to 5 are reserved; the record is 64 bytes at a multiple of that.
    guard value & 0x3E == 0 else { return false }
    registers.pointee.stealTime = value
    if value & 1 != 0 { board.clearStealTime(at: value & ~0x3F) }
  default: return false
  }
  return true
}
