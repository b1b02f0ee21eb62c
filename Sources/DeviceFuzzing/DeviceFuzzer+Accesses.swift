// Random accesses to ports, memory and configuration space.

import Devices
import GuestMemory
import Processor

extension DeviceFuzzer {
  func accessPort() {
    report.ports += 1
    let port: UInt16
    switch random.below(8) {
    case 0: port = UInt16(truncatingIfNeeded: random.next())
    case 1...2: port = driver().portBase &+ UInt16(random.below(140))
    default:
      let range = random.pick(board.portRanges)
      port = UInt16(truncatingIfNeeded: range.lowerBound &+ random.below(UInt64(range.count)))
    }
    let width = width(upTo: 3)
    if random.rarely(3) {
      _ = board.ports.read(port: port, width: width)
    } else {
      board.ports.write(port: port, width: width, value: value() & width.mask)
    }
  }

  func accessMemory() {
    report.memory += 1
    let base: UInt64
    let size: UInt64
    switch random.below(9) {
    case 0: (base, size) = (value(), 16)
    case 8: (base, size) = (VGAPlanes.windowBase, VGAPlanes.windowSize)
    case 1: (base, size) = (InputOutputInterruptController.baseAddress, 0x44)
    case 2: (base, size) = (HighPrecisionEventTimer.baseAddress, 0x180)
    case 3: (base, size) = (driver().vectorBase, 0x1000)
    case 4 where random.rarely(2):
      (base, size) = (FuzzStorageDriver.base, random.rarely(8) ? AHCIController.size : 0x200)
    case 4: (base, size) = (driver().modernBase + 0x1000 * random.below(4), 64)
    default: (base, size) = (driver().modernBase, 0x3A)
    }
    let address = GuestAddress(base &+ random.below(size))
    let width = width(upTo: 4)
    if random.rarely(3) {
      _ = board.memoryBus.read(at: address, width: width)
    } else {
      board.memoryBus.write(at: address, width: width, value: value() & width.mask)
    }
  }

  func accessConfiguration() {
    report.configuration += 1
    let slot = UInt8(random.rarely(16) ? random.below(32) : random.below(12))
    let function = UInt8(random.rarely(4) ? random.below(8) : 0)
    if random.rarely(8) { return moveBaseAddress(slot) }
    let register = Int(random.next() & 0xFF)
    // I/O base addresses move in `moveBaseAddress`; elsewhere they would mostly be put out of the way.
    board.selectConfiguration(slot: slot, function: function, register: register)
    let width = width(upTo: 3)
    let port = 0xCFC + UInt16(register & 3)
    if random.rarely(3) {
      _ = board.ports.read(port: port, width: width)
    } else if register >= 0x24 || random.rarely(8) {
      board.ports.write(port: port, width: width, value: value() & width.mask)
    }
  }

  /// Puts a base address on top of another one, of a chip, of RAM, of nothing, or where the driver wants it.
  func moveBaseAddress(_ slot: UInt8) {
    let place: UInt64
    let register: Int
    if random.rarely(2) {
      register = 0x10
      place =
        random.rarely(2)
        ? UInt64(driver().portBase) : random.pick(board.portRanges).lowerBound
    } else {
      register = random.pick([0x14, 0x20, 0x24, 0x30])
      place = random.pick([
        driver().modernBase, driver().vectorBase, InputOutputInterruptController.baseAddress,
        HighPrecisionEventTimer.baseAddress, FuzzStorageDriver.base, 0xFEE0_0000, 0, 0xFFFF_FFFF,
        value(),
      ])
    }
    let address = board
    address.selectConfiguration(slot: slot, function: 0, register: register)
    address.ports.write(
      port: 0xCFC, width: .doubleword, value: place & 0xFFFF_FFFF | random.next() & 1)
    if slot == FuzzBoard.storageSlot && random.rarely(2) { storage.placeBaseAddress() }
    if random.rarely(2), slot >= FuzzBoard.firstVirtioSlot,
      Int(slot - FuzzBoard.firstVirtioSlot) < drivers.count
    {
      drivers[Int(slot - FuzzBoard.firstVirtioSlot)].placeBaseAddresses()
    }
  }
}
