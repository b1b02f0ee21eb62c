// Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats): one group a metric, HELP and
// TYPE ahead of its samples, label values with \\, \" and \n escaped.

/// Collects samples and writes them out, those of a metric together, whatever order they came in.
package struct PrometheusText {
  package enum Kind: String, Sendable { case counter, gauge, histogram }

  package typealias Labels = [(name: String, value: String)]

  private struct Family {
    var name: String
    var help: String
    var kind: Kind
    var lines: [String] = []
  }
  private var families: [Family] = []
  private var places: [String: Int] = [:]

  package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  package init() {}

  package mutating func add(
    _ name: String, _ kind: Kind, _ help: String, _ labels: Labels, _ value: UInt64
  ) {
    let place = family(name, kind, help)
    families[place].lines.append(Self.line(name, labels, "\(value)"))
  }

  package mutating func add(
    _ name: String, _ kind: Kind, _ help: String, _ labels: Labels, _ value: Double
  ) {
    let place = family(name, kind, help)
    families[place].lines.append(Self.line(name, labels, Self.text(value)))
  }

  /// - Parameters:
  ///   - buckets: how many samples were at most each bound and more than the one before; one more for the rest.
  ///   - sum: of all samples.
  package mutating func addHistogram(
    _ name: String, _ help: String, _ labels: Labels, bounds: [Double], buckets: [UInt64],
    sum: Double
  ) {
    let place = family(name, .histogram, help)
    var total: UInt64 = 0
    let ends = bounds.map(Self.text) + ["+Inf"]
    for (end, bucket) in zip(ends, buckets) {
      total &+= bucket
      families[place].lines.append(
        Self.line(name + "_bucket", labels + [(name: "le", value: end)], "\(total)"))
    }
    families[place].lines.append(Self.line(name + "_sum", labels, Self.text(sum)))
    families[place].lines.append(Self.line(name + "_count", labels, "\(total)"))
  }

  private mutating func family(_ name: String, _ kind: Kind, _ help: String) -> Int {
    if let place = places[name] { return place }
    places[name] = families.count
    families.append(Family(name: name, help: help, kind: kind))
    return families.count - 1
  }

  package var text: String {
    var text = ""
    for family in families {
      text += "# HELP \(family.name) \(Self.escaped(family.help, quotes: false))\n"
      text += "# TYPE \(family.name) \(family.kind.rawValue)\n"
      for line in family.lines { text += line + "\n" }
    }
    return text
  }

  private static func line(_ name: String, _ labels: Labels, _ value: String) -> String {
    guard !labels.isEmpty else { return "\(name) \(value)" }
    let list = labels.map { "\($0.name)=\"\(escaped($0.value, quotes: true))\"" }
    return "\(name){\(list.joined(separator: ","))} \(value)"
  }

  private static func text(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return "\(value)"
  }

  private static func escaped(_ text: String, quotes: Bool) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"" where quotes: result += "\\\""
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
