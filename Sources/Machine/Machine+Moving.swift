import DiskImage
import GuestMemory
import Platform
import Processor
import StateFile

/// What another host is told of a machine before anything of it is sent.
package struct MovingDescription: Sendable {
  package var facts: [StateManifest.Fact]
  /// What CPUID tells the first processor, as `Machine.checkArrival` takes it.
  package var leaves: StateValue
  package var memorySize: UInt64
  /// Bytes of each disk of the configuration.
  package var diskSizes: [UInt64]
  /// Of each network adapter, as text.
  package var addresses: [String]

  package init(
    facts: [StateManifest.Fact], leaves: StateValue, memorySize: UInt64, diskSizes: [UInt64],
    addresses: [String]
  ) {
    self.facts = facts
    self.leaves = leaves
    self.memorySize = memorySize
    self.diskSizes = diskSizes
    self.addresses = addresses
  }
}

extension Machine {
  /// Gives the running machine to another host, while the guest runs but for a moment.
  ///
  /// - Returns: with `done` the machine ends as `MachineEnd.moved`; with `uncertain` it stands still until `takeBack` or
  ///   `stop`.
  /// - Throws: why it goes on here.
  package func move(
    to target: any MovingTarget, _ options: MovingOptions, _ progress: MovingProgress
  ) throws -> HandOver {
    guard runState == .running || runState == .halted else {
      throw MachineError("\(configuration.name): does not run; a paused machine stays where it is")
    }
    return try MovingRound(self, to: target, options, progress).run()
  }

  /// Lets a machine go on that was given away with an uncertain end.
  ///
  /// - Parameter sharedDisks: as it was moved with.
  package func takeBack(_ sharedDisks: Set<Int>) throws(MachineError) {
    for disk in sharedDisks.sorted() where parts.disks.indices.contains(disk) {
      try parts.disks[disk].takeBack()
    }
    resume()
  }

  package func movingDescription() throws(MachineError) -> MovingDescription {
    let leaves: StateValue
    do {
      leaves = try StateEncoder.encode(board.shownLeaves.first ?? [])
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
    return MovingDescription(
      facts: parts.facts, leaves: leaves, memorySize: parts.memory.size,
      diskSizes: parts.disks.map(\.size), addresses: networkPorts.map { "\($0.address)" })
  }

  /// Looks whether a guest of another host could go on here, as far as that can be told before its machine is built.
  ///
  /// - Parameters:
  ///   - facts: as the other host has them.
  ///   - leaves: as in `MovingDescription`; from anywhere.
  /// - Throws: what is missing here, or otherwise.
  package static func checkArrival(
    _ configuration: MachineConfiguration, facts: [StateManifest.Fact], leaves: StateValue,
    serialPortCount: Int
  ) throws(MachineError) {
    try BoardParts.check(configuration, serialPortCount: serialPortCount)
    let accelerator = try AcceleratorChoice(configuration.accelerator)
    let board = BoardParts.describe(configuration, serialPortCount: serialPortCount)
    // A firmware of its own comes along later.
    var comesAlong = false
    if case .firmware(.some) = configuration.boot { comesAlong = true }
    let boot =
      comesAlong
      ? BootContent.kernelLater(configuration.boot, board)
      : try BootContent(restoring: configuration.boot, board: board)
    var own = BoardParts.earlyFacts(configuration, accelerator, boot)
    if comesAlong { own.removeAll { $0.subject == BoardParts.startSubject } }
    let known = Set(own.map(\.subject))
    let theirs = StateManifest(created: 0, facts: facts.filter { known.contains($0.subject) })
    let differences = theirs.differences(from: own, except: [ChipCrossing.subject])
    guard differences.isEmpty else {
      throw MachineError(
        "\(configuration.name): \(differences.prefix(3).joined(separator: "; ")), on this host")
    }
    try checkProcessors(configuration, accelerator, leaves)
  }

  private static func checkProcessors(
    _ configuration: MachineConfiguration, _ accelerator: AcceleratorChoice, _ leaves: StateValue
  ) throws(MachineError) {
    let shown: [CPUIDLeaf]
    let memory: GuestMemory
    do {
      shown = try StateDecoder.decode([CPUIDLeaf].self, from: leaves)
      memory = try GuestMemory(size: 1 << 20, hugePages: .refused)
    } catch {
      throw MachineError("\(configuration.name): \(error)")
    }
    let virtualization = try accelerator.makeVirtualization(configuration, memory: memory)
    defer { virtualization.stop() }
    _ = virtualization.makeInterrupts()
    _ = try virtualization.makeProcessors(
      showing: Array(repeating: shown, count: configuration.processorCount))
  }
}

extension DiskBackend {
  private static let drainMilliseconds = 2000

  /// Closes the file, for another host to open it. The board stands still and asks for nothing.
  func letGo() throws(MachineError) {
    guard image.shut(milliseconds: Self.drainMilliseconds) else {
      throw MachineError("\(image.path): requests do not end; try again")
    }
    defer { image.open() }
    do {
      try image.closeShut()
    } catch {
      throw MachineError("\(error)")
    }
  }

  /// Opens it again.
  func takeBack() throws(MachineError) {
    guard image.shut(milliseconds: Self.drainMilliseconds) else {
      throw MachineError("\(image.path): requests do not end; try again")
    }
    defer { image.open() }
    do {
      try image.closeShut()
      image.replaceClosed(with: try Self.openImage(configuration))
    } catch {
      throw MachineError("\(error)")
    }
  }
}
