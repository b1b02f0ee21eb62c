import KVM

/// What this host offers to guests, for people and for choices made before a machine is built.
public struct AcceleratorReport: Sendable {
  /// Which accelerator `auto` takes and why, in one line.
  public let description: String
  /// Whether stock operating systems run on it.
  public let runsOperatingSystems: Bool

  /// Looks at the host; a few milliseconds.
  ///
  /// - Throws: `MachineError` when no guest can run here at all; says what to do.
  public init() throws(MachineError) {
    let choice = try AcceleratorChoice(.auto)
    description = choice.description
    runsOperatingSystems = choice.runsOperatingSystems
  }
}
