/// The list of machines: what is known, what is shown of it and in which order, and where the selection stands.
package struct MachineList: Sendable {
  package enum Column: String, CaseIterable, Sendable {
    case name, state, processor, memory, uptime, processors, snapshot, template

    package var title: String {
      switch self {
      case .name: "NAME"
      case .state: "STATE"
      case .processor: "CPU"
      case .memory: "MEMORY"
      case .uptime: "UPTIME"
      case .processors: "CPUS"
      case .snapshot: "SNAPSHOT"
      case .template: "TEMPLATE"
      }
    }
  }

  /// Samples that are kept of each machine: one a second.
  static let historyLength = 240

  package private(set) var machines: [MachineSummary] = []
  /// Indices into `machines` of the rows shown, in order.
  package private(set) var visible: [Int] = []
  /// Share of all its processors that a machine used, oldest sample first.
  package private(set) var history: [String: [Double]] = [:]
  /// By name, so that it stays where it is when rows move.
  package fileprivate(set) var selection: String?
  package private(set) var filter = ""
  package private(set) var sort = Column.name
  package private(set) var isReversed = false
  package private(set) var marks: Set<String> = []
  /// Machines that printed something since their console was last seen.
  package var unread: Set<String> = []
  private var nextSample: UInt64 = 0
  /// First row on the screen.
  package var top = 0
  /// The service has told of machines at least once.
  package private(set) var isLoaded = false

  package init() {}

  /// Small before large, A before Z. Numbers begin with the largest, unless reversed.
  package var isAscending: Bool {
    let startsSmall = [.name, .state, .template].contains(sort)
    return startsSmall != isReversed
  }

  package var selected: MachineSummary? {
    guard let selection else { return nil }
    return machine(selection)
  }

  package func machine(_ name: String) -> MachineSummary? {
    machines.first { $0.name == name }
  }

  package var selectedRow: Int? {
    visible.firstIndex { machines[$0].name == selection }
  }

  package var templates: [String] {
    machines.filter { $0.state == .template }.map(\.name)
  }

  package var aliveCount: Int { machines.count { $0.state.isAlive } }

  /// The machines that an action is about: those marked, or the one selected.
  package var targets: [MachineSummary] {
    let marked = machines.filter { marks.contains($0.name) }
    return marked.isEmpty ? selected.map { [$0] } ?? [] : marked
  }

  // MARK: Changes

  /// - Parameter now: Nanoseconds; statistics are kept once a second however often the list is told.
  package mutating func replace(_ new: [MachineSummary], now: UInt64) {
    let oldRow = selectedRow ?? 0
    machines = new
    isLoaded = true
    let names = Set(new.map(\.name))
    marks.formIntersection(names)
    unread.formIntersection(names)
    history = history.filter { names.contains($0.key) }
    if now >= nextSample {
      nextSample = now &+ 900_000_000
      for machine in new { sample(machine) }
    }
    arrange()
    if selection.map({ !names.contains($0) }) ?? true { select(row: oldRow) }
  }

  private mutating func sample(_ machine: MachineSummary) {
    guard let use = machine.processorUse else {
      if !machine.state.isAlive { history[machine.name] = nil }
      return
    }
    var samples = history[machine.name] ?? []
    samples.append(min(1, max(0, use / Double(max(1, machine.processors)))))
    if samples.count > Self.historyLength { samples.removeFirst() }
    history[machine.name] = samples
  }

  package mutating func select(row: Int) {
    guard !visible.isEmpty else {
      selection = nil
      return
    }
    selection = machines[visible[min(visible.count - 1, max(0, row))]].name
  }

  /// Selects a machine even before the service has told of it; clears a filter that hides it.
  package mutating func select(name: String) {
    selection = name
    if machine(name) != nil, selectedRow == nil { setFilter("") }
  }

  package mutating func setFilter(_ text: String) {
    filter = text
    arrange()
    if selectedRow == nil { select(row: 0) }
  }

  package mutating func setSort(_ column: Column, reversed: Bool) {
    sort = column
    isReversed = reversed
    arrange()
  }

  package mutating func toggleMark() {
    guard let selection else { return }
    if marks.remove(selection) == nil { marks.insert(selection) }
  }

  package mutating func toggleAllMarks() {
    let shown = Set(visible.map { machines[$0].name })
    marks = shown.isSubset(of: marks) ? marks.subtracting(shown) : marks.union(shown)
  }

  package mutating func clearMarks() { marks.removeAll() }

  /// Keeps the selected row on a screen of so many rows.
  package mutating func scroll(toShow rows: Int) {
    let row = selectedRow ?? 0
    top = min(top, max(0, visible.count - rows))
    if row < top { top = row }
    if row >= top + rows { top = row - rows + 1 }
    top = max(0, top)
  }

  private mutating func arrange() {
    let query = FilterQuery(filter)
    var rows = self.machines.indices.filter { query.matches(self.machines[$0]) }
    let (column, machines) = (sort, machines)
    if column != .name || isReversed {
      rows.sort { a, b in
        let order = Self.compare(machines[a], machines[b], by: column)
        if order == 0 { return machines[a].name < machines[b].name }
        return isReversed ? order > 0 : order < 0
      }
    }
    visible = rows
  }

  /// Below 0 when `a` comes first. Numbers begin with the largest: that is what one looks for.
  private static func compare(_ a: MachineSummary, _ b: MachineSummary, by column: Column) -> Int {
    func ascending<Value: Comparable>(_ a: Value, _ b: Value) -> Int {
      a == b ? 0 : a < b ? -1 : 1
    }
    switch column {
    case .name: return ascending(a.name, b.name)
    case .state: return ascending(stateOrder(a.state), stateOrder(b.state))
    case .processor: return ascending(b.processorUse ?? -1, a.processorUse ?? -1)
    case .memory:
      return ascending(b.residentMemory ?? b.memory, a.residentMemory ?? a.memory)
    case .uptime: return ascending(b.uptime ?? 0, a.uptime ?? 0)
    case .processors: return ascending(b.processors, a.processors)
    case .snapshot: return ascending(b.snapshotCount, a.snapshotCount)
    case .template: return ascending(a.parent ?? "\u{FFFF}", b.parent ?? "\u{FFFF}")
    }
  }

  private static func stateOrder(_ state: MachineCondition) -> Int {
    let order: [MachineCondition] = [
      .crashed, .unresponsive, .broken, .running, .starting, .stopping, .paused, .halted,
      .stopped, .template,
    ]
    return order.firstIndex(of: state) ?? order.count
  }
}

extension MachineList {
  /// Follows a machine to its new name until the service tells of it.
  mutating func rename(_ old: String, to new: String) {
    if selection == old { selection = new }
  }
}
