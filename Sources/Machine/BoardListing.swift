// What `uj run --dry-run` prints: the board of a configuration, without starting it.
import GuestMemory

extension Machine {
  /// The board that a configuration makes, a line a fact. Nothing is opened or started.
  ///
  /// - Throws: `MachineError` as `init` does for what can be told without opening files.
  public static func listing(
    _ configuration: MachineConfiguration, serialPortCount: Int
  ) throws(MachineError) -> [String] {
    let accelerator = try AcceleratorChoice(configuration.accelerator)
    var lines = ["machine \(configuration.name)", "accelerator: \(accelerator.description)"]
    lines.append("processors: \(configuration.processorCount)")
    lines.append("memory: \(configuration.memorySize >> 20) MiB")
    for index in 0..<serialPortCount {
      lines.append("serial port COM\(index + 1)")
    }
    return lines
  }
}
