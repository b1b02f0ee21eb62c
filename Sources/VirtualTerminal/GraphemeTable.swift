// Grapheme clusters of more than one code point. A cluster is a node: the content that came before, and one more scalar.
// So clusters share prefixes, need no allocation each, and a cell refers to one by number.

/// The clusters that the cells of a terminal refer to.
struct GraphemeTable: Sendable {
  /// Scalars in a cluster; marks beyond that are dropped.
  static let maximumLength = 16
  /// Clusters in a table; the owner collects unused ones before it overflows.
  static let maximumCount = 32_768

  /// Parent content in bits 32-63, depth in bits 24-31, scalar in bits 0-20.
  private(set) var nodes: [UInt64] = []
  private var numbers: [UInt64: UInt32] = [:]

  var isFull: Bool { nodes.count >= Self.maximumCount }

  /// The content that shows `parent` followed by `scalar`; nil when the cluster is too long or the table is full.
  mutating func content(_ parent: UInt32, followedBy scalar: UInt32) -> UInt32? {
    let depth = self.depth(of: parent) + 1
    guard depth <= Self.maximumLength else { return nil }
    let node = UInt64(parent) << 32 | UInt64(depth) << 24 | UInt64(scalar)
    if let number = numbers[node] { return number | Cell.clusterBit }
    guard !isFull else { return nil }
    let number = UInt32(nodes.count)
    nodes.append(node)
    numbers[node] = number
    return number | Cell.clusterBit
  }

  /// Scalars in a content.
  func depth(of content: UInt32) -> Int {
    guard let node = node(of: content) else { return 1 }
    return Int(node >> 24 & 0xFF)
  }

  /// The last scalar of a content.
  func lastScalar(of content: UInt32) -> UInt32 {
    guard let node = node(of: content) else { return content }
    return UInt32(node & 0x1F_FFFF)
  }

  /// The scalars of a content, first to last.
  func scalars(of content: UInt32) -> [UInt32] {
    var reversed: [UInt32] = []
    var content = content
    while let node = node(of: content), reversed.count < Self.maximumLength {
      reversed.append(UInt32(node & 0x1F_FFFF))
      content = UInt32(node >> 32)
    }
    reversed.append(content)
    return reversed.reversed()
  }

  private func node(of content: UInt32) -> UInt64? {
    guard content & Cell.clusterBit != 0 else { return nil }
    let number = Int(content & ~Cell.clusterBit)
    return number < nodes.count ? nodes[number] : nil
  }

  /// Keeps the clusters marked in `used` (and their prefixes) and returns the new number of each old one.
  mutating func collect(keeping used: [Bool]) -> [UInt32] {
    var used = used
    // A prefix always has a lower number than what continues it, so one pass from the end marks all.
    for number in nodes.indices.reversed() where used[number] {
      let parent = UInt32(nodes[number] >> 32)
      if parent & Cell.clusterBit != 0 { used[Int(parent & ~Cell.clusterBit)] = true }
    }
    let old = nodes
    var renumbered = [UInt32](repeating: 0, count: old.count)
    nodes.removeAll(keepingCapacity: true)
    numbers.removeAll(keepingCapacity: true)
    for (number, node) in old.enumerated() where used[number] {
      var node = node
      let parent = UInt32(node >> 32)
      if parent & Cell.clusterBit != 0 {
        let moved = renumbered[Int(parent & ~Cell.clusterBit)] | Cell.clusterBit
        node = node & 0xFFFF_FFFF | UInt64(moved) << 32
      }
      renumbered[number] = UInt32(nodes.count)
      numbers[node] = UInt32(nodes.count)
      nodes.append(node)
    }
    return renumbered
  }

  /// The first broken rule, or nil.
  func violatedInvariant() -> String? {
    guard nodes.count <= Self.maximumCount else { return "too many grapheme clusters" }
    for (number, node) in nodes.enumerated() {
      let parent = UInt32(node >> 32)
      let depth = Int(node >> 24 & 0xFF)
      guard Unicode.Scalar(UInt32(node & 0xFF_FFFF)) != nil else { return "cluster scalar invalid" }
      if parent & Cell.clusterBit != 0 {
        let parentNumber = Int(parent & ~Cell.clusterBit)
        guard parentNumber < number else { return "cluster refers forward" }
        guard depth == self.depth(of: parent) + 1 else { return "cluster depth wrong" }
      } else {
        guard depth == 2, Unicode.Scalar(parent) != nil else { return "cluster start invalid" }
      }
      guard depth <= Self.maximumLength else { return "cluster too long" }
    }
    return nil
  }
}

extension GraphemeTable: Codable {
  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    nodes = try container.decode([UInt64].self)
    if let violation = violatedInvariant() {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: violation)
    }
    for (number, node) in nodes.enumerated() { numbers[node] = UInt32(number) }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(nodes)
  }
}
