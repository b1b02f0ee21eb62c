import CLinux
import Glibc
import Inventory
import Machine
import Platform
import StateFile
import Synchronization

/// The control protocol's methods by which a running machine goes to another host.
extension MachineHost {
  static let moveMethods: [(name: String, summary: String)] = [
    (
      "move.send",
      "{downtime, sharedDisks, destination, answers}: after the answer the connection is the machine's stream"
    ),
    ("move.status", "how far that is, or how the last one ended"),
    ("move.finish", "it runs there: end here"),
    ("move.takeBack", "it does not run there: go on here"),
  ]

  /// nil: no such method.
  func answerMove(_ method: String, _ parameters: JSONValue) -> ControlServer.Answer? {
    guard Self.moveMethods.contains(where: { $0.name == method }) else { return nil }
    let present = move.read { $0 }
    switch method {
    case "move.status":
      guard let present else { return .error(RemoteError("\(name): was never sent")) }
      let answer = present.json
      if answer["phase"] == .string(MovingProgress.Phase.done.rawValue) {
        present.isReported.store(true, ordering: .relaxed)
      }
      return .result(answer)
    case "move.finish", "move.takeBack":
      guard let present, present.isUncertain else {
        return .error(RemoteError("\(name): does not wait for how its way to another host ended"))
      }
      return method == "move.finish" ? finish(present) : takeBack(present)
    default:
      if let present, present.isUnderWay {
        return .error(RemoteError("\(name): is being sent already"))
      }
      if let refusal = uncertainRefusal { return .error(refusal) }
      return send(parameters)
    }
  }

  /// Why a machine whose way to another host has an uncertain end does not just go on.
  var uncertainRefusal: RemoteError? {
    guard let present = move.read({ $0 }), present.isUncertain else { return nil }
    return RemoteError(
      "\(name): was sent to \(present.destination) and may run there; if it does, "
        + "'uj send --finish \(name)', if not, 'uj send --take-back \(name)'")
  }

  /// Whoever has sent the machine hears how that ended before this process goes, if he asks soon.
  func answerLastQuestion() {
    guard let present = move.read({ $0 }) else { return }
    guard present.isUnderWay || present.progress.state.phase == .done else { return }
    let deadline = MonotonicClock.now &+ 2_000_000_000
    while MonotonicClock.now < deadline, !present.isReported.load(ordering: .relaxed),
      present.progress.state.phase != .failed
    {
      guard (try? loop.runOnce(timeoutMilliseconds: 20)) != nil else { return }
    }
  }

  private func finish(_ move: HostMove) -> ControlServer.Answer {
    move.progress.update { $0.phase = .done }
    move.isReported.store(true, ordering: .relaxed)
    stopAtOnce()
    return .result(true)
  }

  private func takeBack(_ move: HostMove) -> ControlServer.Answer {
    do {
      if let claim = plan.claim { try claim.inventory.markMoved(claim.name, to: nil) }
      try machine.takeBack(move.sharedDisks)
    } catch {
      return .error(RemoteError("\(error)"))
    }
    move.progress.update {
      $0.phase = .failed
      $0.reason = "it was taken back"
    }
    return .result(true)
  }

  // MARK: Sending

  /// All that is to be known before.
  private struct Departure: Sendable {
    var machine: MovingMachine
    var options: MovingOptions
    var files: [(file: MovingFile, path: String)]
    var move: HostMove
  }

  private func send(_ parameters: JSONValue) -> ControlServer.Answer {
    let departure: Departure
    do {
      departure = try prepare(parameters)
    } catch {
      return .error(RemoteError("\(error)"))
    }
    move.update { $0 = departure.move }
    let answers = departure.machine.isAnswered
    return .handOver(["name": .string(name)]) { [self] descriptor, input in
      // Whoever asks waits for the answer before anything else is said.
      guard input.isEmpty else {
        departure.move.progress.update {
          $0.phase = .failed
          $0.reason = "the stream began too early"
        }
        close(descriptor)
        return
      }
      do {
        _ = try PosixThread(name: "move") { [self] in
          let channel = MoveChannel(input: answers ? descriptor : -1, output: descriptor)
          carryOut(departure, channel)
          close(descriptor)
        }
      } catch {
        departure.move.progress.update {
          $0.phase = .failed
          $0.reason = "\(error)"
        }
        close(descriptor)
      }
    }
  }

