import CLinux
import GuestMemory
import Platform
import Processor

/// A machine of one processor and 64 KiB, made for a moment to look at the host: for the probe and the bench.
final class MeasuringGuest: @unchecked Sendable {
  // @unchecked: used by the thread that made it.

  /// Where the program stands; 64-bit page tables are at the next three pages.
  private static let program = 0x1000
  private static let pageTable = 0x2000
  private static let size = 0x10000

  let machine: VirtualMachine
  let processor: VirtualProcessor
  private let memory: UnsafeMutableRawPointer

  init(_ system: KVMSystem) throws(KVMError) {
    machine = try system.makeVirtualMachine()
    let address = mmap(
      nil, Self.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let address, address != linux_map_failed() else {
      throw .system(PlatformError(operation: "mmap", code: linux_error_number()))
    }
    memory = address
    do {
      try machine.setMemory(
        slot: 0, guestAddress: GuestAddress(0), size: UInt64(Self.size), host: memory)
      processor = try machine.makeProcessor(index: 0)
    } catch {
      munmap(address, Self.size)
      throw error
    }
  }

  deinit { munmap(memory, Self.size) }

  /// Puts a program in place and the processor before it: 64-bit mode at CPL 0, SSE switched on, the first 2 MiB
  /// mapped one to one.
  func load(_ code: [UInt8]) throws(KVMError) {
    (memory + Self.program).copyMemory(from: code, byteCount: min(code.count, 0x1000))
    let tables = UInt64(Self.pageTable)
    memory.storeBytes(of: (tables + 0x1000) | 3, toByteOffset: Self.pageTable, as: UInt64.self)
    memory.storeBytes(
      of: (tables + 0x2000) | 3, toByteOffset: Self.pageTable + 0x1000, as: UInt64.self)
    // Page directory: a large page at 0 and, for accesses to no memory, one at 2 MiB.
    memory.storeBytes(of: 0x83, toByteOffset: Self.pageTable + 0x2000, as: UInt64.self)
    memory.storeBytes(of: 0x20_0083, toByteOffset: Self.pageTable + 0x2008, as: UInt64.self)
    var state = ProcessorState.long64(
      entry: UInt64(Self.program), pageTable: tables, stackPointer: 0x1000)
    // OSFXSR.
    state.control4 |= 1 << 9
    try processor.writeGeneralRegisters(state)
    try processor.writeSystemRegisters(state)
  }

  /// Nanoseconds until the next exit, and that exit.
  func timedRun() throws(KVMError) -> (nanoseconds: UInt64, exit: ProcessorExit) {
    let start = MonotonicClock.now
    do {
      // A signal to this process is no news.
      for _ in 0..<1000 {
        let exit = try processor.run()
        if case .interrupted = exit { continue }
        return (MonotonicClock.now &- start, exit)
      }
      return (MonotonicClock.now &- start, .interrupted)
    } catch {
      throw .invalidRequest(error.description)
    }
  }
}
