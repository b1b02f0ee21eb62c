// Which host clusters hold metadata, so that no data is ever written over it.

/// A set of cluster numbers: open addressing, one word an element, answers in a few nanoseconds.
struct ClusterSet {
  private var slots: [UInt64]
  private(set) var count = 0
  /// Cluster numbers are below 2^47, so this is none.
  private static let empty = UInt64.max

  init() { slots = Array(repeating: Self.empty, count: 64) }

  @inline(__always)
  private func start(_ cluster: UInt64) -> Int {
    Int(truncatingIfNeeded: (cluster &* 0x9e37_79b9_7f4a_7c15) >> 16) & (slots.count - 1)
  }

  @inline(__always)
  func contains(_ cluster: UInt64) -> Bool {
    var index = start(cluster)
    while slots[index] != Self.empty {
      if slots[index] == cluster { return true }
      index = (index + 1) & (slots.count - 1)
    }
    return false
  }

  /// False when it was there already.
  @discardableResult
  mutating func insert(_ cluster: UInt64) -> Bool {
    guard cluster != Self.empty else { return false }
    if count * 2 >= slots.count { grow() }
    var index = start(cluster)
    while slots[index] != Self.empty {
      if slots[index] == cluster { return false }
      index = (index + 1) & (slots.count - 1)
    }
    slots[index] = cluster
    count += 1
    return true
  }

  /// Closes the gap by moving later elements of the same run forward.
  mutating func remove(_ cluster: UInt64) {
    let mask = slots.count - 1
    var hole = start(cluster)
    while slots[hole] != cluster {
      if slots[hole] == Self.empty { return }
      hole = (hole + 1) & mask
    }
    count -= 1
    var index = hole
    while true {
      index = (index + 1) & mask
      let element = slots[index]
      if element == Self.empty { break }
      if (index - start(element)) & mask >= (index - hole) & mask {
        slots[hole] = element
        hole = index
      }
    }
    slots[hole] = Self.empty
  }

  private mutating func grow() {
    let old = slots
    slots = Array(repeating: Self.empty, count: old.count * 2)
    count = 0
    for element in old where element != Self.empty { insert(element) }
  }
}
