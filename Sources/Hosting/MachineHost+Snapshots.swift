import Inventory
import Machine
import Platform
import Synchronization

/// Snapshots of the running machine. The host holds the machine's lock, so it makes the changes of its state file.
extension MachineHost {
  func changeSnapshots(_ method: String, _ parameters: JSONValue) -> ControlServer.Answer {
    guard let claim = plan.claim else {
      return .error(RemoteError("\(name) has no place on disk, and so no snapshots"))
    }
    return .later { [self] answer in
      let work: @Sendable () -> Void = { [self] in
        let outcome = snapshotWork.withLock { _ in attempt(method, parameters, claim) }
        answer(outcome)
        loop.perform { [weak self] in
          guard let self else { return }
          self.server?.notify(.events, "state", self.status().json)
        }
      }
      do {
        _ = try PosixThread(name: "snapshot", work)
      } catch {
        answer(.error(RemoteError("\(error)")))
      }
    }
  }

  private func attempt(
    _ method: String, _ parameters: JSONValue, _ claim: HostPlan.Claim
  ) -> ControlServer.Answer {
    do {
      return .result(try carryOut(method, parameters, claim))
    } catch {
      return .error(RemoteError("\(error)"))
    }
  }

  private func carryOut(
    _ method: String, _ parameters: JSONValue, _ claim: HostPlan.Claim
  ) throws -> JSONValue {
    let (inventory, name) = (claim.inventory, claim.name)
    let selector = parameters["snapshot"]?.string ?? ""
    switch method {
    case "suspend": return try suspend(claim)
    case "snapshot.take":
      let title = parameters["title"]?.string
      return parameters["memory"]?.bool == true
        ? try takeWithMemory(title, claim) : try take(title, claim)
    case "snapshot.rename":
      try inventory.renameSnapshot(
        name, selector, to: parameters["title"]?.string ?? "", authority: .host)
      return true
    case "snapshot.delete":
      let gone = try inventory.deleteSnapshot(name, selector, authority: .host)
      trimMemoryStates(claim)
      return ["id": .string(gone.identifier), "name": .string(gone.name)]
    case "snapshot.prune":
      let plan = try inventory.prune(name, authority: .host)
      trimMemoryStates(claim)
      return .array(plan.going.map { ["id": .string($0.identifier), "name": .string($0.name)] })
    default:
      let kept = try inventory.freezeSnapshot(name, selector)
      return ["id": .string(kept.identifier), "name": .string(kept.name)]
    }
  }

  /// Ends as soon as all is on disk; what fails leaves the guest running.
  private func suspend(_ claim: HostPlan.Claim) throws -> JSONValue {
    let (inventory, name) = (claim.inventory, claim.name)
    let (identifier, path) = try inventory.prepareMemoryState(name)
    do {
      let held = try machine.saveState(
        to: path,
        SaveOptions(isLive: true, ends: true, base: inventory.baseMemoryState(name)), capture: {},
        commit: { try inventory.suspend(name, memory: identifier) })
      return ["milliseconds": .number(Double(held) / 1e6)]
    } catch {
      inventory.discardMemoryState(name, identifier)
      throw error
    }
  }

  /// - Parameter isCheckpoint: taken by the clock.
  func takeWithMemory(
    _ title: String?, _ claim: HostPlan.Claim, isCheckpoint: Bool = false
  ) throws -> JSONValue {
    let (inventory, name) = (claim.inventory, claim.name)
    let (identifier, path) = try inventory.prepareMemoryState(name)
    // In the time in which the guest stands still there is none for making files.
    let prepared = Monitor<PreparedSnapshot?>(nil)
    let isTaken = Monitor(false)
    let held: UInt64
    do {
      let fresh = try inventory.prepareSnapshot(name, title: title, isCheckpoint: isCheckpoint)
      prepared.update { $0 = fresh }
      held = try machine.saveState(
        to: path, SaveOptions(isLive: true, base: inventory.baseMemoryState(name)),
        capture: { [self] in
          var snapshot = fresh
          // A fresh layer a snapshot would make long chains of disks that nobody writes.
          try inventory.shareLayers(name, &snapshot)
          prepared.update { $0 = snapshot }
          guard !snapshot.layers.isEmpty else { return }
          let complete = snapshot
          _ = try machine.pushLayers(changes(snapshot.layers)) {
            try inventory.commit(name, complete)
            isTaken.update { $0 = true }
          }
        },
        commit: {
          guard let snapshot = prepared.read({ $0 }) else { return }
          if snapshot.layers.isEmpty {
            try inventory.commit(name, snapshot)
            isTaken.update { $0 = true }
          }
          try inventory.keepMemory(name, of: snapshot.snapshot, identifier)
        })
    } catch {
      // Half a snapshot is none.
      if isTaken.read({ $0 }), let snapshot = prepared.read({ $0 })?.snapshot {
        _ = try? inventory.deleteSnapshot(name, snapshot.identifier, authority: .host)
      }
      inventory.discardMemoryState(name, identifier)
      throw error
    }
    guard let snapshot = prepared.read({ $0 })?.snapshot else {
      throw HostingError(.machine, "\(name): the snapshot was not taken")
    }
    return isCheckpoint ? true : report(snapshot, held, "the guest stood still")
  }

  private func changes(_ layers: [(disk: String, path: String)]) -> [DiskLayerChange] {
    layers.compactMap { layer in
      guard let disk = plan.diskNames.firstIndex(of: layer.disk),
        plan.configuration.disks.indices.contains(disk),
        !plan.configuration.disks[disk].isReadOnly
      else { return nil }
      return DiskLayerChange(disk: disk, path: layer.path)
    }
  }

  private func take(_ title: String?, _ claim: HostPlan.Claim) throws -> JSONValue {
    var held: UInt64 = 0
    let snapshot = try claim.inventory.takeSnapshotWhileRunning(
      claim.name, title: title
    ) { layers, commit in
      held = try machine.pushLayers(changes(layers), commit: commit)
    }
    return report(snapshot, held, "the disks rested")
  }

  private func report(_ snapshot: Snapshot, _ held: UInt64, _ what: String) -> JSONValue {
    let milliseconds = Double(held) / 1e6
    let shown = "\((milliseconds * 10).rounded() / 10)"
    loop.perform { [weak self] in
      self?.noteMessage("snapshot '\(snapshot.name)' taken; \(what) for \(shown) ms")
    }
    return [
      "id": .string(snapshot.identifier), "name": .string(snapshot.name),
      "heldMilliseconds": .number(milliseconds),
    ]
  }
}
