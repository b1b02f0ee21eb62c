import ArgumentParser
import CLinux
import KVM
import Platform

/// `uj-bench exits`: what our way from KVM_RUN to a device and back adds to the bare ioctl loop.
struct ExitBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exits",
    abstract: "Port and MMIO exits and ioeventfd notifies of a whole machine, beside bare KVM_RUN.")

  @Option(help: "Rounds; the median counts.") var rounds = 101
  @Option(help: "Operations a round.") var count: UInt32 = 500

  func validate() throws {
    guard rounds > 0, count > 0 else { throw ValidationError("give numbers above 0") }
  }

  func run() throws {
    print("nanoseconds an operation, median (minimum) of \(rounds) interleaved rounds of \(count)")
    print(
      column("", 18, right: false) + column("bare", 18) + column("machine", 18)
        + column("ratio", 8) + column("goal", 7))
    for operation in ExitOperation.allCases {
      let (bare, ours) = try measure(operation)
      // Load on the host comes and goes: each round is compared with its neighbour, not with the whole.
      let ratios = Measurement(
        name: "ratio", values: zip(ours.values, bare.values).map { $0 / $1 })
      let ratio = ratios.median
      print(
        column(operation.rawValue, 18, right: false) + column(text(bare), 18)
          + column(text(ours), 18) + column(decimal(ratio), 8)
          + column(decimal(operation.goal), 7) + (ratio <= operation.goal ? "" : "  above"))
    }
  }

  private func text(_ measurement: Measurement) -> String {
    "\(decimal(measurement.median, 0)) (\(decimal(measurement.minimum, 0)))"
  }

  /// A, B, A, B: load on the host meets both alike.
  private func measure(_ operation: ExitOperation) throws -> (Measurement, Measurement) {
    let machine = try ExitMachine(operation, count: count)
    let bare = try BareExitLoop()
    var program = ExitProgram()
    program.loop(operation, count: count, address: BareExitLoop.emptyAddress)
    program.output(0, to: BareExitLoop.endPort, width: 1)
    let consumer = try KickConsumer()
    if operation == .notify {
      try bare.attachDoorbell(port: ExitProgram.doorbellPort, value: 0, to: consumer.notifier)
    }
    var results = (Measurement(name: "bare"), Measurement(name: "machine"))
    // One round of each to warm up.
    for round in 0...rounds {
      let (nanoseconds, exits) = try bare.time(program.bytes)
      guard exits == (operation == .notify ? 0 : Int(count)) else {
        throw BenchmarkError("\(exits) exits came instead of \(count)")
      }
      let ours = try machine.time()
      if round == 0 { continue }
      results.0.values.append(Double(nanoseconds) / Double(count))
      results.1.values.append(Double(ours) / Double(count))
    }
    return results
  }
}
