// A split virtqueue (Virtual I/O Device 1.2, 2.7) seen from the device.
//
// All sizes and addresses are checked once, when the driver sets DRIVER_OK, and never read again from registers. What
// stands in the rings belongs to a guest that may change it at any time: every field is read once and then judged.

import CLinux
import GuestMemory

/// What a driver did that the specification forbids. The device stops and asks for a reset.
public enum VirtioViolation: Error, Equatable, Sendable {
  /// Queue size zero, not a power of two, or larger than the device's.
  case queueSize(UInt16)
  /// A ring that is misaligned or not inside RAM.
  case ringAddress(UInt64)
  /// The available index ran ahead by more than the size of the queue.
  case availableIndex(UInt16)
  /// A descriptor number that is not in the table.
  case descriptorIndex(UInt16)
  /// More descriptors than the table has, or more than `VirtioChain.capacity`.
  case chainLength
  /// An indirect table inside one, beside a next flag, empty, or of a broken size.
  case indirectTable
  /// A buffer of no bytes, or outside RAM.
  case bufferAddress(UInt64, UInt32)
  /// A buffer to read after one to write.
  case bufferOrder
  /// The same head again before it was used.
  case headInFlight(UInt16)
  /// A request without the parts that its type needs.
  case request
}

/// Where the parts of a queue stand, as the driver wrote it.
public struct VirtioQueueLayout: Equatable, Sendable, Codable {
  public var size: UInt16
  public var descriptors: UInt64
  public var available: UInt64
  public var used: UInt64

  public init(size: UInt16, descriptors: UInt64, available: UInt64, used: UInt64) {
    self.size = size
    self.descriptors = descriptors
    self.available = available
    self.used = used
  }

  /// The fixed layout of legacy devices (2.7.2): one block that begins at a page.
  public init(size: UInt16, legacyPage page: UInt32) {
    self.size = size
    descriptors = UInt64(page) << 12
    available = descriptors + UInt64(size) * 16
    used = (available + 6 + UInt64(size) * 2 + 4095) & ~4095
  }
}

/// One queue in operation. Used by one thread at a time.
public final class VirtioQueue: @unchecked Sendable {
  // @unchecked: the owner's lock or thread guards it; the pointers are into guest memory, which `memory` keeps.
  private enum Flag {
    static let next: UInt16 = 1
    static let write: UInt16 = 2
    static let indirect: UInt16 = 4
  }

  public let index: Int
  public let size: UInt16
  public let layout: VirtioQueueLayout
  private let mask: UInt16
  private let memory: GuestMemory
  private let descriptors: UnsafeMutableRawPointer
  private let available: UnsafeMutableRawPointer
  private let used: UnsafeMutableRawPointer
  private let allowsIndirect: Bool
  private let usesEventIndex: Bool
  /// One bit a head that was taken and not given back.
  private let inFlight: UnsafeMutablePointer<UInt64>
  /// The next entry of the available ring to take.
  public private(set) var nextAvailable: UInt16
  /// The next entry of the used ring to fill.
  public private(set) var usedIndex: UInt16
  private var signalledIndex: UInt16 = 0
  private var signalledIsValid = false
  private var notificationsAreOn = true
  /// Heads that were taken and not given back.
  public private(set) var outstanding = 0

  /// - Parameters:
  ///   - maximumSize: what the device offered.
  ///   - features: what was negotiated.
  ///   - position: where a queue from a snapshot goes on.
  public init(
    index: Int, layout: VirtioQueueLayout, maximumSize: UInt16, features: VirtioFeatures,
    memory: GuestMemory, position: VirtioQueuePosition = VirtioQueuePosition()
  ) throws(VirtioViolation) {
    let size = layout.size
    guard size > 0, size <= maximumSize, size & (size &- 1) == 0 else { throw .queueSize(size) }
    func pointer(
      _ address: UInt64, _ count: UInt64, alignment: UInt64
    ) throws(VirtioViolation)
      -> UnsafeMutableRawPointer
    {
      guard address & (alignment - 1) == 0,
        let pointer = memory.pointer(at: GuestAddress(address), count: count)
      else { throw .ringAddress(address) }
      return pointer
    }
    descriptors = try pointer(layout.descriptors, UInt64(size) * 16, alignment: 16)
    available = try pointer(layout.available, UInt64(size) * 2 + 6, alignment: 2)
    used = try pointer(layout.used, UInt64(size) * 8 + 6, alignment: 4)
    self.index = index
    self.size = size
    self.layout = layout
    self.memory = memory
    mask = size &- 1
    allowsIndirect = features.contains(.indirectDescriptors)
    usesEventIndex = features.contains(.eventIndex)
    nextAvailable = position.nextAvailable
    usedIndex = position.usedIndex
    let words = (Int(size) + 63) / 64
    inFlight = .allocate(capacity: words)
    inFlight.initialize(repeating: 0, count: words)
  }

