import Platform

/// A list of repeated measurements of one thing, in one unit.
struct Measurement {
  var name: String
  var values: [Double] = []

  var median: Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return .nan }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }

  var minimum: Double { values.min() ?? .nan }
}

/// A number with a fixed count of decimals, without Foundation.
func decimal(_ value: Double, _ places: Int = 2) -> String {
  guard value.isFinite else { return "-" }
  var scale = 1.0
  for _ in 0..<places { scale *= 10 }
  let scaled = (abs(value) * scale).rounded()
  let whole = Int(scaled / scale)
  let sign = value < 0 ? "-" : ""
  guard places > 0 else { return "\(sign)\(whole)" }
  let fraction = String(Int(scaled - Double(whole) * scale))
  return "\(sign)\(whole)." + String(repeating: "0", count: max(0, places - fraction.count))
    + fraction
}

/// Text in a column of the given width, to the right if it is a number.
func column(_ text: String, _ width: Int, right: Bool = true) -> String {
  let padding = String(repeating: " ", count: max(0, width - text.count))
  return right ? padding + text : text + padding
}

/// Seconds that `body` takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = MonotonicClock.now
  try body()
  return Double(MonotonicClock.now - start) / 1e9
}
