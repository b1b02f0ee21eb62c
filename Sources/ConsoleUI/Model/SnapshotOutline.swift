/// The snapshots of one machine as a tree of rows, with the selection.
package struct SnapshotOutline: Sendable {
  /// A row of the drawn tree.
  package struct Row: Equatable, Sendable {
    package var snapshot: SnapshotStatus
    /// For each fork to the left: does its line go on below this row?
    package var rails: [Bool]
    /// How it hangs on its parent. A line without forks stays in its column.
    package var joint: Joint
  }

  package enum Joint: Sendable {
    /// A root, or the only child of its parent.
    case straight
    /// One of several children.
    case branch
    /// The last of several children.
    case lastBranch
  }

  package let machine: String
  package private(set) var rows: [Row] = []
  package private(set) var selection: String?
  package private(set) var isLoaded = false
  package var top = 0

  package init(machine: String) {
    self.machine = machine
  }

  package var selected: SnapshotStatus? {
    rows.first { $0.snapshot.identifier == selection }?.snapshot
  }

  package var selectedRow: Int? {
    rows.firstIndex { $0.snapshot.identifier == selection }
  }

  package var current: SnapshotStatus? { rows.first { $0.snapshot.isCurrent }?.snapshot }

  package func children(of identifier: String) -> [SnapshotStatus] {
    rows.filter { $0.snapshot.parent == identifier }.map(\.snapshot)
  }

  package func snapshot(_ identifier: String) -> SnapshotStatus? {
    rows.first { $0.snapshot.identifier == identifier }?.snapshot
  }

  package mutating func select(row: Int) {
    guard !rows.isEmpty else {
      selection = nil
      return
    }
    selection = rows[min(rows.count - 1, max(0, row))].snapshot.identifier
  }

  /// All nodes by the time when they were taken.
  package var timeLine: [SnapshotStatus] {
    rows.map(\.snapshot).sorted { ($0.time, $0.identifier) < ($1.time, $1.identifier) }
  }

  /// Goes along the time line.
  package mutating func step(_ distance: Int) {
    let line = timeLine
    guard let place = line.firstIndex(where: { $0.identifier == selection }) else { return }
    selection = line[min(line.count - 1, max(0, place + distance))].identifier
  }

  package mutating func scroll(toShow count: Int) {
    let row = selectedRow ?? 0
    top = min(top, max(0, rows.count - count))
    if row < top { top = row }
    if row >= top + count { top = row - count + 1 }
    top = max(0, top)
  }

  /// Takes what the service knows. The selection stays; at first it is where the machine stands.
  package mutating func replace(_ snapshots: [SnapshotStatus]) {
    let known = Set(snapshots.map(\.identifier))
    var byParent: [String: [SnapshotStatus]] = [:]
    var roots: [SnapshotStatus] = []
    for snapshot in snapshots {
      if let parent = snapshot.parent, known.contains(parent), parent != snapshot.identifier {
        byParent[parent, default: []].append(snapshot)
      } else {
        roots.append(snapshot)
      }
    }
    rows = Self.rows(roots: roots, byParent: byParent)
    isLoaded = true
    if selection.map({ !known.contains($0) }) ?? true {
      selection = (current ?? snapshots.last)?.identifier
    }
  }

  /// Depth first, without recursion: a hostile folder may be thousands deep.
  private static func rows(
    roots: [SnapshotStatus], byParent: [String: [SnapshotStatus]]
  ) -> [Row] {
    var rows: [Row] = []
    var stack: [Row] = []
    var seen: Set<String> = []
    func push(_ children: [SnapshotStatus], rails: [Bool]) {
      let ordered = children.sorted { ($0.time, $0.identifier) < ($1.time, $1.identifier) }
      for (index, child) in ordered.enumerated().reversed() {
        let joint: Joint =
          ordered.count == 1 ? .straight : index == ordered.count - 1 ? .lastBranch : .branch
        stack.append(Row(snapshot: child, rails: rails, joint: joint))
      }
    }
    push(roots, rails: [])
    while let row = stack.popLast() {
      guard seen.insert(row.snapshot.identifier).inserted else { continue }
      rows.append(row)
      let children = byParent[row.snapshot.identifier] ?? []
      let rail = row.joint == .straight ? [] : [row.joint == .branch]
      push(children, rails: row.rails + rail)
    }
    return rows
  }
}
