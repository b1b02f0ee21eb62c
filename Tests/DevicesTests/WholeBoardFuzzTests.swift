import DeviceFuzzing
import Devices
import Testing

/// The whole set of devices under a guest gone mad; `uj-bench fuzz` is the long one.
@Suite(.serialized) struct WholeBoardFuzzTests {
  @Test(.timeLimit(.minutes(3)), arguments: [0x5EED_0003, UInt64.random(in: 0 ... .max)])
  func nobodyTrapsHangsOrGrows(_ seed: UInt64) throws {
    print("device fuzz seed \(seed)")
    let report = try DeviceFuzzer(seed: seed).run(count: 300_000)
    print(report)
    #expect(report.accesses >= 300_000)
    #expect(report.growth < DeviceFuzzer.growthLimit, "\(report)")
    #expect(report.broken.isEmpty, "\(report)")
    // The fuzz reaches what it is for.
    #expect(report.errorBits > 20, "\(report)")
    #expect(report.completions > 1000, "\(report)")
    #expect(report.messages > 100, "\(report)")
    #expect(report.streams > 0, "\(report)")
    #expect(report.networkPairs == 4, "\(report)")
  }
}
