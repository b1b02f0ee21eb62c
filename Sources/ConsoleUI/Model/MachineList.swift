/// The list of machines: what is known, what is shown of it and in which order, and where the selection stands.
package struct MachineList: Sendable {
  package enum Column: String, CaseIterable, Sendable {
    case name, state, processor, memory, disk, uptime, processors, snapshot, template, tags
    case accelerator, consoles, process

    /// Also by the words of the list's first line.
    package init?(word: String) {
      let word = word.lowercased()
      guard
        let found = Column(rawValue: word)
          ?? Column.allCases.first(where: { $0.title.lowercased() == word })
      else { return nil }
      self = found
    }

    package var title: String {
      switch self {
      case .name: "NAME"
      case .state: "STATE"
      case .processor: "CPU"
      case .memory: "MEMORY"
      case .disk: "DISK/S"
      case .tags: "TAGS"
      case .accelerator: "ACCEL"
      case .consoles: "CONS"
      case .process: "PID"
      case .uptime: "UPTIME"
      case .processors: "CPUS"
      case .snapshot: "SNAPSHOT"
      case .template: "TEMPLATE"
      }
    }
  }

  /// How rows are kept together.
  package enum Grouping: String, CaseIterable, Sendable {
    case none, template, tag
  }

  /// How a row hangs in the tree of templates and their machines.
  package enum Joint: Sendable {
    case none
    /// A machine that grew from the template above.
    case child
    /// The last of them.
    case lastChild
  }

  package private(set) var machines: [MachineSummary] = []
  /// Indices into `machines` of the rows shown, in order.
  package private(set) var visible: [Int] = []
  /// How rows hang on each other, in the order of `visible`; empty without groups.
  package private(set) var joints: [Joint] = []
  /// What each machine did in the last minutes.
  package private(set) var series: [String: MachineSeries] = [:]
  package private(set) var grouping = Grouping.none
  /// Templates and tags whose machines are hidden.
  package private(set) var folded: Set<String> = []
  /// By name, so that it stays where it is when rows move.
  package fileprivate(set) var selection: String?
  package private(set) var filter = ""
  package private(set) var sort = Column.name
  package private(set) var isReversed = false
  package private(set) var marks: Set<String> = []
  /// The row where a range of marks begins.
  private var markAnchor: String?
  /// Machines that printed something since their console was last seen.
  package var unread: Set<String> = []
  /// Machines that rang the bell since then.
  package var bells: Set<String> = []
  /// Where a machine is in `machines`.
  private var places: [String: Int] = [:]
  private var nextSample: UInt64 = 0
  /// Nanoseconds between samples.
  package var sampleInterval: UInt64 = 1_000_000_000
  /// First row on the screen.
  package var top = 0
  /// The service has told of machines at least once.
  package private(set) var isLoaded = false

  package init() {}

  /// Small before large, A before Z. Numbers begin with the largest, unless reversed.
  package var isAscending: Bool {
    let startsSmall = [.name, .state, .template, .tags, .accelerator].contains(sort)
    return startsSmall != isReversed
  }

  package var selected: MachineSummary? {
    guard let selection else { return nil }
    return machine(selection)
  }

  package func machine(_ name: String) -> MachineSummary? {
    places[name].map { machines[$0] }
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
    places = Dictionary(
      new.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { first, _ in first }
    )
    isLoaded = true
    let places = places
    let isGone = { (name: String) in places[name] == nil }
    marks = marks.filter { !isGone($0) }
    unread = unread.filter { !isGone($0) }
    bells = bells.filter { !isGone($0) }
    if now >= nextSample {
      nextSample = now &+ sampleInterval / 10 * 9
      for machine in new {
        if machine.state.isAlive {
          series[machine.name, default: MachineSeries()].add(machine, now: now)
        } else if !series.isEmpty {
          series[machine.name] = nil
        }
      }
      if series.count > new.count { series = series.filter { !isGone($0.key) } }
    }
    arrange()
    if selection.map(isGone) ?? true { select(row: oldRow) }
  }

  /// Share of all its processors that a machine used, oldest sample first.
  package func history(of name: String) -> [Double] { series[name]?.processor.values ?? [] }

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
    markAnchor = selection
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
    joints = []
    switch grouping {
    case .none: break
    case .template: groupByTemplate(&rows)
    case .tag: groupByTag(&rows)
    }
    visible = rows
  }

  /// Machines below their templates. Those whose template is not shown stay where the order puts them.
  private mutating func groupByTemplate(_ rows: inout [Int]) {
    let shown = Set(rows.map { machines[$0].name })
    var children: [String: [Int]] = [:]
    var roots: [Int] = []
    for row in rows {
      if let parent = machines[row].parent, shown.contains(parent), parent != machines[row].name {
        children[parent, default: []].append(row)
      } else {
        roots.append(row)
      }
    }
    var ordered: [Int] = []
    var seen: Set<Int> = []
    // Templates may grow from templates; a loop in the files ends here.
    func add(_ row: Int, _ joint: Joint) {
      guard seen.insert(row).inserted else { return }
      ordered.append(row)
      joints.append(joint)
      let name = machines[row].name
      guard !folded.contains(name) else { return }
      let own = children[name] ?? []
      for child in own { add(child, child == own.last ? .lastChild : .child) }
    }
    for root in roots { add(root, .none) }
    if folded.isEmpty, ordered.count < rows.count {
      for row in rows where !seen.contains(row) { add(row, .none) }
    }
    rows = ordered
  }

  /// Machines of a tag one below the other, those without tags last. Only the first tag counts.
  private mutating func groupByTag(_ rows: inout [Int]) {
    func tag(_ row: Int) -> String { machines[row].tags.first ?? "\u{FFFF}" }
    let order = Dictionary(
      rows.enumerated().map { ($0.element, $0.offset) }, uniquingKeysWith: { first, _ in first })
    rows.sort { (tag($0), order[$0] ?? 0) < (tag($1), order[$1] ?? 0) }
    var last: String?
    rows = rows.filter { row in
      defer { last = tag(row) }
      // Of a folded tag the first machine stays, to unfold it by.
      return !folded.contains(tag(row)) || tag(row) != last
    }
  }

  /// Machines that are hidden below this row.
  package func hiddenCount(below machine: MachineSummary) -> Int {
    switch grouping {
    case .none: return 0
    case .template:
      guard folded.contains(machine.name) else { return 0 }
      return machines.count { $0.parent == machine.name }
    case .tag:
      guard let tag = machine.tags.first, folded.contains(tag) else { return 0 }
      return machines.count { $0.tags.first == tag } - 1
    }
  }

  package mutating func setGrouping(_ grouping: Grouping) {
    self.grouping = grouping
    folded = []
    arrange()
  }

  /// Hides or shows the rows that belong to the selected one. Returns false where there is no such group.
  package mutating func toggleFold() -> Bool {
    guard let machine = selected else { return false }
    let group: String?
    switch grouping {
    case .none: group = nil
    case .template:
      group =
        machine.parent.flatMap { places[$0] == nil ? nil : $0 }
        ?? (machines.contains { $0.parent == machine.name } ? machine.name : nil)
    case .tag: group = machine.tags.first
    }
    guard let group else { return false }
    if folded.remove(group) == nil { folded.insert(group) }
    arrange()
    if selectedRow == nil {
      if let row = visible.firstIndex(where: {
        machines[$0].name == group || machines[$0].tags.first == group
      }) {
        select(row: row)
      }
    }
    return true
  }

  /// Marks all rows between the last marked one and the selected one.
  package mutating func markRange() {
    guard let end = selectedRow else { return }
    let start =
      markAnchor.flatMap { name in visible.firstIndex { machines[$0].name == name } } ?? end
    for row in min(start, end)...max(start, end) { marks.insert(machines[visible[row]].name) }
    markAnchor = selection
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
    case .disk: return ascending(b.diskRate ?? 0, a.diskRate ?? 0)
    case .uptime: return ascending(b.uptime ?? 0, a.uptime ?? 0)
    case .processors: return ascending(b.processors, a.processors)
    case .snapshot: return ascending(b.snapshotCount, a.snapshotCount)
    case .template: return ascending(a.parent ?? "\u{FFFF}", b.parent ?? "\u{FFFF}")
    case .tags: return ascending(a.tags.first ?? "\u{FFFF}", b.tags.first ?? "\u{FFFF}")
    case .accelerator: return ascending(a.accelerator ?? "\u{FFFF}", b.accelerator ?? "\u{FFFF}")
    case .consoles: return ascending(b.clients, a.clients)
    case .process: return ascending(b.processIdentifier ?? 0, a.processIdentifier ?? 0)
    }
  }

  private static func stateOrder(_ state: MachineCondition) -> Int {
    let order: [MachineCondition] = [
      .crashed, .unresponsive, .broken, .running, .starting, .stopping, .paused, .halted,
      .suspended, .stopped, .template,
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