  private func prepare(_ parameters: JSONValue) throws -> Departure {
    guard let claim = plan.claim, let definition = plan.definition else {
      throw HostingError(.refused, "\(name) has no place on disk, and so stays where it is")
    }
    guard machine.runState == .running || machine.runState == .halted else {
      throw HostingError(.refused, "\(name): is paused; 'uj unpause \(name)' first")
    }
    var options = MovingOptions()
    if let limit = parameters["downtime"]?.number {
      guard (1...600_000).contains(limit) else {
        throw HostingError(.refused, "downtime: must be 1 ms to 10 min")
      }
      options.standstillLimit = UInt64(limit * 1e6)
    }
    let description = try machine.movingDescription()
    guard plan.diskNames == definition.disks.map(\.name),
      description.diskSizes.count >= plan.diskNames.count
    else { throw HostingError(.machine, "\(name): its disks are not those of its definition") }
    var disks: [ArrivingMachine.Disk] = []
    for (index, disk) in definition.disks.enumerated() {
      // Where snapshots were taken, what counts is in the machine's own folder.
      let isShared =
        parameters["sharedDisks"]?.bool == true && disk.path != nil
        && plan.configuration.disks[index].path == disk.path
      disks.append(
        .init(name: disk.name, size: description.diskSizes[index], isCopied: !isShared))
      if !isShared {
        options.copiedDisks.insert(index)
      } else if !disk.isReadOnly {
        options.sharedDisks.insert(index)
      }
    }
    let disc = machine.disc
    let files = definition.movingFiles(disc: disc, seed: claim.inventory.location.seed(claim.name))
    let departing = definition.departing(disc: disc, addresses: description.addresses)
    return Departure(
      machine: MovingMachine(
        name: name, definition: departing.text(name: claim.name), facts: description.facts,
        leaves: description.leaves, memorySize: description.memorySize, disks: disks,
        files: try files.map { .init(file: $0.file, size: try Self.size(of: $0.path)) },
        isAnswered: parameters["answers"]?.bool == true),
      options: options, files: files,
      move: HostMove(
        destination: printable((parameters["destination"]?.string ?? "another host").prefix(200)),
        sharedDisks: options.sharedDisks))
  }

  private static func size(of path: String) throws -> UInt64 {
    var information = stat()
    guard stat(path, &information) == 0, information.st_mode & Glibc.S_IFMT == Glibc.S_IFREG
    else { throw HostingError(.io, "\(printable(path)): is not there, or no file") }
    return UInt64(clamping: information.st_size)
  }

  /// On the thread of the move.
  private func carryOut(_ departure: Departure, _ channel: MoveChannel) {
    let move = departure.move
    let sender = MoveSender(channel) { [plan] mark in
      guard let claim = plan.claim else { return }
      switch mark {
      case .soon: try claim.inventory.prepareMoved(claim.name, to: move.destination)
      case .gone: try claim.inventory.markMoved(claim.name, to: move.destination)
      case .here: try claim.inventory.markMoved(claim.name, to: nil)
      }
    }
    let outcome = snapshotWork.withLockIfAvailable { _ in
      let outcome = attempt(departure, sender)
      settleRecord(outcome)
      return outcome
    }
    switch outcome ?? .failure(HostingError(.refused, "a snapshot is being taken; try again")) {
    case .success(.done):
      move.progress.update { $0.phase = .done }
      tell("runs at \(move.destination) now")
    case .success(.uncertain):
      move.progress.update { $0.phase = .uncertain }
      if let refusal = uncertainRefusal { tell(refusal.message) }
    case .failure(let error):
      sender.withdraw("\(error)")
      move.progress.update {
        $0.phase = .failed
        $0.reason = "\(error)"
      }
      tell("stays here: \(error)")
    }
  }

  /// What was written of the way has to wait for a disk only now.
  private func settleRecord(_ outcome: Result<HandOver, any Error>) {
    guard let claim = plan.claim else { return }
    do {
      switch outcome {
      case .success: try claim.inventory.makeMovedLast(claim.name)
      case .failure: try claim.inventory.forgetDeparture(claim.name)
      }
    } catch {
      tell("\(error)")
    }
  }

  private func attempt(
    _ departure: Departure, _ sender: MoveSender
  ) -> Result<HandOver, any Error> {
    Result {
      try sender.open(departure.machine)
      for (file, described) in zip(departure.files, departure.machine.files) {
        try sender.send(file.file, file.path, size: described.size)
      }
      return try machine.move(to: sender, departure.options, departure.move.progress)
    }
  }

  private func tell(_ text: String) {
    loop.perform { [weak self] in self?.noteMessage(text) }
  }
}
