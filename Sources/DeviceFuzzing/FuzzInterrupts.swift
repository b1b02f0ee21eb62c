import Devices
import Processor
import Synchronization

/// The processors as interrupt chips see them: takes every message and remembers vectors whose end is owed.
final class FuzzInterrupts: Sendable {
  private struct State {
    /// Vectors that a local APIC would have in service.
    var isPending = [Bool](repeating: false, count: 256)
    var messages: UInt64 = 0
  }
  private let state = Mutex(State())

  /// False where the vector is pending already, as a local APIC answers.
  func deliver(_ message: MessageInterrupt) -> Bool {
    state.withLock { state in
      state.messages &+= 1
      let vector = Int(message.data & 0xFF)
      defer { state.isPending[vector] = true }
      return !state.isPending[vector]
    }
  }

  /// The vector that a processor ends next, searched from a random one.
  func end(from start: UInt8) -> VectorNumber? {
    state.withLock { state in
      for step in 0..<UInt8.max {
        let vector = start &+ step
        guard state.isPending[Int(vector)] else { continue }
        state.isPending[Int(vector)] = false
        return VectorNumber(vector)
      }
      return nil
    }
  }

  var messageCount: UInt64 { state.withLock { $0.messages } }
}
