import CLinux

/// Snapshots of a running machine, memory included, that the clock takes: `autosnap = "every 30s keep 20"` in
/// `machine.toml`. They are increments: each has what was written since the one before.
package struct Autosnap: Sendable, Equatable {
  /// Seconds between two.
  package var interval: Int
  /// How many stay; the oldest go.
  package var count: Int

  package static let intervalLimit = 86400
  package static let countLimit = 1000
  package static let words = "\"every TIME keep NUMBER\", such as \"every 30s keep 20\""

  package init(interval: Int, count: Int) {
    self.interval = interval
    self.count = count
  }

  /// - Returns: nil where the text is otherwise.
  package init?(_ text: String) {
    let parts = text.split(separator: " ")
    guard parts.count == 4, parts[0] == "every", parts[2] == "keep",
      let interval = Self.seconds(String(parts[1])), let count = Int(parts[3]),
      (1...Self.intervalLimit).contains(interval), (1...Self.countLimit).contains(count)
    else { return nil }
    self.init(interval: interval, count: count)
  }

  package var text: String {
    let time =
      interval % 3600 == 0
      ? "\(interval / 3600)h" : interval % 60 == 0 ? "\(interval / 60)m" : "\(interval)s"
    return "every \(time) keep \(count)"
  }

  /// `90`, `90s`, `2m`, `1h`, `1d`, or several of them: `1h30m`.
  ///
  /// - Returns: nil where the text is otherwise, or the time is longer than ten years.
  package static func seconds(_ text: String) -> Int? {
    let limit = 10 * 366 * 86400
    var sum = 0
    var number: Int?
    for character in text {
      if let digit = character.wholeNumberValue, character.isASCII {
        number = (number ?? 0) * 10 + digit
        guard number ?? 0 <= limit else { return nil }
        continue
      }
      let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
      guard let unit = units[character], let value = number else { return nil }
      sum += value * unit
      number = nil
      guard sum <= limit else { return nil }
    }
    if let number {
      guard sum == 0 else { return nil }
      sum = number
    }
    return text.isEmpty || sum > limit ? nil : sum
  }
}

extension Inventory {
  /// Removes the oldest of the snapshots that the clock took, but for those that the rule keeps or that the present grew
  /// from. Only for the machine's host.
  ///
  /// - Returns: how many are gone.
  @discardableResult
  package func pruneCheckpoints(
    _ name: MachineName, _ autosnap: Autosnap
  ) throws(InventoryError) -> Int {
    var state = try snapshotState(name)
    let checkpoints = state.snapshots.filter(\.isCheckpoint)
    let going = checkpoints.dropLast(autosnap.count).filter { $0.identifier != state.position }
    guard !going.isEmpty else { return 0 }
    for snapshot in going {
      // Its parent may have gone meanwhile.
      if let now = state.snapshot(snapshot.identifier) { Self.remove(now, from: &state) }
    }
    try write(state, name)
    try collectLayers(name, &state)
    try collectMemoryStates(name, state)
    return going.count
  }

  /// The youngest snapshot with memory that the present grew from and that is at least so old.
  package func rewindTarget(
    _ name: MachineName, seconds: Int, now: Int64 = Int64(time(nil))
  ) throws(InventoryError) -> Snapshot {
    let tree = try snapshots(name)
    var way: [Snapshot] = []
    var next = tree.position
    while let identifier = next, way.count <= tree.snapshots.count,
      let snapshot = tree.snapshots.first(where: { $0.identifier == identifier })
    {
      if snapshot.memory != nil { way.append(snapshot) }
      next = snapshot.parent
    }
    if let target = way.first(where: { $0.created <= now - Int64(seconds) }) { return target }
    guard let oldest = way.last else {
      throw InventoryError(
        .notFound,
        "\(name): the present grew from no snapshot with memory; 'uj set \(name) "
          + "\"autosnap=every 30s keep 20\"' takes them by the clock")
    }
    throw InventoryError(
      .notFound,
      "\(name): the oldest snapshot with memory, \(oldest.name), is \(now - oldest.created) s old; "
        + "'uj snapshot rollback \(name) \(oldest.identifier)' goes there")
  }
}
