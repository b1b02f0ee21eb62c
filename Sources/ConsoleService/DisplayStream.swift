import CLinux
import ConsoleUI
import Devices
import Hosting
import Inventory
import Platform

/// One open display: asks the host what it shows, draws that as a console's output, and hands keys over.
final class DisplayStream {
  let name: MachineName
  private let location: InventoryLocation
  private var client: AsynchronousMachineClient?
  private var isClosed = false
  private var isAttached = false
  /// The look that has no answer yet, and when the next is due.
  private var question: Int64?
  private var nextLook: UInt64
  private var deadline: UInt64
  private var generation: Int64?
  private var size: Size?
  /// Looks without news, which make the next ones rarer.
  private var idleLooks = 0
  private var waitingKeys: [String] = []

  private static let patience: UInt64 = 10_000_000_000
  private static let retryInterval: UInt64 = 50_000_000
  /// Between looks while something happens, and at rest.
  private static let quickInterval: UInt64 = 40_000_000
  private static let restInterval: UInt64 = 250_000_000
  private static let quickLooks = 50
  private static let keyLimit = 2000

  init(_ name: MachineName, at location: InventoryLocation) {
    self.name = name
    self.location = location
    nextLook = MonotonicClock.now
    deadline = nextLook &+ Self.patience
  }

  var pollRequest: PollRequest? {
    guard !isClosed, let client else { return nil }
    return PollRequest(descriptor: client.descriptor, wantsToWrite: client.wantsToWrite)
  }

  var nextDeadline: UInt64? { isClosed || question != nil ? nil : nextLook }

  func send(_ keys: [String]) {
    guard waitingKeys.count + keys.count <= Self.keyLimit else { return }
    waitingKeys += keys
    idleLooks = 0
    flushKeys()
  }

  func close() {
    isClosed = true
    client = nil
  }

  /// Serves the connection; returns what happened, with the console's number.
  func process(as number: ConsoleNumber) -> [ServiceEvent] {
    guard !isClosed else { return [] }
    let now = MonotonicClock.now
    if client == nil, now >= nextLook {
      client = try? AsynchronousMachineClient(name, at: location)
      if client == nil {
        guard now < deadline else { return end(number, "its host process does not answer") }
        nextLook = now &+ Self.retryInterval
        return []
      }
    }
    guard let client else { return [] }
    var events: [ServiceEvent] = []
    for message in client.process() {
      switch message {
      case .result(let identifier, let value) where identifier == question:
        question = nil
        nextLook = now &+ interval
        events += take(value, number)
      case .failure(let identifier, let reason) where identifier == question:
        return events + end(number, reason)
      case .failure(_, let reason): events.append(.failed(RequestNumber(0), reason))
      case .closed: return events + end(number, "the machine was turned off")
      case .result, .notification: continue
      }
    }
    flushKeys()
    if question == nil, now >= nextLook {
      let known = generation.map { ["generation": JSONValue.integer($0)] } ?? [:]
      question = client.call("display.read", .object(known))
    }
    return events
  }

  private var interval: UInt64 {
    idleLooks < Self.quickLooks ? Self.quickInterval : Self.restInterval
  }

  private func take(_ value: JSONValue, _ number: ConsoleNumber) -> [ServiceEvent] {
    guard let snapshot = DisplaySnapshot(json: value) else {
      idleLooks += 1
      return []
    }
    idleLooks = 0
    generation = value["generation"]?.integer
    let (size, bytes) = DisplayDrawing.bytes(snapshot.content, machine: name.description)
    var events: [ServiceEvent] = []
    if !isAttached || size != self.size {
      isAttached = true
      self.size = size
      events.append(.attached(number, size))
    }
    events.append(.output(number, bytes))
    return events
  }

  private func flushKeys() {
    guard let client, !waitingKeys.isEmpty else { return }
    client.call("keyboard.send", ["keys": .array(waitingKeys.map(JSONValue.string))])
    waitingKeys = []
    // What the key does is seen soon.
    nextLook = min(nextLook, MonotonicClock.now &+ Self.quickInterval / 2)
  }

  private func end(_ number: ConsoleNumber, _ reason: String) -> [ServiceEvent] {
    close()
    return [.consoleClosed(number, reason)]
  }
}