  deinit { inFlight.deallocate() }

  public var position: VirtioQueuePosition {
    VirtioQueuePosition(nextAvailable: nextAvailable, usedIndex: usedIndex)
  }

  // MARK: Taking

  /// Whether the driver offers something. A broken index counts as something, so that `take` can find it out.
  public var hasAvailable: Bool { linux_load_acquire_16(available + 2) != nextAvailable }

  /// How many chains the driver offers; more than `size` when its index is broken.
  var availableCount: UInt16 {
    UInt16(littleEndian: linux_load_acquire_16(available + 2)) &- nextAvailable
  }

  /// Takes the next chain.
  ///
  /// - Returns: false when nothing is offered.
  /// - Throws: `VirtioViolation`; the queue must not be used again.
  public func take(into chain: VirtioChain) throws(VirtioViolation) -> Bool {
    // Acquire: what the driver wrote before it moved the index is seen.
    let end = UInt16(littleEndian: linux_load_acquire_16(available + 2))
    let count = end &- nextAvailable
    if count == 0 { return false }
    guard count <= size else { throw .availableIndex(end) }
    let slot = Int(nextAvailable & mask)
    let head = UInt16(littleEndian: linux_load_relaxed_16(available + 4 + 2 * slot))
    guard head < size else { throw .descriptorIndex(head) }
    let bit: UInt64 = 1 << UInt64(head & 63)
    guard inFlight[Int(head >> 6)] & bit == 0 else { throw .headInFlight(head) }
    chain.begin(head: head)
    try walk(from: head, into: chain)
    inFlight[Int(head >> 6)] |= bit
    outstanding &+= 1
    nextAvailable = nextAvailable &+ 1
    return true
  }

  private func walk(from head: UInt16, into chain: VirtioChain) throws(VirtioViolation) {
    var table = descriptors
    var count = UInt32(size)
    var number = head
    var visited: UInt32 = 0
    var isIndirect = false
    while true {
      guard UInt32(number) < count else { throw .descriptorIndex(number) }
      visited &+= 1
      guard visited <= count else { throw .chainLength }
      let entry = table + Int(number) * 16
      let address = UInt64(littleEndian: linux_load_once_64(entry))
      let rest = UInt64(littleEndian: linux_load_once_64(entry + 8))
      let length = UInt32(truncatingIfNeeded: rest)
      let flags = UInt16(truncatingIfNeeded: rest >> 32)
      if flags & Flag.indirect != 0 {
        guard allowsIndirect, !isIndirect, flags & Flag.next == 0, length > 0, length & 15 == 0,
          length / 16 <= UInt32(VirtioChain.capacity),
          let pointer = memory.pointer(at: GuestAddress(address), count: UInt64(length))
        else { throw .indirectTable }
        isIndirect = true
        table = pointer
        count = length / 16
        number = 0
        visited = 0
        continue
      }
      guard length > 0,
        let pointer = memory.pointer(at: GuestAddress(address), count: UInt64(length))
      else { throw .bufferAddress(address, length) }
      try chain.append(
        pointer, address: address, count: length, isWritable: flags & Flag.write != 0)
      if flags & Flag.next == 0 { return }
      number = UInt16(truncatingIfNeeded: rest >> 48)
    }
  }

  // MARK: Giving back

  /// Gives a chain back, and marks what the device wrote into it.
  public func give(_ chain: VirtioChain, written: UInt32) {
    markWritten(chain)
    give(head: chain.head, written: written)
  }

