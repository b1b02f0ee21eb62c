import CLinux
import Devices
import GuestMemory
import Platform
import Synchronization

/// Records what interrupt chips would get.
final class RecordingSink: InterruptSink {
  struct Record: Sendable {
    var levels: [UInt32: Bool] = [:]
    var raises: [UInt32: Int] = [:]
    var messages: [MessageInterrupt] = []
  }
  let record = Mutex(Record())

  func setLine(_ number: UInt32, asserted: Bool) {
    record.withLock { record in
      if asserted && record.levels[number] != true { record.raises[number, default: 0] += 1 }
      record.levels[number] = asserted
    }
  }

  func deliver(_ message: MessageInterrupt) { record.withLock { $0.messages.append(message) } }

  func level(_ number: UInt32) -> Bool { record.withLock { $0.levels[number] ?? false } }
  var messages: [MessageInterrupt] { record.withLock { $0.messages } }
  func clear() { record.withLock { $0.messages = [] } }
}

/// A disk in memory that can be told to fail or to stall.
final class MemoryDisk: BlockBackend {
  struct Contents: Sendable {
    var bytes: [UInt8]
    var flushes = 0
    var failure: BlockBackendError?
    var discarded: [Range<UInt64>] = []
  }
  let contents: Mutex<Contents>
  let size: UInt64
  let isReadOnly: Bool
  /// While true, reads wait.
  let isStalled = Atomic<Bool>(false)
  let entered = Atomic<Int>(0)

  init(size: Int, isReadOnly: Bool = false) {
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      for sector in 0..<size / 512 {
        memset(buffer.baseAddress! + sector * 512, Int32(sector & 0xFF), 512)
      }
      count = size / 512 * 512
    }
    contents = Mutex(Contents(bytes: bytes))
    self.size = UInt64(size)
    self.isReadOnly = isReadOnly
  }

  private func check() throws(BlockBackendError) {
    if let failure = contents.withLock({ $0.failure }) { throw failure }
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64)
    throws(BlockBackendError)
  {
    entered.add(1, ordering: .sequentiallyConsistent)
    while isStalled.load(ordering: .acquiring) { usleep(500) }
    try check()
    contents.withLock { contents in
      contents.bytes.withUnsafeBytes { bytes in
        buffer.copyMemory(
          from: UnsafeRawBufferPointer(
            rebasing: bytes[Int(offset)..<Int(offset) + buffer.count]))
      }
    }
  }

  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError) {
    try check()
    contents.withLock { contents in
      contents.bytes.withUnsafeMutableBytes { bytes in
        UnsafeMutableRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset) + buffer.count])
          .copyMemory(from: buffer)
      }
    }
  }

  func flush() throws(BlockBackendError) {
    try check()
    contents.withLock { $0.flushes += 1 }
  }

  func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    try check()
    contents.withLock { $0.discarded.append(offset..<offset + count) }
  }

  func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    try check()
    contents.withLock { contents in
      for index in Int(offset)..<Int(offset + count) { contents.bytes[index] = 0 }
    }
  }
}

/// Waits for another thread, but not for ever.
func eventually(seconds: Double = 5, _ condition: () -> Bool) -> Bool {
  for _ in 0..<Int(seconds * 5000) {
    if condition() { return true }
    usleep(200)
  }
  return condition()
}

/// A board with nothing but a PCI bus, as a guest sees it: ports and memory.
final class PCITestBoard {
  let ports = PortBus()
  let memoryBus = MemoryBus()
  let sink = RecordingSink()
  let memory: GuestMemory
  let host: PCIHost

  init(memorySize: UInt64 = 16 << 20, mapper: (any PCIRegionMapper)? = nil) throws {
    memory = try GuestMemory(size: memorySize)
    host = PCIHost(
      decoding: PCIDecoding(ports: ports, memory: memoryBus, mapper: mapper), sink: sink)
    host.registerPorts()
    host.attach(I440FXBridge(), at: PCIAddress(device: 0))
    host.attach(PIIX3Bridge(router: host.router), at: PCIAddress(device: 1))
  }

  func select(_ device: Int, _ register: Int, function: Int = 0) {
    let address =
      0x8000_0000 | UInt64(device) << 11 | UInt64(function) << 8 | UInt64(register & 0xFC)
    ports.write(port: 0xCF8, width: .doubleword, value: address)
  }

  func config(
    _ device: Int, _ register: Int, _ width: AccessWidth = .doubleword, function: Int = 0
  ) -> UInt64 {
    select(device, register, function: function)
    return ports.read(port: 0xCFC + UInt16(register & 3), width: width)
  }

  func setConfig(
    _ device: Int, _ register: Int, _ value: UInt64, _ width: AccessWidth = .doubleword,
    function: Int = 0
  ) {
    select(device, register, function: function)
    ports.write(port: 0xCFC + UInt16(register & 3), width: width, value: value)
  }

  /// Offset of the first capability that `match` accepts.
  func capability(_ device: Int, where match: (Int) -> Bool) -> Int? {
    var offset = Int(config(device, 0x34, .byte))
    for _ in 0..<48 where offset != 0 {
      if match(offset) { return offset }
      offset = Int(config(device, offset + 1, .byte))
    }
    return nil
  }

  func load(_ address: UInt64, _ width: AccessWidth) -> UInt64 {
    memoryBus.read(at: GuestAddress(address), width: width)
  }

  func store(_ address: UInt64, _ value: UInt64, _ width: AccessWidth) {
    memoryBus.write(at: GuestAddress(address), width: width, value: value)
  }
}
