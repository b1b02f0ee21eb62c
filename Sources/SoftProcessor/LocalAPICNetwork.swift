import CSoftProcessor
import Platform
import Synchronization

/// What connects the local APICs of a machine with each other, with the I/O APIC and with the 8259As.
///
/// Built once with the board; messages are delivered without a lock, from any thread.
package final class LocalAPICNetwork: @unchecked Sendable {
  // @unchecked: `members` and the closures are set before any processor runs.

  /// The APIC number of the processor that starts first.
  let bootIdentity: UInt32
  let timers: LocalAPICTimers
  private(set) var members: [LocalAPIC] = []
  private let external = Atomic<Bool>(false)
  /// Where the search for the lowest priority begins: turns.
  private let turn = Atomic<Int>(0)
  /// INTA: the vector of the 8259As.
  package var acknowledge8259: (@Sendable () -> UInt8)?
  /// A vector's end, for the I/O APIC. Called on a processor's thread, without locks.
  package var endOfInterrupt: (@Sendable (UInt8) -> Void)?

  /// - Parameter clock: tells the guest's time stamps from host time.
  /// - Throws: `PlatformError` when the process has no descriptors left.
  package init(bootIdentity: UInt32, clock: TimeStampClock) throws(PlatformError) {
    self.bootIdentity = bootIdentity
    timers = try LocalAPICTimers(clock: clock)
  }

  /// Adds a processor's. In the order of the processors' numbers.
  func add(_ member: LocalAPIC) { members.append(member) }

  /// The number of members that have been added.
  package var count: Int { members.count }

  // MARK: The 8259As

  var isExternalRequested: Bool { external.load(ordering: .sequentiallyConsistent) }

  /// The level of the 8259As' INTR.
  package func setExternalRequest(_ level: Bool) {
    external.store(level, ordering: .sequentiallyConsistent)
    if level, let boot = members.first { soft_post(boot.cpu, UInt32(SOFT_EVENT_INTERRUPT)) }
  }

  /// - Parameter isWired: INTR was up; it may have gone down since, then the chips answer with a spurious vector as on
  ///   hardware.
  func acknowledgeExternal(isWired: Bool) -> UInt8? { acknowledge8259?() }

  // MARK: Messages

  /// Delivers a message-signalled interrupt (SDM 3A, 11.11).
  ///
  /// - Returns: false when no processor took it, or the vector was requested already.
  package func deliver(address: UInt64, data: UInt32) -> Bool {
    guard address >> 20 & 0xFFF == 0xFEE else { return false }
    let mode = data >> 8 & 7
    let isLowest = mode == LocalAPIC.Mode.lowestPriority || address & 1 << 3 != 0
    return deliver(
      Message(
        destination: UInt32(truncatingIfNeeded: address >> 12 & 0xFF),
        isBroadcast: address >> 12 & 0xFF == 0xFF, isLogical: address & 1 << 2 != 0,
        mode: isLowest && mode == LocalAPIC.Mode.fixed ? LocalAPIC.Mode.lowestPriority : mode,
        vector: data & 0xFF, isLevel: data & 1 << 15 != 0))
  }

  struct Message {
    var destination: UInt32
    var isBroadcast: Bool
    var isLogical: Bool
    var mode: UInt32
    var vector: UInt32
    var isLevel: Bool
  }

  func deliver(_ message: Message) -> Bool {
    if message.mode == LocalAPIC.Mode.lowestPriority { return deliverToLowest(message) }
    var isAccepted = false
    for member in members where member.isMeant(by: message) {
      if member.accept(mode: message.mode, vector: message.vector, isLevel: message.isLevel) {
        isAccepted = true
      }
    }
    return isAccepted
  }

  /// To one of those that are meant: the one with the lowest task priority; equals take turns.
  private func deliverToLowest(_ message: Message) -> Bool {
    let count = members.count
    guard count > 0 else { return false }
    let start = turn.add(1, ordering: .relaxed).newValue
    var best: LocalAPIC?
    var bestPriority = UInt32.max
    for step in 0..<count {
      let member = members[Int(UInt(bitPattern: start &+ step) % UInt(count))]
      guard member.isSoftwareEnabled, member.isMeant(by: message) else { continue }
      let priority = member[LocalAPIC.Register.taskPriority] >> 4
      if priority < bestPriority {
        best = member
        bestPriority = priority
      }
    }
    return best?.accept(
      mode: LocalAPIC.Mode.fixed, vector: message.vector, isLevel: message.isLevel) ?? false
  }
}

extension LocalAPIC {
  /// Whether a message names this processor (SDM 3A, 11.6.2).
  func isMeant(by message: LocalAPICNetwork.Message) -> Bool {
    guard isEnabled else { return false }
    if message.isBroadcast { return true }
    guard message.isLogical else { return message.destination == identity }
    let own = self[Register.logicalDestination]
    if isExtended {
      // 16 bits of cluster, 16 of members. A message of eight bits speaks of cluster 0.
      return own >> 16 == message.destination >> 16 && own & message.destination & 0xFFFF != 0
    }
    let number = own >> 24
    if self[Register.destinationFormat] >> 28 == 0xF { return number & message.destination != 0 }
    return number >> 4 == message.destination >> 4 && number & message.destination & 0xF != 0
  }

  /// Carries out the interrupt command register (SDM 3A, 11.6.1).
  func sendCommand(low: UInt32, destination: UInt32) {
    let mode = low >> 8 & 7
    let vector = low & 0xFF
    let isLevel = low & LocalVector.level != 0
    // INIT level de-assert has no effect on processors since the Pentium 4.
    if mode == Mode.initialize && isLevel && low & 1 << 14 == 0 { return }
    if (mode == Mode.fixed || mode == Mode.lowestPriority) && vector < 16 {
      report(error: ErrorBits.sendIllegalVector)
      return
    }
    switch low >> 18 & 3 {
    case 1: _ = accept(mode: mode, vector: vector, isLevel: false)
    case 2, 3:
      for member in network.members where low >> 18 & 1 == 0 || member !== self {
        guard member.isEnabled else { continue }
        _ = member.accept(mode: mode, vector: vector, isLevel: false)
      }
    default:
      let isBroadcast = isExtended ? destination == .max : destination == 0xFF
      _ = network.deliver(
        LocalAPICNetwork.Message(
          destination: destination, isBroadcast: isBroadcast, isLogical: low & 1 << 11 != 0,
          mode: mode, vector: vector, isLevel: false))
    }
  }
}
