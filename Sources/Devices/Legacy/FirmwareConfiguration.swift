// The paravirtual device through which firmware learns about the machine: fw_cfg, as QEMU's docs/specs/fw_cfg fixes it.
// Ports: 0x510 selector (16 bits, write-only), 0x511 data (a byte an access, string reads allowed), 0x514 and 0x518 the
// two halves of the big-endian DMA address; writing the lower half starts the transfer.
import GuestMemory
import Synchronization

/// The fw_cfg device. Register it at port 0x510, 12 ports.
package final class FirmwareConfiguration: BusDevice, Snapshottable {
  package static let basePort: UInt16 = 0x510
  package static let portCount = 12

  private enum Offset {
    static let selector: UInt64 = 0
    static let data: UInt64 = 1
    static let addressHigh: UInt64 = 4
    static let addressLow: UInt64 = 8
  }

  /// The interface version: bit 0 the ports, bit 1 DMA.
  private static let version: UInt32 = 0b11
  /// What 0x514 to 0x51B read as: "QEMU CFG".
  private static let transferSignature: [UInt8] = Array("QEMU CFG".utf8)

  private enum Control {
    static let error: UInt32 = 1 << 0
    static let read: UInt32 = 1 << 1
    static let skip: UInt32 = 1 << 2
    static let select: UInt32 = 1 << 3
    static let write: UInt32 = 1 << 4
  }

  /// What the guest has done to the device; the items themselves are made anew from the machine's definition.
  package struct State: Codable, Sendable, Equatable {
    package var selected: UInt16 = 0
    /// Where the next byte is taken from; never beyond the item's end.
    package var offset: Int = 0
    package var addressHigh: UInt32 = 0
    /// Writable items that the guest has changed.
    package var written: [UInt16: [UInt8]] = [:]

    package init() {}
  }

  package static let stateVersion = 1

  private let items: [UInt16: FirmwareItems.Item]
  private let memory: GuestMemory
  private let state = Mutex(State())

  package init(_ items: FirmwareItems, memory: GuestMemory) {
    self.items = items.table(version: Self.version)
    self.memory = memory
  }

  /// As at power-on: items that the guest wrote have their first content again.
  package func reset() { state.withLock { $0 = State() } }

  // MARK: Ports

  package func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    switch offset {
    case Offset.data:
      // A wide read takes as many bytes as it is wide, in the order in which a string instruction stores them.
      return state.withLock { state in
        var value: UInt64 = 0
        for index in 0..<width.count { value |= UInt64(nextByte(&state)) << UInt64(index * 8) }
        return value
      }
    case Offset.addressHigh..<UInt64(Self.portCount):
      var value: UInt64 = 0
      for index in 0..<width.count {
        let place = Int(offset - Offset.addressHigh) + index
        let byte = place < Self.transferSignature.count ? Self.transferSignature[place] : 0
        value |= UInt64(byte) << UInt64(index * 8)
      }
      return value
    default:
      return width.mask
    }
  }

  package func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    switch (offset, width) {
    case (Offset.selector, .word):
      state.withLock { Self.select(UInt16(truncatingIfNeeded: value), &$0) }
    case (Offset.addressHigh, .doubleword):
      state.withLock { $0.addressHigh = UInt32(truncatingIfNeeded: value).byteSwapped }
    case (Offset.addressLow, .doubleword):
      state.withLock { state in
        let low = UInt32(truncatingIfNeeded: value).byteSwapped
        let address = GuestAddress(UInt64(state.addressHigh) << 32 | UInt64(low))
        state.addressHigh = 0
        transfer(at: address, &state)
      }
    default:
      break  // bytes to the selector and writes to the data port have had no effect since QEMU 2.4
    }
  }

  // MARK: Items

  private static func select(_ key: UInt16, _ state: inout State) {
    // Bit 14 once asked for the write channel and is not part of the number.
    state.selected = key & ~0x4000
    state.offset = 0
  }

  private func nextByte(_ state: inout State) -> UInt8 {
    guard let item = items[state.selected], state.offset < item.content.count else { return 0 }
    defer { state.offset += 1 }
    if let bytes = state.written[state.selected] {
      return state.offset < bytes.count ? bytes[state.offset] : 0
    }
    switch item.content {
    case .bytes(let bytes): return bytes[state.offset]
    case .source(let source):
      var byte: UInt8 = 0
      withUnsafeMutableBytes(of: &byte) { source.copy(from: state.offset, into: $0) }
      return byte
    }
  }

  /// Fills the buffer from the selected item; zero beyond its end.
  private func fill(_ buffer: UnsafeMutableRawBufferPointer, _ state: inout State) {
    let item = items[state.selected]
    let available = max(0, (item?.content.count ?? 0) - state.offset)
    let count = min(available, buffer.count)
    if let item, count > 0 {
      let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
      let range = state.offset..<(state.offset + count)
      if let bytes = state.written[state.selected], range.upperBound <= bytes.count {
        target.copyBytes(from: bytes[range])
      } else {
        switch item.content {
        case .bytes(let bytes): target.copyBytes(from: bytes[range])
        case .source(let source): source.copy(from: state.offset, into: target)
        }
      }
      state.offset += count
    }
    if count < buffer.count {
      UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).initializeMemory(
        as: UInt8.self, repeating: 0)
    }
  }

  // MARK: DMA

  /// One transfer: a structure of control (32 bits), length (32) and address (64) in the guest's memory, big-endian.
  ///
  /// Only RAM is reached, never a device. The control word becomes 0, or 1 when the transfer was refused.
  private func transfer(at address: GuestAddress, _ state: inout State) {
    guard let first = memory.load(UInt64.self, at: address),
      let second = address.advanced(by: 8).flatMap({ memory.load(UInt64.self, at: $0) })
    else { return }  // no place for an answer either
    let control = UInt32(truncatingIfNeeded: first).byteSwapped
    let length = Int(UInt32(truncatingIfNeeded: first >> 32).byteSwapped)
    let target = GuestAddress(second.byteSwapped)
    if control & Control.select != 0 { Self.select(UInt16(control >> 16), &state) }
    var succeeded = true
    if control & Control.read != 0 {
      if length > 0 {
        if let buffer = memory.slice(at: target, count: length) {
          fill(buffer, &state)
          memory.markDirty(at: target, count: length)
        } else {
          succeeded = false
        }
      }
    } else if control & Control.write != 0 {
      succeeded = length == 0 || replace(from: target, count: length, &state)
    } else if control & Control.skip != 0 {
      let count = items[state.selected]?.content.count ?? 0
      state.offset = min(count, state.offset + length)
    }
    memory.store((succeeded ? 0 : Control.error).bigEndian, at: address)
  }

  private func replace(from source: GuestAddress, count: Int, _ state: inout State) -> Bool {
    guard let item = items[state.selected], item.isWritable,
      case .bytes(let original) = item.content, count <= original.count - state.offset,
      let buffer = memory.slice(at: source, count: count)
    else { return false }
    state.written[state.selected, default: original].replaceSubrange(
      state.offset..<(state.offset + count), with: buffer)
    state.offset += count
    return true
  }

  /// What the guest wrote into a file, or its first content. For the board, which acts on it.
  package func content(of key: UInt16) -> [UInt8]? {
    state.withLock { state in
      if let bytes = state.written[key] { return bytes }
      guard case .bytes(let bytes) = items[key]?.content else { return nil }
      return bytes
    }
  }

  // MARK: Snapshottable

  package func saveState() -> State { state.withLock { $0 } }

  package func check(_ state: State) throws(DeviceStateError) {
    for (key, bytes) in state.written {
      guard let item = items[key], item.isWritable else {
        throw DeviceStateError("item \(key) was written, which cannot be")
      }
      try DeviceStateError.require(
        item.content.count == bytes.count,
        "item \(key) has \(bytes.count) bytes and not \(item.content.count)")
    }
    try DeviceStateError.require(state.offset >= 0, "its offset is negative")
  }

  package func restoreState(_ new: State) {
    var accepted = new
    // A state from elsewhere must not take offsets out of the items that are here.
    accepted.written = new.written.filter { key, bytes in
      guard let item = items[key], item.isWritable else { return false }
      return item.content.count == bytes.count
    }
    accepted.offset = min(max(0, new.offset), items[new.selected]?.content.count ?? 0)
    let value = accepted
    state.withLock { $0 = value }
  }
}
