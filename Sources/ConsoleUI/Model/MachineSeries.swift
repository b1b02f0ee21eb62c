/// The last values of something that is measured once a second.
package struct SampleSeries: Sendable {
  /// Four minutes at one a second.
  static let limit = 240

  private var samples: [Double] = []
  /// Where the oldest sample is once the room is used up.
  private var start = 0

  package init() {}

  /// Oldest first.
  package var values: [Double] {
    start == 0 ? samples : Array(samples[start...] + samples[..<start])
  }

  package var last: Double? {
    samples.isEmpty ? nil : samples[(start + samples.count - 1) % samples.count]
  }

  package var largest: Double { samples.max() ?? 0 }

  package mutating func add(_ value: Double) {
    if samples.count < Self.limit {
      samples.append(value)
    } else {
      samples[start] = value
      start = (start + 1) % Self.limit
    }
  }

  /// The values as shares of `whole`, or of the largest of them.
  package func shares(of whole: Double? = nil) -> [Double] {
    let unit = whole ?? largest
    guard unit > 0 else { return values.map { _ in 0 } }
    return values.map { min(1, max(0, $0 / unit)) }
  }
}

/// What a machine did in the last minutes.
package struct MachineSeries: Sendable {
  /// Share of all processors, 0 to 1.
  package private(set) var processor = SampleSeries()
  /// Share of each processor.
  package private(set) var each: [SampleSeries] = []
  /// Bytes a second.
  package private(set) var diskRead = SampleSeries()
  package private(set) var diskWritten = SampleSeries()
  /// Exits of the processors from the guest a second, all kinds.
  package private(set) var exits = SampleSeries()
  /// Instructions completed in software a second, by kind.
  package private(set) var completionRates: [String: Double] = [:]

  private var time: UInt64?
  private var counters = MachineCounters()

  package init() {}

  mutating func add(_ machine: MachineSummary, now: UInt64) {
    if let use = machine.processorUse {
      processor.add(min(1, max(0, use / Double(max(1, machine.processors)))))
    }
    let shares = machine.processorShares.prefix(64)
    while each.count < shares.count { each.append(SampleSeries()) }
    for (index, share) in shares.enumerated() { each[index].add(min(1, max(0, share))) }
    let new = machine.counters
    defer { (time, counters) = (now, new) }
    guard let time, now > time else { return }
    let seconds = Double(now - time) / 1e9
    // A counter that went back belongs to another run.
    func rate(_ new: UInt64, _ old: UInt64) -> Double {
      new < old ? 0 : Double(new - old) / seconds
    }
    diskRead.add(rate(new.diskRead, counters.diskRead))
    diskWritten.add(rate(new.diskWritten, counters.diskWritten))
    exits.add(rate(new.exits, counters.exits))
    completionRates = [:]
    for (reason, count) in new.completedInstructions.prefix(32) {
      completionRates[reason] = rate(count, counters.completedInstructions[reason] ?? 0)
    }
  }

  /// Bytes read and written a second.
  package var diskRate: Double? {
    guard let read = diskRead.last, let written = diskWritten.last else { return nil }
    return read + written
  }
}
