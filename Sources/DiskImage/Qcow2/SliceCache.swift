// A bounded cache of table slices: 4 KiB pieces of L2 tables and refcount blocks.
import CLinux

/// Slots of equal size, found by number, replaced by the clock algorithm. Belongs to whoever holds the image's lock.
///
/// A slot that is dirty or being written is never replaced. Above `softLimit` slots the cache grows only when all of them
/// are in that state; the image writes back long before.
final class SliceCache {
  struct Flags: OptionSet {
    let rawValue: UInt8
    static let used = Flags(rawValue: 1)
    static let referenced = Flags(rawValue: 2)
    static let dirty = Flags(rawValue: 4)
    static let writing = Flags(rawValue: 8)
  }

  let sliceSize: Int
  let softLimit: Int
  private let hardLimit: Int
  private let memory: UnsafeMutableRawPointer
  private let memorySize: Int
  private let keys: UnsafeMutablePointer<UInt64>
  private let flags: UnsafeMutablePointer<Flags>
  private let next: UnsafeMutablePointer<Int32>
  private let buckets: UnsafeMutablePointer<Int32>
  private let bucketMask: UInt64
  private var unusedSlots: [Int32] = []
  private var highest = 0
  private var hand = 0
  /// Slots that were changed since they were last staged.
  private(set) var dirtySlots: [Int32] = []

  /// - Parameter bytes: Memory to use, rounded to slices; at least 64 of them.
  init(sliceSize: Int, bytes: Int) {
    self.sliceSize = sliceSize
    softLimit = max(bytes / sliceSize, 64)
    hardLimit = softLimit * 4 + 4096
    memorySize = hardLimit * sliceSize
    // Reserved, not used: pages come with the first touch.
    let map = mmap(
      nil, memorySize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    precondition(map != linux_map_failed(), "no address space for the table cache")
    memory = map!
    keys = .allocate(capacity: hardLimit)
    flags = .allocate(capacity: hardLimit)
    next = .allocate(capacity: hardLimit)
    flags.initialize(repeating: [], count: hardLimit)
    var bucketCount = 64
    while bucketCount < softLimit * 2 { bucketCount *= 2 }
    buckets = .allocate(capacity: bucketCount)
    buckets.initialize(repeating: -1, count: bucketCount)
    bucketMask = UInt64(bucketCount - 1)
  }

  deinit {
    munmap(memory, memorySize)
    keys.deallocate()
    flags.deallocate()
    next.deallocate()
    buckets.deallocate()
  }

  @inline(__always)
  private func bucket(_ key: UInt64) -> Int {
    Int((key &* 0x9e37_79b9_7f4a_7c15) >> 20 & bucketMask)
  }

  /// The slot of a slice, or -1.
  @inline(__always)
  func find(_ key: UInt64) -> Int32 {
    var slot = buckets[bucket(key)]
    while slot >= 0 {
      if keys[Int(slot)] == key {
        flags[Int(slot)].insert(.referenced)
        return slot
      }
      slot = next[Int(slot)]
    }
    return -1
  }

  @inline(__always)
  func pointer(_ slot: Int32) -> UnsafeMutableRawPointer { memory + Int(slot) * sliceSize }
  func key(_ slot: Int32) -> UInt64 { keys[Int(slot)] }
  func isDirty(_ slot: Int32) -> Bool { flags[Int(slot)].contains(.dirty) }
  var dirtyCount: Int { dirtySlots.count }

  /// A slot for a slice that is not there yet; its bytes are rubbish. Nil when every slot must be written first.
  func insert(_ key: UInt64) -> Int32? {
    guard
      let slot = unusedSlots.popLast() ?? freshSlot(below: softLimit) ?? evict()
        ?? freshSlot(below: hardLimit)
    else { return nil }
    keys[Int(slot)] = key
    flags[Int(slot)] = [.used, .referenced]
    let place = bucket(key)
    next[Int(slot)] = buckets[place]
    buckets[place] = slot
    return slot
  }

  private func freshSlot(below limit: Int) -> Int32? {
    guard highest < limit else { return nil }
    defer { highest += 1 }
    return Int32(highest)
  }

  private func evict() -> Int32? {
    for _ in 0..<(highest * 2) {
      hand = hand + 1 < highest ? hand + 1 : 0
      let state = flags[hand]
      if !state.contains(.used) || !state.isDisjoint(with: [.dirty, .writing]) { continue }
      if state.contains(.referenced) {
        flags[hand].remove(.referenced)
        continue
      }
      unlink(Int32(hand))
      return Int32(hand)
    }
    return nil
  }

  private func unlink(_ slot: Int32) {
    let place = bucket(keys[Int(slot)])
    if buckets[place] == slot {
      buckets[place] = next[Int(slot)]
    } else {
      var before = buckets[place]
      while next[Int(before)] != slot { before = next[Int(before)] }
      next[Int(before)] = next[Int(slot)]
    }
    flags[Int(slot)] = []
  }

  /// Forgets a slice, whatever its state, unless it is being written.
  func remove(_ slot: Int32) {
    if isDirty(slot) { dirtySlots.removeAll { $0 == slot } }
    unlink(slot)
    unusedSlots.append(slot)
  }

  /// Forgets everything.
  func removeAll() {
    dirtySlots.removeAll(keepingCapacity: true)
    unusedSlots.removeAll(keepingCapacity: true)
    flags.update(repeating: [], count: highest)
    buckets.update(repeating: -1, count: Int(bucketMask) + 1)
    highest = 0
    hand = 0
  }

  @inline(__always)
  func markDirty(_ slot: Int32) {
    guard !flags[Int(slot)].contains(.dirty) else { return }
    flags[Int(slot)].insert(.dirty)
    dirtySlots.append(slot)
  }

  /// The slot's bytes have been copied and go to the file: further changes make it dirty again.
  func takeDirty() -> [Int32] {
    let taken = dirtySlots
    for slot in taken {
      flags[Int(slot)].remove(.dirty)
      flags[Int(slot)].insert(.writing)
    }
    dirtySlots.removeAll(keepingCapacity: true)
    return taken
  }

  /// The slots are in the file now, or, after a failure, must be written again.
  func finishWriting(_ slots: [Int32], failed: Bool) {
    for slot in slots {
      flags[Int(slot)].remove(.writing)
      if failed { markDirty(slot) }
    }
  }
}
