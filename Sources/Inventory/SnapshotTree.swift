/// A machine's snapshots seen as a tree, and what people call them.
package struct SnapshotTree: Sendable, Equatable {
  /// A node in the order of a drawn tree.
  package struct Row: Sendable, Equatable {
    package var snapshot: Snapshot
    /// Distance from the root.
    package var depth: Int
    /// The line art before the name, such as `│  └─ `.
    package var branch: String
    /// The present state grew from this one.
    package var isPosition: Bool
  }

  package let snapshots: [Snapshot]
  package let position: String?
  package let left: [String]

  package init(_ state: MachineState) {
    snapshots = state.snapshots
    position = state.position
    left = state.left
  }

  /// Finds a snapshot by its name, its identifier, or an unambiguous beginning of the identifier.
  package func find(_ selector: String) throws(InventoryError) -> Snapshot {
    let named = snapshots.filter { $0.name == selector }
    if named.count == 1 { return named[0] }
    let shown = printable(selector.prefix(60))
    if named.count > 1 {
      let list = named.map(\.identifier).joined(separator: ", ")
      throw InventoryError(.invalid, "\(shown): several snapshots have that name: \(list)")
    }
    let marked =
      selector.isEmpty ? [] : snapshots.filter { $0.identifier.hasPrefix(selector) }
    guard marked.count <= 1 else {
      throw InventoryError(.invalid, "\(shown): is the beginning of several snapshots' ids")
    }
    guard let found = marked.first else {
      throw InventoryError(
        .notFound, "\(shown): no such snapshot; 'uj snapshot list' shows them")
    }
    return found
  }

  /// Where `forward` without a name goes.
  package func forwardTarget(machine: MachineName) throws(InventoryError) -> Snapshot {
    if let identifier = left.last,
      let snapshot = snapshots.first(where: {
        $0.identifier == identifier
      })
    {
      return snapshot
    }
    let children = snapshots.filter { $0.parent == position }
    if children.count == 1 { return children[0] }
    guard !children.isEmpty else {
      throw InventoryError(.notFound, "\(machine): there is nothing to roll forward to")
    }
    let list = children.map { "\($0.name) (\($0.identifier))" }.joined(separator: ", ")
    throw InventoryError(.invalid, "\(machine): several ways forward, name one: \(list)")
  }

  func checkTitle(_ title: String) throws(InventoryError) {
    guard !title.isEmpty, title.utf8.count <= 200, printable(title) == title else {
      throw InventoryError(
        .invalid, "a snapshot's name has 1 to 200 bytes without control characters")
    }
    guard !snapshots.contains(where: { $0.name == title }) else {
      throw InventoryError(.exists, "\(title): there is a snapshot of that name already")
    }
  }

  func freeTitle() -> String {
    var number = snapshots.count + 1
    while snapshots.contains(where: { $0.name == "snapshot-\(number)" }) { number += 1 }
    return "snapshot-\(number)"
  }

  /// All nodes, children under their parents, older first. A loop in a damaged file ends at the first repetition.
  package func rows() -> [Row] {
    let known = Set(snapshots.map(\.identifier))
    var children: [String: [Snapshot]] = [:]
    for snapshot in snapshots {
      let parent = snapshot.parent.flatMap { known.contains($0) ? $0 : nil } ?? ""
      children[parent, default: []].append(snapshot)
    }
    var rows: [Row] = []
    // An own stack: a chain of thousands of snapshots must not exhaust the thread's.
    var stack: [(snapshot: Snapshot, depth: Int, lead: String, isLast: Bool)] = []
    func push(_ parent: String, _ depth: Int, _ lead: String) {
      let list = children.removeValue(forKey: parent) ?? []
      for (index, child) in list.enumerated().reversed() {
        stack.append((child, depth, lead, index == list.count - 1))
      }
    }
    push("", 0, "")
    while let entry = stack.popLast() {
      let branch = entry.depth == 0 ? "" : entry.lead + (entry.isLast ? "└─ " : "├─ ")
      rows.append(
        Row(
          snapshot: entry.snapshot, depth: entry.depth, branch: branch,
          isPosition: entry.snapshot.identifier == position))
      let lead = entry.depth == 0 ? "" : entry.lead + (entry.isLast ? "   " : "│  ")
      push(entry.snapshot.identifier, entry.depth + 1, lead)
    }
    return rows
  }
}
