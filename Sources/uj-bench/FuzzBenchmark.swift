import ArgumentParser
import CLinux
import DeviceFuzzing
import Platform
import Synchronization

/// `uj-bench fuzz`: random accesses to every device; ends with status 1 when something broke, hung or grew.
struct FuzzBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fuzz",
    abstract: "Random port, memory, PCI configuration and virtqueue accesses to all devices.")

  @Option(help: "Accesses a seed.") var count = 10_000_000
  @Option(help: "Only this seed; by default a fixed one and a fresh one.") var seed: UInt64?
  @Option(help: "Seconds without progress that count as a hang.") var patience = 30
  @Flag(help: "Mostly network adapters with several queues, streams that end anyhow, and a switch.")
  var networks = false
  @Option(help: "Fresh seeds until so many minutes have passed.") var minutes: Int?

  private static let fixedSeed: UInt64 = 0x5EED_0003

  func validate() throws {
    guard count > 0, patience > 0 else { throw ValidationError("give numbers above 0") }
  }

  func run() throws {
    let end = minutes.map { MonotonicClock.now + UInt64($0) * 60_000_000_000 }
    var seeds = seed.map { [$0] } ?? [Self.fixedSeed, .random(in: 0 ... .max)]
    while let seed = seeds.first {
      seeds.removeFirst()
      if seeds.isEmpty, let end, MonotonicClock.now < end {
        seeds.append(.random(in: 0 ... .max))
      }
      if networks { try fuzzSwitch(seed) }
      print("seed \(seed): \(count) accesses")
      let progress = FuzzProgress()
      let isDone = HangWatch(progress, seed: seed, patience: patience)
      let streams = networks ? try StreamFuzzer(seed: seed) : nil
      defer { streams?.close() }
      let fuzzer = try DeviceFuzzer(
        seed: seed, progress: progress, companions: streams.map { ($0.server, $0.client) })
      if networks { fuzzer.focus = .networks }
      var report: FuzzReport?
      let time = seconds { report = fuzzer.run(count: count) }
      isDone.stop()
      guard let report else { continue }
      print("  \(report)")
      if let streams { try check(streams, seed) }
      print(
        "  \(decimal(time, 1)) s, \(decimal(1e9 * time / Double(report.accesses), 0)) ns an access")
      guard report.broken.isEmpty else {
        throw BenchmarkError("seed \(seed): devices broken after reset: \(report.broken)")
      }
      guard report.growth < DeviceFuzzer.growthLimit else {
        throw BenchmarkError("seed \(seed): the process grew by \(report.growth >> 20) MiB")
      }
    }
  }
}

extension FuzzBenchmark {
  private func check(_ streams: StreamFuzzer, _ seed: UInt64) throws {
    print(
      "  streams: \(streams.connections.load(ordering: .relaxed)) connections, \(streams.violations) ended for nonsense, \(streams.framesLost) frames lost"
    )
    guard streams.isAlive() else {
      throw BenchmarkError("seed \(seed): a stream takes no peer any more")
    }
  }

  private func fuzzSwitch(_ seed: UInt64) throws {
    var fuzzer = try SwitchFuzzer(seed: seed)
    defer { fuzzer.close() }
    let before = ProcessMemory.residentBytes()
    fuzzer.run(count: count / 50)
    let growth = (ProcessMemory.residentBytes() - before) >> 10
    print(
      "  switch: \(fuzzer.packets) packets, \(fuzzer.delivered) delivered, growth \(growth) KiB")
    guard fuzzer.isAlive() else {
      throw BenchmarkError("seed \(seed): the switch does not pass frames on any more")
    }
    guard growth < 32 << 10 else {
      throw BenchmarkError("seed \(seed): the switch grew by \(growth) KiB")
    }
  }
}

/// Ends the process when the fuzzer stands still: a device that loops holds its thread, so nobody else could tell.
private final class HangWatch: Sendable {
  private let isStopped = Monitor(false)

  init(_ progress: FuzzProgress, seed: UInt64, patience: Int) {
    let isStopped = isStopped
    _ = try? PosixThread(name: "hang-watch") {
      var last = -1
      while true {
        let limit = MonotonicClock.now + UInt64(patience) * 1_000_000_000
        let stopped: Bool? = isStopped.wait(until: limit) { $0 ? true : nil }
        if stopped == true { return }
        let now = progress.accesses.load(ordering: .relaxed)
        if now == last {
          print("seed \(seed): hangs after \(now) accesses")
          exit(1)
        }
        last = now
      }
    }
  }

  func stop() { isStopped.update { $0 = true } }
}
