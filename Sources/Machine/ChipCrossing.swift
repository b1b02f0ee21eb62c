import Devices
import KVM
import Processor

/// What of a saved state goes from the kernel's interrupt chips into ours, or from ours into the kernel's, where it was
/// saved with the others.
struct ChipCrossing {
  /// What is the same for both: a fact that may differ.
  static let subject = "the interrupt chip"

  /// The kernel's, as they were saved; nil where ours were.
  let saved: InterruptChipState?

  // MARK: The kernel's into ours

  func restore(
    _ timer: ChipDevice<ProgrammableIntervalTimer>, _ port: SystemControlPortB,
    now: MachineTime
  ) throws(DeviceStateError) {
    guard let saved else { return }
    timer.restoreState(
      try ProgrammableIntervalTimer(kernel: saved.timer, read: saved.timerRead, now: now))
    var held = port.saveState()
    held.control = ProgrammableIntervalTimer.kernelPort(saved.timer)
    port.restoreState(held)
  }

  /// After the devices.
  func restore(_ router: InterruptRouter) throws(DeviceStateError) {
    guard let saved else { return }
    router.restoreState(try .init(kernel: saved.chips, present: router.saveState()))
  }

  // MARK: Ours into the kernel's

  /// - Parameter port: what port 0x61 holds.
  static func kernelChips(
    _ router: InterruptRouter.State, _ timer: ProgrammableIntervalTimer,
    port: SystemControlPortB.State, isReplaced: Bool, clock: UInt64
  ) -> InterruptChipState {
    var flags: UInt32 = 0
    if isReplaced { flags |= ProgrammableIntervalTimer.KernelFlag.replaced }
    if port.control & SystemControlPortB.Bit.speakerData != 0 {
      flags |= ProgrammableIntervalTimer.KernelFlag.speakerData
    }
    var state = InterruptChipState()
    state.chips = router.kernelChips
    state.timer = timer.kernelBytes(flags: flags)
    state.clock = clock
    return state
  }
}
