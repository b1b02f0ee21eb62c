// Machines that were given to another host. What is left here is kept until somebody deletes it, or until the machine
// comes back, and is not started: it would be a second one of the same.
extension Inventory {
  /// From here on the machine is not started here. Only for its host, which holds the lock, and before anybody else may
  /// start it; or for a command.
  ///
  /// - Parameter place: where it is, in words; nil: here again.
  package func markMoved(
    _ name: MachineName, to place: String?, authority: Authority = .host
  ) throws(InventoryError) {
    let lock = try changeLock(name, authority)
    defer { _ = lock }
    var state = try state(name)
    guard state.moved != place else { return }
    state.moved = place
    try write(state, name)
  }

  /// Where the machine was given to; nil: nowhere.
  package func movedPlace(_ name: MachineName) -> String? {
    guard let text = try? FileReading.text(location.state(name), limit: 16 << 20),
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
