import CLinux

/// Which snapshots of a machine `prune` keeps: the table `[keep]` of `machine.toml`.
///
/// A snapshot stays when any part of the rule wants it. `last` counts from the newest; each of the others takes the
/// newest snapshot of each of so many hours, days, weeks (from Monday) and months of local time that have one.
package struct RetentionRule: Sendable, Equatable {
  package var last = 0
  package var hourly = 0
  package var daily = 0
  package var weekly = 0
  package var monthly = 0

  package init() {}

  package static let limit = 100_000

  /// Nothing would stay.
  package var isEmpty: Bool { self == RetentionRule() }

  /// Why each snapshot that stays does so; those that are not in the answer may go.
  package func kept(_ snapshots: [Snapshot]) -> [String: String] {
    let newestFirst = snapshots.enumerated()
      .sorted { ($0.element.created, $0.offset) > ($1.element.created, $1.offset) }
      .map(\.element)
    var reasons: [String: String] = [:]
    for snapshot in newestFirst.prefix(last) { reasons[snapshot.identifier] = "last" }
    for (count, word, period) in [
      (hourly, "hourly", Period.hour), (daily, "daily", .day), (weekly, "weekly", .week),
      (monthly, "monthly", .month),
    ] {
      var seen: Set<Int> = []
      for snapshot in newestFirst {
        guard seen.count < count else { break }
        guard seen.insert(period.number(of: snapshot.created)).inserted else { continue }
        let others = reasons[snapshot.identifier].map { $0 + ", " } ?? ""
        reasons[snapshot.identifier] = others + word
      }
    }
    return reasons
  }

  private enum Period {
    case hour, day, week, month

    /// The same number for all moments of one period.
    func number(of seconds: Int64) -> Int {
      var value = time_t(seconds)
      var local = tm()
      localtime_r(&value, &local)
      let year = Int(local.tm_year)
      switch self {
      case .month: return year * 12 + Int(local.tm_mon)
      case .day: return year * 366 + Int(local.tm_yday)
      case .hour: return (year * 366 + Int(local.tm_yday)) * 24 + Int(local.tm_hour)
      case .week:
        // Days since a Monday: 1970-01-05 was one. Counted from noon, so that summer time moves nothing.
        local.tm_hour = 12
        local.tm_min = 0
        local.tm_sec = 0
        return (Int(mktime(&local)) / 86400 - 4) / 7
      }
    }
  }
}

extension RetentionRule {
  init(_ table: TableReader) throws(InventoryError) {
    let range = 0...Self.limit
    last = try table.integer("last", in: range) ?? 0
    hourly = try table.integer("hourly", in: range) ?? 0
    daily = try table.integer("daily", in: range) ?? 0
    weekly = try table.integer("weekly", in: range) ?? 0
    monthly = try table.integer("monthly", in: range) ?? 0
    try table.finish()
  }

  var lines: [String] {
    let pairs = [
      ("last", last), ("hourly", hourly), ("daily", daily), ("weekly", weekly),
      ("monthly", monthly),
    ]
    return pairs.filter { $0.1 > 0 }.map { "\($0.0) = \($0.1)" }
  }
}

extension Inventory {
  /// What `prune` would do.
  package struct PrunePlan: Sendable, Equatable {
    package var going: [Snapshot] = []
    /// Identifiers of those that stay, and why.
    package var staying: [String: String] = [:]
  }

  /// Applies a machine's rule to its snapshots. The one that the present state grew from always stays, and so do those
  /// that `forward` leads to.
  ///
  /// - Parameter rule: nil takes the definition's.
  /// - Throws: when there is no rule, or an empty one.
  package func prunePlan(
    _ name: MachineName, rule: RetentionRule? = nil
  ) throws(InventoryError) -> PrunePlan {
    var wanted = rule
    if wanted == nil { wanted = try definition(name).retention }
    guard let rule = wanted, !rule.isEmpty else {
      throw InventoryError(
        .refused,
        "\(name): has no rule what to keep; add [keep] with last, hourly, daily, weekly or monthly "
          + "to machine.toml ('uj edit \(name)'), or say --last N")
    }
    return Self.prunePlan(try state(name), rule)
  }

  private static func prunePlan(_ state: MachineState, _ rule: RetentionRule) -> PrunePlan {
    var plan = PrunePlan(staying: rule.kept(state.snapshots))
    for identifier in state.left {
      plan.staying[identifier] = plan.staying[identifier] ?? "forward"
    }
    if let position = state.position {
      plan.staying[position] = plan.staying[position] ?? "the present state grew from it"
    }
    plan.going = state.snapshots.filter { plan.staying[$0.identifier] == nil }
    return plan
  }

  /// Removes the snapshots that the rule does not keep, all at once. `mergeLayers` gives back their space.
  @discardableResult
  package func prune(
    _ name: MachineName, rule: RetentionRule? = nil, authority: Authority = .command
  ) throws(InventoryError) -> PrunePlan {
    let lock = try changeLock(name, authority)
    defer { _ = lock }
    let plan = try prunePlan(name, rule: rule)
    guard !plan.going.isEmpty else { return plan }
    var state = try snapshotState(name)
    for snapshot in plan.going {
      // Its parent may have gone meanwhile.
      if let now = state.snapshot(snapshot.identifier) { Self.remove(now, from: &state) }
    }
    try write(state, name)
    try collectLayers(name, &state)
    try collectMemoryStates(name, state)
    if authority == .command { trimMemoryStates(name) }
    return plan
  }
}
