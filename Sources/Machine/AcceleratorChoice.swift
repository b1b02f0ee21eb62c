import CLinux
import KVM
import Processor

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

  /// Whether the host can give what the configuration asks of its processors.
  ///
  /// - Returns: what a person should know though it works.
  func check(_ configuration: MachineConfiguration) throws(MachineError) -> [String] {
    let count = configuration.processorCount
    guard count <= system.maximumProcessorCount else {
      throw MachineError(
        "\(configuration.name): \(count) processors, but this host's KVM gives a machine \(system.maximumProcessorCount) at most"
      )
    }
    if configuration.interruptChip == .split && system.capability(KVM_CAP_SPLIT_IRQCHIP) == 0 {
      throw MachineError(
        "\(configuration.name): this host's KVM has no split interrupt chip: use --irqchip kernel")
    }
    let policy = CPUIDPolicy(
      topology: configuration.topology, model: configuration.processorModel,
      hidesUnemulatedInstructions: emulatesSupervisorMode)
    let missing = policy.missingFeatures(supported: system.supportedLeaves)
    guard missing.isEmpty else {
      throw MachineError(
        "\(configuration.name): this host is no \(configuration.processorModel.rawValue), it lacks \(missing.joined(separator: ", ")): use --cpu host or a lower level"
      )
    }
    var warnings: [String] = []
    let recommended = system.capability(KVM_CAP_NR_VCPUS)
    if recommended > 0 && count > recommended {
      warnings.append(
        "\(count) processors are more than the \(recommended) that this host recommends for one machine"
      )
    }
    if configuration.allowsNesting && system.capability(KVM_CAP_NESTED_STATE) == 0 {
      warnings.append("this host has no nested virtualization to show to the guest")
    }
    if emulatesSupervisorMode && [.v2, .v3].contains(configuration.processorModel) {
      warnings.append(
        "\(configuration.processorModel.rawValue) comes without CMPXCHG16B and XSAVE, which this host's kernel cannot emulate"
      )
    }
    return warnings
  }
}
