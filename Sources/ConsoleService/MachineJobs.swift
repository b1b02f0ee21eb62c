import CLinux
import ConsoleUI
import Hosting
import Inventory
import Platform
import Synchronization

/// Carries requests out in threads: one after the other for one machine, side by side for several. A machine that does
/// not answer holds up only its own.
final class MachineJobs: Sendable {
  typealias Work = @Sendable (_ progress: @escaping Progress) throws -> Outcome
  typealias Progress = @Sendable (String, Double?) -> Void

  private struct Job: Sendable {
    var number: RequestNumber
    var work: Work
  }

  private struct State {
    /// Jobs that wait, by machine; a key is there as long as a thread serves the machine.
    var queues: [String: [Job]] = [:]
    var events: [ServiceEvent] = []
  }

  private let state = Mutex(State())
  private let signal: @Sendable () -> Void

  /// - Parameter signal: Called from any thread when there are new events.
  init(signal: @escaping @Sendable () -> Void) {
    self.signal = signal
  }

  func takeEvents() -> [ServiceEvent] {
    state.withLock { state in
      defer { state.events.removeAll() }
      return state.events
    }
  }

  /// Does the work after what was begun before for the same machine.
  func begin(_ number: RequestNumber, for machine: String, _ work: @escaping Work) {
    let isServed = state.withLock { state in
      defer { state.queues[machine, default: []].append(Job(number: number, work: work)) }
      return state.queues[machine] != nil
    }
    guard !isServed else { return }
    do {
      _ = try PosixThread(name: "job") { [self] in serve(machine) }
    } catch {
      let jobs = state.withLock { $0.queues.removeValue(forKey: machine) ?? [] }
      for job in jobs { post(.failed(job.number, error.description)) }
    }
  }

  private func serve(_ machine: String) {
    while let job = next(machine) {
      let number = job.number
      do {
        let outcome = try job.work { [weak self] text, share in
          self?.post(.progress(number, text, share))
        }
        post(.finished(number, outcome))
      } catch {
        post(.failed(number, printable("\(error)")))
      }
    }
  }

  private func next(_ machine: String) -> Job? {
    state.withLock { state in
      guard var jobs = state.queues[machine], !jobs.isEmpty else {
        state.queues[machine] = nil
        return nil
      }
      let job = jobs.removeFirst()
      state.queues[machine] = jobs
      return job
    }
  }

  /// Adds an event from any thread.
  func post(_ event: ServiceEvent) {
    state.withLock { $0.events.append(event) }
    signal()
  }
}
