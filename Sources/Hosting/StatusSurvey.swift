import CLinux
import Inventory
import Platform

/// Asks for the state of many machines at once.
package struct StatusSurvey {
  private let inventory: Inventory

  package init(_ inventory: Inventory) {
    self.inventory = inventory
  }

  /// The state of the given machines, or of all. A host that does not answer in time is `unresponsive`.
  ///
  /// - Parameter timeout: seconds for all together.
  package func statuses(
    of names: [MachineName]? = nil, timeout: Double = 1
  ) throws(HostingError) -> [MachineStatus] {
    try answers(to: "status", of: names, timeout: timeout).map(\.status)
  }

  /// The same with all counters; without them those that do not run or do not answer.
  package func figures(
    of names: [MachineName]? = nil, timeout: Double = 1
  ) throws(HostingError) -> [(status: MachineStatus, figures: MachineFigures?)] {
    try answers(to: "statistics.read", of: names, timeout: timeout).map { entry in
      (entry.status, entry.answer.flatMap { MachineFigures($0) })
    }
  }

  private typealias Entry = (status: MachineStatus, answer: JSONValue?)

  /// - Parameter method: one whose result has a status's members.
  private func answers(
    to method: String, of names: [MachineName]?, timeout: Double
  ) throws(HostingError) -> [Entry] {
    var all = names ?? []
    if names == nil {
      all = try inventoried { () throws(InventoryError) in try inventory.names() }
    }
    var statuses: [Entry] = []
    var waiting: [(index: Int, client: AsynchronousMachineClient)] = []
    for name in all {
      var status = resting(name)
      if let holder = inventory.holder(name), holder.role == .host {
        status.process = holder.process
        status.problem = nil
        if let client = try? AsynchronousMachineClient(name, at: inventory.location) {
          client.call(method)
          waiting.append((statuses.count, client))
          status.state = .unresponsive
          status.problem = "its host process does not answer"
        } else {
          // It holds the lock and does not listen yet, or not any more.
          status.state = .starting
        }
      }
      statuses.append((status, nil))
    }
    collect(waiting, &statuses, deadline: MonotonicClock.now &+ UInt64(timeout * 1e9))
    return statuses
  }

  /// The state of a machine that has no host.
  package func resting(_ name: MachineName) -> MachineStatus {
    do {
      let definition = try inventory.definition(name)
      var status = MachineStatus(name: name.description, state: .stopped)
      status.describe(definition)
      if definition.isTemplate {
        status.state = .template
      } else if let place = inventory.movedPlace(name) {
        status.problem = "was sent to \(printable(place)), and is not started here"
      } else if inventory.isSuspended(name) {
        status.state = .suspended
      } else if let reason = inventory.crashReason(name) {
        status.state = .crashed
        status.crashReport = inventory.crashReport(name)
        status.problem = reason + (status.crashReport.map { "; the report is \($0)" } ?? "")
      }
      return status
    } catch {
      var status = MachineStatus(name: name.description, state: .broken)
      status.problem = error.description
      return status
    }
  }

  private func collect(
    _ clients: [(index: Int, client: AsynchronousMachineClient)],
    _ statuses: inout [Entry], deadline: UInt64
  ) {
    var waiting = clients
    while !waiting.isEmpty {
      let now = MonotonicClock.now
      guard now < deadline else { return }
      var requests = waiting.map { entry in
        let output = entry.client.wantsToWrite ? POLLOUT : 0
        return pollfd(fd: entry.client.descriptor, events: Int16(POLLIN | output), revents: 0)
      }
      let milliseconds = Int32(clamping: (deadline - now) / 1_000_000 + 1)
      guard poll(&requests, nfds_t(requests.count), milliseconds) > 0 else { continue }
      let ready = zip(waiting, requests).filter { $0.1.revents != 0 }.map(\.0)
      for entry in ready {
        for message in entry.client.process() {
          var isDone = true
          switch message {
          case .result(_, let value): apply(value, to: &statuses[entry.index])
          case .failure(_, let reason): statuses[entry.index].status.problem = reason
          case .closed:
            let status = statuses[entry.index].status
            if let name = try? MachineName(status.name), status.state == .unresponsive {
              statuses[entry.index].status = afterClose(name)
            }
          case .notification: isDone = false
          }
          if isDone { waiting.removeAll { $0.index == entry.index } }
        }
      }
    }
  }

  /// The state of a machine whose host has closed its socket: it may take a while until the kernel has taken the rest of
  /// the process apart, and until then the machine cannot be started.
  private func afterClose(_ name: MachineName) -> MachineStatus {
    var status = resting(name)
    if let holder = inventory.holder(name), holder.role == .host {
      status.process = holder.process
      status.state = .unresponsive
      status.problem = "its host process is ending"
    }
    return status
  }

  private func apply(_ value: JSONValue, to entry: inout Entry) {
    guard var answer = MachineStatus(value), answer.name == entry.status.name else {
      entry.status.problem = "its host answered with nonsense"
      return
    }
    answer.parent = entry.status.parent
    answer.tags = entry.status.tags
    entry = (answer, value)
  }
}
