import Devices
import GuestMemory
import KVM
import Machine
import Platform
import TestGuests

/// A machine of a test's, and the talk with its guest over COM1.
final class GuestConversation: Sendable {
  private struct Seen {
    var output: [UInt8] = []
    var ends: [MachineEnd] = []
    var states: [MachineRunState] = []
  }

  private final class Recorder: CharacterBackend {
    let seen = Monitor(Seen())
    func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
      seen.update { $0.output += bytes }
    }
    func guestCanReceive() {}
  }

  let machine: Machine
  private let recorder: Recorder

  /// Why no guest can run here; nil if one can.
  static let missing: String? = {
    if let tool = TestGuest.missingTool { return tool }
    do {
      _ = try KVMSystem()
      return nil
    } catch {
      return "\(error)"
    }
  }()

  init(_ configuration: MachineConfiguration) throws {
    let recorder = Recorder()
    self.recorder = recorder
    machine = try Machine(configuration, serialBackends: [recorder]) { event in
      switch event {
      case .ended(let end): recorder.seen.update { $0.ends.append(end) }
      case .stateChanged(let state): recorder.seen.update { $0.states.append(state) }
      case .message, .fault: break
      }
    }
    try machine.start()
  }

  deinit { machine.stop() }

  var output: String { recorder.seen.read { String(decoding: $0.output, as: UTF8.self) } }
  var states: [MachineRunState] { recorder.seen.read { $0.states } }

  /// Types to the guest.
  func send(_ text: String) {
    var bytes = Array(text.utf8)
    let deadline = MonotonicClock.now + 10_000_000_000
    while !bytes.isEmpty && MonotonicClock.now < deadline {
      let taken = bytes.withUnsafeBytes { machine.serialDevices.first?.offer($0) ?? 0 }
      bytes.removeFirst(taken)
    }
  }

  /// Waits until the guest has printed `text` after what earlier waits saw.
  @discardableResult
  func expect(_ text: String, seconds: Double = 20) throws -> String {
    let wanted = Array(text.utf8)
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    let found = recorder.seen.wait(until: deadline) { seen -> String? in
      guard let range = Self.find(wanted, in: seen.output) else { return nil }
      let before = String(decoding: seen.output[..<range.upperBound], as: UTF8.self)
      seen.output.removeFirst(range.upperBound)
      return before
    }
    guard let found else {
      throw TestGuestError(
        "the guest did not print '\(text)' within \(seconds) s, but: \(output); \(machine.runState); \(recorder.seen.read { $0.ends })"
      )
    }
    return found
  }

  /// Waits until the run has ended, and says how.
  func end(seconds: Double = 20) throws -> MachineEnd {
    let deadline = MonotonicClock.now + UInt64(seconds * 1e9)
    guard let end = recorder.seen.wait(until: deadline, { $0.ends.first }) else {
      throw TestGuestError("the machine did not end within \(seconds) s; it printed \(output)")
    }
    return end
  }

  private static func find(_ wanted: [UInt8], in bytes: [UInt8]) -> Range<Int>? {
    guard wanted.count <= bytes.count else { return nil }
    for start in 0...(bytes.count - wanted.count)
    where bytes[start..<(start + wanted.count)].elementsEqual(wanted) {
      return start..<(start + wanted.count)
    }
    return nil
  }
}

/// Lets other threads work for a moment, in loops that look at something again and again.
func pauseThread() {
  let moment = Monitor(())
  _ = moment.wait(until: MonotonicClock.now + 10_000_000) { _ -> Bool? in nil }
}
