import CLinux
import Glibc
import Inventory
import Platform

/// Snapshots of a machine whether it runs or not: what its host must do is asked of the host.
package struct SnapshotCommands: Sendable {
  package let inventory: Inventory
  /// The `uj` that hosts are started with; nil is the program that is running.
  package var program: String?

  package init(_ inventory: Inventory, program: String? = nil) {
    self.inventory = inventory
    self.program = program
  }

  /// Long enough for a busy disk to take what is in its cache.
  private static let patience: Double = 120
  /// The same for a machine's memory.
  private static let patienceWithMemory: Double = 1200

  package func isRunning(_ name: MachineName) -> Bool { inventory.holder(name)?.role == .host }

  /// What taking a snapshot came to.
  package struct Taken: Sendable, Equatable {
    package var identifier: String
    package var name: String
    /// Milliseconds for which a running machine's disks rested; nil for one that does not run.
    package var heldMilliseconds: Double?
  }

  /// Keeps the present state. Of a running machine it is what a power cut at this moment would leave.
  ///
  /// - Parameter memory: the memory of a running machine too; it is as if nothing had happened to it then.
  package func take(
    _ name: MachineName, title: String?, memory: Bool = false
  ) throws -> Taken {
    guard isRunning(name) else {
      if memory, !inventory.isSuspended(name) {
        throw InventoryError(
          .refused, "\(name): does not run, and so has no memory to keep; leave --memory out")
      }
      let snapshot = try inventory.takeSnapshot(name, title: title)
      return Taken(identifier: snapshot.identifier, name: snapshot.name)
    }
    var parameters: [String: JSONValue] = ["memory": .bool(memory)]
    parameters["title"] = title.map(JSONValue.string)
    let answer = try call(name, "snapshot.take", .object(parameters))
    return Taken(
      identifier: answer["id"]?.string ?? "", name: answer["name"]?.string ?? "",
      heldMilliseconds: answer["heldMilliseconds"]?.number)
  }

  package func rename(_ name: MachineName, _ selector: String, to title: String) throws {
    guard isRunning(name) else {
      return try inventory.renameSnapshot(name, selector, to: title)
    }
    _ = try call(name, "snapshot.rename", ["snapshot": .string(selector), "title": .string(title)])
  }

  /// - Parameter memory: the new machine goes on in the snapshot's memory.
  package func branch(
    _ name: MachineName, _ selector: String, as target: MachineName, memory: Bool = false
  ) throws {
    try inventory.checkInstance(of: name, changing: [])
    guard isRunning(name) else {
      return try inventory.clone(name, at: selector, as: target, withMemory: memory)
    }
    // The host keeps what is needed from being merged; it may not, in its sandbox, make another machine.
    let frozen = try call(name, "snapshot.freeze", ["snapshot": .string(selector)])
    try inventory.clone(
      name, at: frozen["id"]?.string ?? selector, as: target, withMemory: memory, authority: .host)
  }

  /// Removes a snapshot from the tree. The layers of a machine that does not run are to be merged afterwards.
  ///
  /// - Returns: its name.
  package func delete(_ name: MachineName, _ selector: String) throws -> String {
    guard isRunning(name) else { return try inventory.deleteSnapshot(name, selector).name }
    return try call(name, "snapshot.delete", ["snapshot": .string(selector)])["name"]?.string
      ?? selector
  }

  /// Removes what the machine's rule does not keep.
  ///
  /// - Returns: how many snapshots are gone.
  package func prune(_ name: MachineName, rule: RetentionRule?) throws -> Int {
    guard isRunning(name) else { return try inventory.prune(name, rule: rule).going.count }
    guard rule == nil else {
      throw InventoryError(
        .running, "\(name): is running, and then its own rule counts; leave out the options")
    }
    guard case .array(let gone) = try call(name, "snapshot.prune", [:]) else { return 0 }
    return gone.count
  }

  private func call(
    _ name: MachineName, _ method: String, _ parameters: JSONValue
  ) throws -> JSONValue {
    let isLong = parameters["memory"]?.bool ?? (method == "suspend")
    return try MachineClient(name, at: inventory.location)
      .call(
        method, parameters, timeout: isLong ? Self.patienceWithMemory : Self.patience)
  }

  // MARK: Suspending

  /// Saves a running machine's memory and ends its host; the next start goes on from there.
  ///
  /// - Returns: bytes that the saved state takes on disk.
  @discardableResult
  package func suspend(_ name: MachineName) throws -> UInt64 {
    do {
      _ = try call(name, "suspend", [:])
    } catch let error as HostingError where error.kind == .disconnected {
      // It may be gone before its answer is.
    }
    guard waitUntilGone(name, seconds: 60) else {
      throw HostingError(.timeout, "\(name): its host process does not end")
    }
    guard let path = try inventory.suspendedState(name) else {
      throw HostingError(
        .machine, "\(name): has ended and was not suspended; see 'uj log --host \(name)'")
    }
    var information = stat()
    guard stat(path, &information) == 0 else { return 0 }
    return UInt64(clamping: information.st_blocks) &* 512
  }

  // MARK: Rolling

  /// Where to roll to.
  package enum Direction: Sendable {
    case back(String)
    case forward(String?)
  }

  /// What rolling came to.
  package struct Rolled: Sendable, Equatable {
    package var target: Snapshot
    /// Keeps what was left.
    package var kept: Snapshot?
    /// The machine ran, was cut off and runs again.
    package var isRestarted = false
  }

  /// Rolls a machine back or forward. One that runs must stop for it: its memory would not fit its disks any more.
  ///
  /// - Parameter force: cuts a running machine's power, rolls, and starts it again.
  package func roll(
    _ name: MachineName, _ direction: Direction, force: Bool = false
  ) throws -> Rolled {
    let runs = isRunning(name)
    if runs {
      // Where there is memory to go to, what is left is kept with its own.
      var hasMemory = false
      guard force else {
        throw InventoryError(
          .running,
          "\(name): is running; stop it first, or say -f: cut its power, roll, and start it again")
      }
      // What cannot be done is said before anything is cut off.
      let tree = try inventory.snapshots(name)
      switch direction {
      case .back(let selector), .forward(let selector?):
        hasMemory = try tree.find(selector).memory != nil
      case .forward(nil): hasMemory = try tree.forwardTarget(machine: name).memory != nil
      }
      if hasMemory { try suspend(name) } else { try cutPower(name) }
    }
    let result: (target: Snapshot, kept: Snapshot?)
    switch direction {
    case .back(let selector): result = try inventory.rollBack(name, to: selector)
    case .forward(let selector): result = try inventory.rollForward(name, to: selector)
    }
    if runs { try HostProcess.spawn(name, inventory, program: program) }
    return Rolled(target: result.target, kept: result.kept, isRestarted: runs)
  }

  private func cutPower(_ name: MachineName) throws {
    guard let holder = inventory.holder(name), holder.role == .host else { return }
    _ = try? MachineClient(name, at: inventory.location).call("stop", ["force": true], timeout: 3)
    if waitUntilGone(name, seconds: 10) { return }
    kill(holder.process, SIGKILL)
    guard waitUntilGone(name, seconds: 5) else {
      throw HostingError(.timeout, "\(name): its host process \(holder.process) does not end")
    }
  }

  private func waitUntilGone(_ name: MachineName, seconds: UInt64) -> Bool {
    let deadline = MonotonicClock.now &+ seconds &* 1_000_000_000
    while isRunning(name) {
      if MonotonicClock.now > deadline { return false }
      usleep(5000)
    }
    return true
  }
}
