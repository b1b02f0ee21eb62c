// The way from a device to its driver: interrupts, configuration changes, and the report that the driver broke a rule.

import Synchronization

/// Given to a device by its transport. Any thread may call it, with any lock of the device held: it calls nothing but
/// the interrupt chips.
public final class VirtioLink: Sendable {
  private struct Guarded {
    /// Bit 0: a queue was used; bit 1: configuration changed.
    var isr: UInt8 = 0
    var configurationVector = MSIXTable.none
    var queueVectors: [UInt16]
    var generation: UInt8 = 0
    var driverIsReady = false
    var violation: VirtioViolation?
  }

  private let table: MSIXTable
  private let function: PCIFunction
  private let guarded: Mutex<Guarded>

  init(queueCount: Int, table: MSIXTable, function: PCIFunction) {
    self.table = table
    self.function = function
    guarded = Mutex(Guarded(queueVectors: Array(repeating: MSIXTable.none, count: queueCount)))
  }

  // MARK: For devices

  /// Tells the driver that queue `index` has used buffers.
  public func signal(queue index: Int) {
    guarded.withLock { state in
      guard state.violation == nil, index >= 0, index < state.queueVectors.count else { return }
      send(vector: state.queueVectors[index], cause: 1, &state)
    }
  }

  /// Tells the driver that the device's configuration changed.
  public func configurationDidChange() {
    guarded.withLock { state in
      state.generation &+= 1
      if state.driverIsReady { send(vector: state.configurationVector, cause: 2, &state) }
    }
  }

  /// The driver broke the rules: sets DEVICE_NEEDS_RESET (2.1.1). The device must stop touching its queues.
  public func fail(_ violation: VirtioViolation) {
    guarded.withLock { state in
      guard state.violation == nil else { return }
      state.violation = violation
      if state.driverIsReady { send(vector: state.configurationVector, cause: 2, &state) }
    }
  }

  private func send(vector: UInt16, cause: UInt8, _ state: inout Guarded) {
    if table.isEnabled {
      if vector != MSIXTable.none { table.raise(Int(vector)) }
    } else {
      state.isr |= cause
      function.setInterrupt(true)
    }
  }

  // MARK: For the transport

  /// What the driver did wrong, until reset.
  public var violation: VirtioViolation? { guarded.withLock { $0.violation } }

  var generation: UInt8 { guarded.withLock { $0.generation } }

  /// Reads the interrupt status, which clears it and lowers the pin (4.1.4.5).
  func takeInterruptStatus() -> UInt8 {
    guarded.withLock { state in
      let value = state.isr
      if value != 0 {
        state.isr = 0
        function.setInterrupt(false)
      }
      return value
    }
  }

  var configurationVector: UInt16 {
    get { guarded.withLock { $0.configurationVector } }
    set { guarded.withLock { $0.configurationVector = legal(newValue) } }
  }

  func vector(ofQueue index: Int) -> UInt16 {
    guarded.withLock { index < $0.queueVectors.count ? $0.queueVectors[index] : MSIXTable.none }
  }

  func setVector(_ vector: UInt16, ofQueue index: Int) {
    guarded.withLock { state in
      if index < state.queueVectors.count { state.queueVectors[index] = legal(vector) }
    }
  }

  /// A vector that does not exist reads back as none, so that the driver sees the failure (4.1.5.1.2.1).
  private func legal(_ vector: UInt16) -> UInt16 {
    Int(vector) < table.count ? vector : MSIXTable.none
  }

  func setDriverReady(_ ready: Bool) { guarded.withLock { $0.driverIsReady = ready } }

  func reset() {
    guarded.withLock { state in
      state.isr = 0
      state.configurationVector = MSIXTable.none
      for index in state.queueVectors.indices { state.queueVectors[index] = MSIXTable.none }
      state.driverIsReady = false
      state.violation = nil
      function.setInterrupt(false)
    }
  }
}

extension VirtioLink: Snapshottable {
  public struct State: Codable, Sendable {
    var isr: UInt8
    var configurationVector: UInt16
    var queueVectors: [UInt16]
    var generation: UInt8
    var needsReset: Bool
  }

  public static let stateVersion = 1

  public func saveState() -> State {
    guarded.withLock { state in
      State(
        isr: state.isr, configurationVector: state.configurationVector,
        queueVectors: state.queueVectors, generation: state.generation,
        needsReset: state.violation != nil)
    }
  }

  public func restoreState(_ saved: State) {
    guarded.withLock { state in
      state.isr = saved.isr & 3
      state.configurationVector = legal(saved.configurationVector)
      for index in state.queueVectors.indices where index < saved.queueVectors.count {
        state.queueVectors[index] = legal(saved.queueVectors[index])
      }
      state.generation = saved.generation
      state.violation = saved.needsReset ? .request : nil
      function.setInterrupt(state.isr != 0)
    }
  }
}
