import CLinux
import Hosting
import Platform
import Synchronization

/// What the soak does to one machine, and what must be so afterwards.
extension Soak {
  private struct Action: Sendable {
    /// How often it is chosen, in proportion to the others.
    let weight: Int
    let name: String
    let body: @Sendable (Soak, String) -> Void

    init(_ weight: Int, _ name: String, _ body: @escaping @Sendable (Soak, String) -> Void) {
      self.weight = weight
      self.name = name
      self.body = body
    }
  }

  private static let actions: [Action] = [
    Action(8, "start", { $0.start($1) }),
    Action(3, "stop -f", { $0.stop($1, isForced: true) }),
    Action(2, "stop -w", { $0.stop($1, isForced: false) }),
    Action(3, "kill -9 of the host", { $0.killHost($1) }),
    Action(3, "suspend", { $0.suspend($1) }),
    Action(4, "snapshot", { $0.takeSnapshot($1, hasMemory: false) }),
    Action(4, "snapshot with memory", { $0.takeSnapshot($1, hasMemory: true) }),
    Action(4, "rollback", { $0.rollBack($1) }),
    Action(3, "forward", { $0.forward($1) }),
    Action(3, "snapshot delete", { $0.deleteSnapshot($1) }),
    Action(2, "branch", { $0.branch($1) }),
    Action(2, "pause", { $0.pause($1) }),
    Action(4, "console client", { $0.attach($1) }),
    Action(2, "status", { $0.look($1) }),
  ]

  /// One random action.
  func act(on name: String) {
    var choice = random(0...(Self.actions.reduce(-1) { $0 + $1.weight }))
    guard
      let action = Self.actions.first(where: {
        choice -= $0.weight
        return choice < 0
      })
    else {
      return
    }
    follow(name)
    action.body(self, name)
    count(action.name)
    follow(name)
  }

  private func isRunning(_ name: String) -> Bool { record(name) { $0.isRunning } }

  private func start(_ name: String) {
    guard !isRunning(name) else { return }
    record(name) { $0.expected = $0.present }
    guard verb("start", name).succeeded else { return }
    record(name) { $0.isRunning = true }
    waitForSign(name)
  }

  /// Its host is gone: what it printed last is in the log now.
  private func ended(_ name: String, unseen: Int = 0) {
    follow(name)
    record(name) { record in
      let present = record.present
      record.expected = present.lowerBound...(present.upperBound + unseen)
      record.isRunning = false
    }
  }

  private func stop(_ name: String, isForced: Bool) {
    guard isRunning(name) else { return }
    if isForced {
      verb("stop", "-f", "-w", name)
    } else if !verb("stop", "-w", "--timeout", "60", name, mayFail: true).succeeded {
      // A guest that was just started does not heed its power button yet.
      verb("stop", "-f", "-w", name)
    }
    ended(name)
  }

  private func killHost(_ name: String) {
    guard isRunning(name), let process = host(of: name) else { return }
    kill(process, SIGKILL)
    let limit = MonotonicClock.now + 30_000_000_000
    while kill(process, 0) == 0, MonotonicClock.now < limit { usleep(10_000) }
    // Lines that the host had not written to its log yet.
    ended(name, unseen: 3)
    let status = verb("status", name).output
    if !status.contains("crashed") { fault("\(name): killed, but: \(status)") }
  }

  private func suspend(_ name: String) {
    guard isRunning(name) else { return }
    guard verb("suspend", name).succeeded else { return }
    ended(name)
    start(name)
  }

  private func pause(_ name: String) {
    guard isRunning(name), verb("pause", name).succeeded else { return }
    follow(name)
    let before = record(name) { $0.signs }
    usleep(3_000_000)
    follow(name)
    if record(name, { $0.signs }) > before + 1 { fault("\(name): prints while it is paused") }
    if verb("unpause", name).succeeded { waitForSign(name) }
  }

  private func takeSnapshot(_ name: String, hasMemory: Bool) {
    let (number, running, low, count) = record(name) { record in
      record.nextSnapshot += 1
      let others = record.snapshots.count { $0.hasMemory == hasMemory }
      return (record.nextSnapshot, record.isRunning, record.present.lowerBound, others)
    }
    guard count < (hasMemory ? 2 : 4), running || !hasMemory else { return }
    let title = "s\(number)"
    let done =
      hasMemory
      ? verb("snapshot", "take", name, title, "--memory").succeeded
      : verb("snapshot", "take", name, title).succeeded
    guard done else { return }
    follow(name)
    record(name) { record in
      // As in an editor: what is new ends what could be done again.
      record.left = nil
      record.snapshots.append(
        .init(name: title, counts: low...max(low, record.present.upperBound), hasMemory: hasMemory))
    }
  }

