import ConsoleUI
import Hosting
import Inventory
import Platform

/// The connection to one running machine's host: its statistics and changes of state.
final class MachineLink {
  let name: MachineName
  private let client: AsynchronousMachineClient
  /// What the host last said of its machine; nil until it has spoken.
  private(set) var status: MachineStatus?
  private(set) var isClosed = false
  private var lastHeard = MonotonicClock.now

  /// A host that is silent for so long does not answer: statistics come once a second.
  private static let patience: UInt64 = 3_500_000_000

  /// nil when the host does not listen (yet).
  init?(_ name: MachineName, at location: InventoryLocation) {
    guard let client = try? AsynchronousMachineClient(name, at: location) else { return nil }
    self.name = name
    self.client = client
    client.call("statistics.subscribe")
    client.call("events.subscribe")
  }

  var pollRequest: PollRequest {
    PollRequest(descriptor: client.descriptor, wantsToWrite: client.wantsToWrite)
  }

  var isSilent: Bool { MonotonicClock.now > lastHeard &+ Self.patience }

  /// When the silence has lasted too long.
  var silenceDeadline: UInt64 { lastHeard &+ Self.patience }

  /// Takes what has arrived; returns true when the state is another one.
  func process() -> Bool {
    var isChanged = false
    for message in client.process() {
      lastHeard = MonotonicClock.now
      switch message {
      case .result(_, let value), .notification("statistics", let value),
        .notification("state", let value):
        guard let new = MachineStatus(value), new.name == name.description else { continue }
        isChanged = isChanged || new.state != status?.state
        status = new
      case .closed:
        isClosed = true
        isChanged = true
      case .failure, .notification:
        break
      }
    }
    return isChanged
  }
}
