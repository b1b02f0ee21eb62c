import Devices
import GuestMemory
import Platform

/// A virtio block device with an empty queue, without a machine: takes kicks of the bare loop, so that both loops wake
/// the same thread to the same work.
final class KickConsumer {
  private final class NoLines: InterruptSink {
    func setLine(_ number: UInt32, asserted: Bool) {}
    func deliver(_ message: MessageInterrupt) {}
  }

  private final class NoDisk: BlockBackend {
    let size: UInt64 = 1 << 20
    let isReadOnly = true
    func read(
      into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(BlockBackendError) { throw .unsupported }
    func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError) {
      throw .readOnly
    }
    func flush() throws(BlockBackendError) {}
    func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError) { throw .readOnly }
    func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
      throw .readOnly
    }
  }

  private let ports = PortBus()
  private let memoryBus = MemoryBus()
  private let transport: VirtioPCITransport

  init() throws {
    let sink = NoLines()
    let host = PCIHost(decoding: PCIDecoding(ports: ports, memory: memoryBus), sink: sink)
    host.registerPorts()
    transport = VirtioPCITransport(
      try VirtioBlock(backend: NoDisk()), memory: try GuestMemory(size: 4 << 20), sink: sink)
    host.attach(transport, at: PCIAddress(device: 0))
    for (port, value, width) in ExitProgram.driverStart(slot: 0, ringPage: 1) {
      ports.write(port: port, width: width, value: UInt64(value))
    }
  }

  var notifier: EventNotifier { transport.device.doorbell(forQueue: 0) }
}
