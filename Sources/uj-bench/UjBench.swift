import ArgumentParser

@main
struct UjBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "uj-bench", abstract: "Measures Underjack beside its peers, in the same run.",
    subcommands: [
      BootBenchmark.self, IdleBenchmark.self, DiskBenchmark.self, FuzzBenchmark.self,
      ExitBenchmark.self, SoftBenchmark.self, CloneBenchmark.self, ConsoleBenchmark.self,
      UIBenchmark.self, NetworkBenchmark.self, StateBenchmark.self,
      StateForgery.self, SoakBenchmark.self,
    ])
}
