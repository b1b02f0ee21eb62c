/// SplitMix64 (Steele, Lea, Flood 2014): the same sequence on every host.
package struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number from 0 to `bound - 1`; `bound` is not 0.
  package mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }

  /// True once in `bound` times.
  package mutating func rarely(_ bound: UInt64) -> Bool { next() % bound == 0 }

  /// An element; `list` is not empty.
  package mutating func pick<Element>(_ list: [Element]) -> Element {
    list[Int(next() % UInt64(list.count))]
  }
}
