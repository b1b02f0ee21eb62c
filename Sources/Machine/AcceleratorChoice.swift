import KVM

/// Who will execute the guest, and why, decided once a machine.
struct AcceleratorChoice: Sendable {
  let system: KVMSystem
  /// The kernel emulates the guest's kernel mode, slowly and with gaps.
  let emulatesSupervisorMode: Bool
  /// One line for a person.
  let description: String

  /// - Throws: `MachineError` when what was asked for cannot be had; names what to do.
  init(_ wanted: Accelerator) throws(MachineError) {
    guard wanted != .soft else {
      throw MachineError(
        "the software processor is not part of this version yet: use --accel kvm or auto")
    }
    do {
      system = try KVMSystem()
    } catch {
      throw MachineError("\(error)")
    }
    switch KVMSystem.probe() {
    case .full:
      description = "KVM, with hardware virtualization"
      emulatesSupervisorMode = false
    case .emulatesSupervisorMode(let reason):
      description = "KVM, slow in kernel mode: \(reason)"
      emulatesSupervisorMode = true
    case .unavailable(let reason):
      throw MachineError("KVM cannot run a guest here: \(reason)")
    }
  }
}
