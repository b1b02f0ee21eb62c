import CSoftProcessor
import Glibc
import GuestMemory
import Platform
import SoftProcessor

/// Processors with local APICs and nothing that executes: the state of each is a bare `soft_cpu`.
final class APICFixture {
  let board: SoftBoard
  let cpus: [UnsafeMutablePointer<soft_cpu>]
  let apics: [LocalAPIC]

  /// Byte offsets of registers in the page (Intel SDM 3A, table 11-1).
  enum Register {
    static let identity: UInt32 = 0x20
    static let taskPriority: UInt32 = 0x80
    static let processorPriority: UInt32 = 0xA0
    static let endOfInterrupt: UInt32 = 0xB0
    static let logicalDestination: UInt32 = 0xD0
    static let destinationFormat: UInt32 = 0xE0
    static let spurious: UInt32 = 0xF0
    static let errorStatus: UInt32 = 0x280
    static let commandLow: UInt32 = 0x300
    static let commandHigh: UInt32 = 0x310
    static let timer: UInt32 = 0x320
    static let localInput0: UInt32 = 0x350
    static let error: UInt32 = 0x370
    static let initialCount: UInt32 = 0x380
    static let currentCount: UInt32 = 0x390
    static let divide: UInt32 = 0x3E0
  }

  /// - Parameter isOn: software-enabled, as an operating system leaves them.
  init(count: Int, isOn: Bool = true) throws {
    let memory = try GuestMemory(size: 1 << 20)
    board = try SoftBoard(
      memory: memory, apicNumbers: (0..<UInt32(count)).map { $0 },
      bus: SoftBus(
        context: UnsafeMutableRawPointer(bitPattern: 1).unsafelyUnwrapped,
        memoryRead: { _, _, _ in .max }, memoryWrite: { _, _, _, _ in },
        portRead: { _, _, _ in .max }, portWrite: { _, _, _, _ in }))
    var cpus: [UnsafeMutablePointer<soft_cpu>] = []
    var apics: [LocalAPIC] = []
    for index in 0..<count {
      let size = MemoryLayout<soft_cpu>.stride
      let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
      raw.initializeMemory(as: UInt8.self, repeating: 0, count: size)
      let cpu = raw.assumingMemoryBound(to: soft_cpu.self)
      cpu.pointee.index = UInt32(index)
      cpus.append(cpu)
      apics.append(board.attach(cpu))
    }
    self.cpus = cpus
    self.apics = apics
    if isOn { for apic in apics { apic.writePage(Register.spurious, value: 0x1FF) } }
    for cpu in cpus { _ = soft_take_events(cpu, .max) }
  }

  deinit {
    board.stop()
    for cpu in cpus { UnsafeMutableRawPointer(cpu).deallocate() }
  }

  func events(_ index: Int) -> UInt32 { soft_take_events(cpus[index], .max) }

  /// Waits for a request, as a halted processor does.
  func waitForInterrupt(_ index: Int, seconds: Double) -> Bool {
    let end = MonotonicClock.now + UInt64(seconds * 1e9)
    while MonotonicClock.now < end {
      if apics[index].hasInterrupt() { return true }
      var pause = timespec(tv_sec: 0, tv_nsec: 200_000)
      nanosleep(&pause, nil)
    }
    return false
  }

  /// A message as an I/O APIC or a device sends it.
  @discardableResult
  func send(
    _ vector: UInt32, to destination: UInt64, mode: UInt32 = 0, isLogical: Bool = false,
    isLevel: Bool = false
  ) -> Bool {
    board.network.deliver(
      address: 0xFEE0_0000 | destination << 12 | (isLogical ? 4 : 0),
      data: vector | mode << 8 | (isLevel ? 0xC000 : 0))
  }
}
