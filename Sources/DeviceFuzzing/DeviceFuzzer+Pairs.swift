// The virtio network adapter with several pairs of queues (Virtual I/O Device 1.2, 5.1.6.5): pairs come and go while all
// of them carry frames.

import Devices
import GuestMemory
import Processor

extension DeviceFuzzer {
  /// VIRTIO_NET_F_CTRL_VQ and VIRTIO_NET_F_MQ.
  static let pairFeatures: UInt64 = 1 << 17 | 1 << 22

  /// Room for frames, frames, or a command, as each queue has it.
  func makeNetworkBuffers(
    _ buffers: inout [FuzzDriver.Buffer], _ queue: Int, _ driver: FuzzDriver
  ) {
    // Without pairs it is the third that takes commands.
    if queue == driver.queueCount - 1 || queue == 2 && random.rarely(2) {
      makeCommand(&buffers, driver)
    } else if queue % 2 == 0 {
      makeRoom(&buffers)
    } else {
      makeFrame(&buffers, driver)
    }
  }

  private func makeRoom(_ buffers: inout [FuzzDriver.Buffer]) {
    if !random.rarely(8) { buffers = [buffers[0]] }
    for index in buffers.indices where !random.rarely(64) {
      buffers[index].isWritable = true
      if !random.rarely(8) { buffers[index].length = random.pick([1526, 4096, 65_562]) }
    }
  }

  private func makeFrame(_ buffers: inout [FuzzDriver.Buffer], _ driver: FuzzDriver) {
    let memory = board.memory
    for index in buffers.indices where !random.rarely(64) { buffers[index].isWritable = false }
    let address = buffers[0].address
    let isOdd = random.rarely(8)
    // The header: no offload, or anything.
    memory.store(isOdd ? value() : 0, at: GuestAddress(address))
    memory.store(isOdd ? value() : 0, at: GuestAddress(address &+ 8))
    for offset in 12..<18 as Range<UInt64> {
      memory.store(UInt8(random.rarely(2) ? 0xFF : 2), at: GuestAddress(address &+ offset))
    }
    if !random.rarely(8) { buffers[0].length = 12 + 14 + UInt32(random.below(1500)) }
  }

  private func makeCommand(_ buffers: inout [FuzzDriver.Buffer], _ driver: FuzzDriver) {
    let memory = board.memory
    let address = driver.bufferBase + random.below(FuzzDriver.bufferSize / 2)
    let kind = random.rarely(2) ? 4 : random.below(7)
    let command = kind == 4 && !random.rarely(8) ? 0 : random.below(6)
    let number = random.rarely(16) ? random.next() : random.below(7)
    memory.store(UInt8(kind), at: GuestAddress(address))
    memory.store(UInt8(command), at: GuestAddress(address &+ 1))
    memory.store(number, at: GuestAddress(address &+ 2))
    let length = random.rarely(16) ? 1 + random.below(80) : kind == 4 ? 4 : 2 + random.below(17)
    buffers = [
      .init(address: address, length: UInt32(length), isWritable: false),
      lastBuffer(buffers, driver),
    ]
    if random.rarely(64) { buffers.removeLast() }
  }
}
