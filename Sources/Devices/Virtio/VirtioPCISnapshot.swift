// Saving and restoring a virtio function. Its configuration space is in the state of the `PCIHost`, which is restored
// first; guest memory too must be back before, because the device reads its rings at once when it resumes.

import Synchronization

extension VirtioPCITransport: Snapshottable {
  public struct State: Codable, Sendable {
    var registers: VirtioPCIRegisters
    var positions: [VirtioQueuePosition?]
    var link: VirtioLink.State
    var vectors: MSIXTable.State
  }

  public static let stateVersion = 1

  /// Finishes requests that have begun and takes no more until `resume`.
  public func pause() { device.pause() }

  public func resume() { device.resume() }

  /// Only while paused.
  public func saveState() -> State {
    guarded.withLock { state in
      State(
        registers: state.registers, positions: device.queuePositions, link: link.saveState(),
        vectors: vectors.saveState())
    }
  }

  public func check(_ saved: State) throws(DeviceStateError) {
    try vectors.check(saved.vectors)
    let count = queueSizes.count
    try DeviceStateError.require(
      saved.registers.queues.count == count && saved.positions.count <= count
        && saved.link.queueVectors.count == count,
      "it has \(saved.registers.queues.count) queues and not \(count)")
    // A driver may write any size: then the device does not become active.
    for (queue, size) in zip(saved.registers.queues, queueSizes)
    where saved.registers.isActive && queue.isEnabled {
      try DeviceStateError.require(
        (1...max(size, 1)).contains(queue.size),
        "a queue has \(queue.size) entries, and \(size) can be")
    }
  }

  /// Only while paused; the device's own state after this.
  public func restoreState(_ saved: State) {
    vectors.restoreState(saved.vectors)
    guarded.withLock { state in
      resetDevice(&state)
      guard saved.registers.queues.count == queueSizes.count else {
        return link.fail(.request)
      }
      state.registers = saved.registers
      state.registers.isActive = false
      link.restoreState(saved.link)
      let isReady = saved.registers.status & VirtioStatus.driverReady != 0
      link.setDriverReady(isReady)
      if isReady && saved.registers.isActive { activate(&state, positions: saved.positions) }
    }
  }
}
