// Machines that were given to another host. What is left here is kept until somebody deletes it, or until the machine
// comes back, and is not started: it would be a second one of the same.
extension Inventory {
  /// From here on the machine is not started here. Only for its host, which holds the lock, and before anybody else may
  /// start it; or for a command.
  ///
  /// What was prepared (see `prepareMoved`) counts at once for whoever asks, and after a power cut whatever the disk has
  /// of it: a host that gives its machine away waits for no disk.
  ///
  /// - Parameter place: where it is, in words; nil: here again.
  package func markMoved(
    _ name: MachineName, to place: String?, authority: Authority = .host
  ) throws(InventoryError) {
    let lock = try changeLock(name, authority)
    defer { _ = lock }
    let prepared = location.departure(name)
    if place != nil, FileReading.exists(prepared) {
      return try changes.replace(location.state(name), by: prepared)
    }
    var state = try state(name)
    if state.moved != place {
      state.moved = place
      try write(state, name)
    }
    if place == nil { try forgetDeparture(name) }
  }

  /// Writes down that the machine is about to be given away. As long as this computer stays up that means nothing; after a
  /// power cut nobody can tell any more whether it was, and so it is not started by itself.
  package func prepareMoved(_ name: MachineName, to place: String) throws(InventoryError) {
    var state = try state(name)
    state.moved = place
    try changes.write(Self.bootLine + state.text, to: location.departure(name))
  }

  /// What `markMoved` has put in place lasts.
  package func makeMovedLast(_ name: MachineName) throws(InventoryError) {
    try changes.synchronizeFolder(of: location.state(name))
  }

  /// It was not given away: what was prepared is gone.
  package func forgetDeparture(_ name: MachineName) throws(InventoryError) {
    let prepared = location.departure(name)
    guard FileReading.exists(prepared) else { return }
    try changes.removeFile(prepared)
    try changes.synchronizeFolder(of: prepared)
  }

  /// The state of a machine that was about to be given away when the power failed; nil: there is none.
  func interruptedDeparture(_ name: MachineName) throws(InventoryError) -> String? {
    let prepared = location.departure(name)
    guard FileReading.exists(prepared),
      let text = try FileReading.text(prepared, limit: 16 << 20), !text.hasPrefix(Self.bootLine)
    else { return nil }
    return text
  }

  /// Tells whether this computer has been up since a line was written.
  private static var bootLine: String { "# boot \(RunRecord.currentBoot)\n" }

  /// Where the machine was given to; nil: nowhere.
  package func movedPlace(_ name: MachineName) -> String? {
    guard
      let text = (try? interruptedDeparture(name))
        ?? (try? FileReading.text(location.state(name), limit: 16 << 20)),
      text.contains("\n" + MachineState.movedKey)
    else { return nil }
    return (try? MachineState(text: text, path: ""))?.moved
  }

  static func movedRefusal(_ name: MachineName, _ place: String) -> InventoryError {
    InventoryError(
      .refused,
      "\(name): was sent to \(printable(place)) and may run there; if it does not, "
        + "'uj send --take-back \(name)'; 'uj delete \(name)' removes what is left here")
  }

  /// Whether all that is here by that name is what a machine left that comes back now.
  func isLeftOver(_ name: MachineName, of uuid: UniqueIdentifier?) -> Bool {
    guard let uuid, movedPlace(name) != nil, let own = try? definition(name), own.uuid == uuid,
      let state = try? state(name), state.snapshots.isEmpty,
      let others = try? dependents(of: name)
    else { return false }
    return others.isEmpty
  }
}