  private func anySnapshot(_ name: String) -> SoakRecord.Snapshot? {
    let all = record(name) { $0.snapshots }
    return all.isEmpty ? nil : all[random(0...(all.count - 1))]
  }

  private func rollBack(_ name: String) {
    guard let snapshot = anySnapshot(name) else { return }
    stop(name, isForced: true)
    let left = record(name) { $0.present }
    guard verb("snapshot", "rollback", name, snapshot.name).succeeded else { return }
    record(name) { record in
      record.left = left
      record.expected = snapshot.counts
    }
    start(name)
  }

  private func forward(_ name: String) {
    guard let left = record(name, { $0.left }) else { return }
    stop(name, isForced: true)
    let result = verb("snapshot", "forward", name, mayFail: true)
    record(name) { record in
      record.left = nil
      if result.succeeded { record.expected = left }
    }
    start(name)
  }

  private func deleteSnapshot(_ name: String) {
    guard let snapshot = anySnapshot(name) else { return }
    let isCut = random(0...3) == 0
    if isCut,
      let child = try? ChildProcess.start(
        [uj, "snapshot", "delete", name, snapshot.name], environment: environment)
    {
      usleep(UInt32(random(0...30) * 1000))
      kill(child.identifier, SIGKILL)
      _ = ChildProcess.wait(for: child.identifier)
      // It is deleted, or it is still there and can be.
      let again = verb("snapshot", "delete", name, snapshot.name, mayFail: true)
      record(name) { $0.remember("(cut off; then: \(again.output))") }
    } else {
      verb("snapshot", "delete", name, snapshot.name)
    }
    let list = verb("snapshot", "list", name).output
    if list.contains("  \(snapshot.name)\n"), !isFull.load(ordering: .acquiring) {
      fault("\(name): deleted, but still listed: \(snapshot.name) in \(list)")
    }
    record(name) { record in
      // It may be what was left.
      record.left = nil
      record.snapshots.removeAll { $0.name == snapshot.name }
    }
  }

  private func branch(_ name: String) {
    guard let snapshot = anySnapshot(name) else { return }
    let child = shared.withLock { shared in
      shared.nextName += 1
      return "b\(shared.nextName)"
    }
    guard verb("snapshot", "branch", name, snapshot.name, child).succeeded else { return }
    shared.withLock { _ = $0.busy.insert(child) }
    record(child) { record in
      record.expected = snapshot.counts
      record.mayHaveGaps = isFull.load(ordering: .acquiring)
    }
    start(child)
    stop(child, isForced: true)
    verb("delete", "--yes", child)
    shared.withLock { shared in
      shared.records[child] = nil
      shared.busy.remove(child)
    }
  }

  /// A client that reads, does not read, or dies.
  private func attach(_ name: String) {
    guard isRunning(name) else { return }
    guard
      let client = try? ChildProcess.start(
        [
          "/bin/sh", "-c",
          "sleep 5 | exec '\(uj)' console \(name) --read-only > /dev/null 2>&1",
        ], environment: environment)
    else { return }
    usleep(500_000)
    switch random(0...2) {
    case 0: kill(client.identifier, SIGSTOP)
    case 1: kill(client.identifier, SIGKILL)
    default: break
    }
    usleep(500_000)
    shared.withLock { $0.clients.append(client.identifier) }
    reap(limit: 8)
  }

  /// Ends the oldest clients until at most `limit` are left.
  func reap(limit: Int) {
    let old = shared.withLock { shared in
      let old = Array(shared.clients.dropLast(limit))
      shared.clients.removeFirst(old.count)
      return old
    }
    for client in old {
      kill(client, SIGCONT)
      kill(client, SIGKILL)
      _ = ChildProcess.wait(for: client)
    }
  }

  private func look(_ name: String) {
    let begin = MonotonicClock.now
    verb("status")
    let seconds = Double(MonotonicClock.now - begin) / 1e9
    if seconds > 10 { fault("uj status took \(decimal(seconds)) s") }
    verb("snapshot", "tree", name)
    verb("log", name, "-n", "5", mayFail: true)
  }
}
