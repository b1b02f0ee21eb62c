/// What one boot of the check guest has told.
struct CheckReport: Sendable {
  /// Names of checks that passed, with their stage: `r16.`, `p32.` or `l64.`.
  var passed: Set<String> = []
  /// Lines of checks that failed: name, then what was seen.
  var failed: [String] = []
  /// Lines of parts that the machine does not have.
  var skipped: [String] = []
  /// The guest's first line.
  var greeting = ""
  /// How the machine ended before the guest's end; nil if it did not.
  var brokeOff: String?
  /// Measured by stage.
  var clocks: [String: ClockReadings] = [:]
  private(set) var stage = ""
  private(set) var lines: [String] = []

  /// - Parameters:
  ///   - asked: host time when the last question was answered.
  ///   - now: host time, nanoseconds.
  mutating func add(_ line: String, asked: UInt64, now: UInt64) {
    lines.append(line)
    let words = line.split(separator: " ")
    switch words.first {
    case "ok" where words.count == 2: passed.insert(String(words[1]))
    case "FAIL": failed.append(String(line.dropFirst(5)))
    case "skip": skipped.append(String(line.dropFirst(5)))
    case "begin" where words.count == 2: stage = String(words[1])
    case "check": greeting = line
    default: clocks[stage, default: ClockReadings()].add(words, asked: asked, now: now)
    }
  }
}

/// Readings of clocks beside the time stamp counter, and of that beside the host's clock.
///
/// Every reading lies between two stamps, so every rate is an interval that must contain the true one; a busy host makes
/// intervals wider, not tests wrong.
struct ClockReadings: Sendable {
  struct Span: Sendable {
    var early: ClosedRange<UInt64>
    var late: ClosedRange<UInt64>
    var count: UInt64
    /// 0: 2^64
    var modulus: UInt64
  }

  /// A stamp, and the host's time around it.
  struct Mark: Sendable {
    var stamp: UInt64
    var host: ClosedRange<UInt64>
    var width: UInt64 { host.upperBound - host.lowerBound }
  }

  var spans: [String: Span] = [:]
  var values: [String: UInt64] = [:]
  /// Interrupts counted, the stamps of the first and the last, and the median of the stamps between two.
  var ticks: [String: (count: UInt64, first: UInt64, last: UInt64, median: UInt64)] = [:]
  /// Stamps when the real-time clock's divider was let go, and of its second update.
  var update: (UInt64, UInt64)?
  private var early: Mark?
  private var late: Mark?

  mutating func add(_ words: [Substring], asked: UInt64, now: UInt64) {
    let numbers = words.dropFirst(2).compactMap { UInt64($0, radix: 16) }
    let name = words.count > 1 ? String(words[1]) : ""
    switch (words.first, numbers.count) {
    case ("mark", 1) where asked < now:
      let mark = Mark(stamp: numbers[0], host: asked...now)
      if name == "early" {
        if mark.width < early?.width ?? .max { early = mark }
      } else if mark.width < late?.width ?? .max {
        late = mark
      }
    case ("value", 1): values[name] = numbers[0]
    case ("rate", 7) where numbers[0] <= numbers[1] && numbers[3] <= numbers[4]:
      var count = numbers[5] &- numbers[2]
      if numbers[6] != 0 { count = (numbers[5] &+ numbers[6] &- numbers[2]) % numbers[6] }
      spans[name] = Span(
        early: numbers[0]...numbers[1], late: numbers[3]...numbers[4], count: count,
        modulus: numbers[6])
    case ("ticks", 4): ticks[name] = (numbers[0], numbers[1], numbers[2], numbers[3])
    default:
      if words.first == "update", words.count == 3, let from = UInt64(words[1], radix: 16),
        let to = UInt64(words[2], radix: 16)
      {
        update = (from, to)
      }
    }
  }

  /// Stamps a second, by the host's clock.
  var stampRate: ClosedRange<Double>? {
    guard let early, let late, late.stamp > early.stamp,
      late.host.lowerBound > early.host.upperBound
    else { return nil }
    let stamps = Double(late.stamp - early.stamp) * 1e9
    let longest = Double(late.host.upperBound - early.host.lowerBound)
    let shortest = Double(late.host.lowerBound - early.host.upperBound)
    return stamps / longest...stamps / shortest
  }

  /// Counts a second of a clock.
  ///
  /// - Parameter nominal: tells how often a short counter went around.
  func rate(of name: String, nominal: Double) -> ClosedRange<Double>? {
    guard let span = spans[name], let stampRate, span.late.lowerBound > span.early.upperBound
    else { return nil }
    let longest = Double(span.late.upperBound - span.early.lowerBound) / stampRate.lowerBound
    let shortest = Double(span.late.lowerBound - span.early.upperBound) / stampRate.upperBound
    var count = Double(span.count)
    if span.modulus != 0 {
      let expected = nominal * (longest + shortest) / 2
      let turns = ((expected - count) / Double(span.modulus)).rounded()
      count += max(0, turns) * Double(span.modulus)
    }
    return count / longest...count / shortest
  }

  /// Seconds between two stamps.
  func seconds(_ from: UInt64, _ to: UInt64) -> Double? {
    guard let stampRate, to > from else { return nil }
    return Double(to - from) * 2 / (stampRate.lowerBound + stampRate.upperBound)
  }
}
