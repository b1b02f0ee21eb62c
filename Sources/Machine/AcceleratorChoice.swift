import CLinux
import GuestMemory
import KVM
import Processor
import SoftProcessor

/// Who will execute the guest, and why, decided once a machine.
struct AcceleratorChoice: Sendable {
  enum Engine: Sendable {
    /// - emulatesSupervisorMode: the kernel emulates the guest's kernel mode, slowly and with gaps.
    case kernel(KVMSystem, emulatesSupervisorMode: Bool)
    case software
  }

  let engine: Engine
  /// One line for a person. The first word is the accelerator's name.
  let description: String

  /// Whether stock operating systems run well on it.
  var runsOperatingSystems: Bool {
    switch engine {
    case .kernel(_, let emulatesSupervisorMode): !emulatesSupervisorMode
    case .software: true
    }
  }

  /// The host's processor executes all of the guest.
  var isHardware: Bool {
    if case .kernel(_, false) = engine { return true }
    return false
  }

  var isSoftware: Bool {
    if case .software = engine { return true }
    return false
  }

  /// - Throws: `MachineError` when what was asked for cannot be had; names what to do.
  init(_ wanted: Accelerator) throws(MachineError) {
    if wanted == .soft {
      engine = .software
      description = "soft, as asked for: the processor in software"
      return
    }
    do {
      let system = try KVMSystem()
      switch KVMSystem.probe() {
      case .full:
        engine = .kernel(system, emulatesSupervisorMode: false)
        description = "KVM, with hardware virtualization"
      case .emulatesSupervisorMode(let reason) where wanted == .kvm:
        engine = .kernel(system, emulatesSupervisorMode: true)
        description = "KVM, slow in kernel mode: \(reason)"
      case .emulatesSupervisorMode(let reason):
        // A kernel boots at the speed of its kernel mode: two million instructions a second there, hundreds of millions here.
        engine = .software
        description =
          "soft, faster here than KVM, which emulates the guest's kernel mode: \(reason)"
      case .unavailable(let reason):
        guard wanted == .auto else { throw MachineError("KVM cannot run a guest here: \(reason)") }
        engine = .software
        description = "soft, because KVM cannot run a guest here: \(reason)"
      }
    } catch let error as MachineError {
      throw error
    } catch {
      guard wanted == .auto else { throw MachineError("\(error)") }
      engine = .software
      description = "soft, because there is no KVM: \(error)"
    }
  }

  /// The machine's processors and memory, before anything is in it.
  func makeVirtualization(
    _ configuration: MachineConfiguration, memory: GuestMemory
  ) throws(MachineError) -> any Virtualization {
    switch engine {
    case .kernel(let system, let emulatesSupervisorMode):
      try KernelVirtualization(
        configuration, system: system, emulatesSupervisorMode: emulatesSupervisorMode,
        memory: memory)
    case .software: try SoftVirtualization(configuration, memory: memory)
    }
  }

  /// Whether the host can give what the configuration asks of its processors.
  ///
  /// - Returns: what a person should know though it works.
  func check(_ configuration: MachineConfiguration) throws(MachineError) -> [String] {
    guard case .kernel(let system, let emulatesSupervisorMode) = engine else {
      return try Self.checkSoftware(configuration)
    }
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

  private static func checkSoftware(
    _ configuration: MachineConfiguration
  ) throws(MachineError) -> [String] {
    let missing = SoftVirtualization.policy(configuration)
      .missingFeatures(supported: SoftProcessorFeatures.supportedLeaves)
    guard missing.isEmpty else {
      throw MachineError(
        "\(configuration.name): the software processor is no \(configuration.processorModel.rawValue), it lacks \(missing.joined(separator: ", ")): use --cpu host or a lower level"
      )
    }
    var warnings: [String] = []
    if configuration.allowsNesting {
      warnings.append("the software processor has no virtualization to show to the guest")
    }
    return warnings
  }
}