  /// For a chain that is not given back because its request was broken.
  func markWritten(_ chain: VirtioChain) {
    guard memory.wantsMarks else { return }
    for target in chain.written {
      if let start = target.iov_base { memory.markDirty(host: start, count: target.iov_len) }
    }
  }

  private func markUsedRing() {
    memory.markDirty(host: used, count: Int(size) &* 8 &+ 6)
  }

  /// Gives a chain of no writable buffers back.
  ///
  /// - Parameter written: bytes that the device wrote into it.
  public func give(head: UInt16, written: UInt32) {
    let bit: UInt64 = 1 << UInt64(head & 63)
    guard head < size, inFlight[Int(head >> 6)] & bit != 0 else { return }
    inFlight[Int(head >> 6)] &= ~bit
    outstanding &-= 1
    let element = used + 4 + 8 * Int(usedIndex & mask)
    linux_store_relaxed_32(element, UInt32(head).littleEndian)
    linux_store_relaxed_32(element + 4, written.littleEndian)
    usedIndex = usedIndex &+ 1
    // Release: data, element, then the index.
    linux_store_release_16(used + 2, usedIndex.littleEndian)
    markUsedRing()
  }

  /// Gives several chains back that the driver must see at once. Their content was marked before.
  func give(_ chains: [(head: UInt16, written: UInt32)]) {
    var index = usedIndex
    for (head, written) in chains {
      let bit: UInt64 = 1 << UInt64(head & 63)
      guard head < size, inFlight[Int(head >> 6)] & bit != 0 else { continue }
      inFlight[Int(head >> 6)] &= ~bit
      outstanding &-= 1
      let element = used + 4 + 8 * Int(index & mask)
      linux_store_relaxed_32(element, UInt32(head).littleEndian)
      linux_store_relaxed_32(element + 4, written.littleEndian)
      index = index &+ 1
    }
    usedIndex = index
    linux_store_release_16(used + 2, usedIndex.littleEndian)
    markUsedRing()
  }

  /// Puts the chains that were taken last back where they came from, as if they had not been taken.
  func putBack(_ heads: [(head: UInt16, written: UInt32)]) {
    for (head, _) in heads where head < size {
      let bit: UInt64 = 1 << UInt64(head & 63)
      guard inFlight[Int(head >> 6)] & bit != 0 else { continue }
      inFlight[Int(head >> 6)] &= ~bit
      outstanding &-= 1
      nextAvailable = nextAvailable &- 1
    }
  }

  /// Whether the driver wants an interrupt for what was given back since this was asked last.
  public func wantsInterrupt() -> Bool {
    // Between our index and the driver's wish: one of both sides must see the other's (2.7.7.2, 2.7.10).
    linux_full_fence()
    guard usesEventIndex else {
      return UInt16(littleEndian: linux_load_relaxed_16(available)) & 1 == 0
    }
    let event = UInt16(
      littleEndian: linux_load_relaxed_16(available + 4 + 2 * Int(size)))
    let old = signalledIndex
    let wasValid = signalledIsValid
    signalledIndex = usedIndex
    signalledIsValid = true
    return !wasValid || usedIndex &- event &- 1 < usedIndex &- old
  }

  /// Asks the driver not to kick: we are looking anyway.
  public func suppressNotifications() {
    guard notificationsAreOn else { return }
    notificationsAreOn = false
    if !usesEventIndex { linux_store_relaxed_16(used, UInt16(1).littleEndian) }
    markUsedRing()
  }

  /// Asks for a kick again. Returns true when something came in between, so that it must be looked at now.
  public func allowNotifications() -> Bool {
    notificationsAreOn = true
    if usesEventIndex {
      linux_store_relaxed_16(used + 4 + 8 * Int(size), nextAvailable.littleEndian)
    } else {
      linux_store_relaxed_16(used, 0)
    }
    markUsedRing()
    linux_full_fence()
    return hasAvailable
  }
}

/// How far a queue has got.
public struct VirtioQueuePosition: Equatable, Sendable, Codable {
  public var nextAvailable: UInt16 = 0
  public var usedIndex: UInt16 = 0

  public init(nextAvailable: UInt16 = 0, usedIndex: UInt16 = 0) {
    self.nextAvailable = nextAvailable
    self.usedIndex = usedIndex
  }
}
