import TestGuests

/// A strict reader of Prometheus' text format 0.0.4, written from its description: whatever is not as it says is an error,
/// also what Prometheus itself would let pass.
struct PrometheusSamples {
  struct Sample: Equatable {
    var name: String
    var labels: [String: String]
    var value: Double
  }
  private(set) var samples: [Sample] = []
  private(set) var kinds: [String: String] = [:]

  init(_ text: String) throws {
    guard text.hasSuffix("\n") else { throw TestGuestError("the last line does not end") }
    var current = ""
    var helped: Set<String> = []
    var seen: Set<String> = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
      func refuse(_ reason: String) -> TestGuestError { TestGuestError("\(reason): \(line)") }
      if line.hasPrefix("#") {
        let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        guard words.count == 4, words[0] == "#", Self.isName(words[2], colons: true) else {
          throw refuse("no HELP or TYPE")
        }
        let name = String(words[2])
        switch words[1] {
        case "HELP":
          guard helped.insert(name).inserted, !words[3].isEmpty else { throw refuse("HELP twice") }
        case "TYPE":
          guard helped.contains(name), kinds[name] == nil,
            ["counter", "gauge", "histogram"].contains(words[3])
          else { throw refuse("TYPE without HELP, twice, or of no kind") }
          kinds[name] = String(words[3])
          current = name
        default: throw refuse("no HELP or TYPE")
        }
        continue
      }
      let sample = try Self.sample(line)
      let kind = kinds[current]
      let suffixes = kind == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
      guard suffixes.contains(where: { current + $0 == sample.name }) else {
        throw refuse("outside of its group")
      }
      guard kind != "counter" || (current.hasSuffix("_total") && sample.value >= 0) else {
        throw refuse("a counter's name ends in _total, and it is not negative")
      }
      guard kind != "gauge" || !current.hasSuffix("_total") else { throw refuse("a gauge's name") }
      let key = "\(sample.name) \(sample.labels.sorted { $0.key < $1.key })"
      guard seen.insert(key).inserted else { throw refuse("twice") }
      samples.append(sample)
    }
    try checkHistograms()
  }

  /// The one sample of a name with these labels among its own.
  func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
    let found = samples.filter { sample in
      sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
    }
    return found.count == 1 ? found[0].value : nil
  }

  private static func sample(_ line: Substring) throws -> Sample {
    var rest = line[...]
    func refuse(_ reason: String) -> TestGuestError { TestGuestError("\(reason): \(line)") }
    let name = rest.prefix { $0 != "{" && $0 != " " }
    guard isName(name, colons: true) else { throw refuse("no name") }
    rest = rest.dropFirst(name.count)
    var labels: [String: String] = [:]
    if rest.first == "{" {
      repeat {
        rest = rest.dropFirst()
        let label = rest.prefix { $0 != "=" }
        rest = rest.dropFirst(label.count)
        guard isName(label, colons: false), !label.hasPrefix("__"), rest.hasPrefix("=\"") else {
          throw refuse("no label")
        }
        rest = rest.dropFirst(2)
        var value = ""
        while let letter = rest.first, letter != "\"" {
          rest = rest.dropFirst()
          guard letter == "\\" else {
            value.append(letter)
            continue
          }
          guard let escaped = rest.popFirst(),
            let meant = ["\\": "\\", "\"": "\"", "n": "\n"][escaped]
          else { throw refuse("no escape") }
          value += meant
        }
        guard rest.popFirst() == "\"", labels.updateValue(value, forKey: String(label)) == nil
        else { throw refuse("a label without an end, or twice") }
      } while rest.first == ","
      guard rest.popFirst() == "}" else { throw refuse("labels without an end") }
    }
    guard rest.popFirst() == " " else { throw refuse("no value") }
    let special = ["+Inf": Double.infinity, "-Inf": -.infinity, "NaN": .nan][String(rest)]
    guard let value = special ?? Double(rest), rest.first?.isLetter != true || special != nil else {
      throw refuse("no value")
    }
    return Sample(name: String(name), labels: labels, value: value)
  }

  private static func isName(_ text: Substring, colons: Bool) -> Bool {
    guard let first = text.unicodeScalars.first, !("0"..."9").contains(first) else { return false }
    return text.unicodeScalars.allSatisfy {
      ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "_"
        || (colons && $0 == ":")
    }
  }

  /// Buckets grow with their ends, the last one has none and is the count.
  private func checkHistograms() throws {
    for name in kinds.filter({ $0.value == "histogram" }).keys {
      var groups: [[String: String]: [(end: Double, value: Double)]] = [:]
      for sample in samples where sample.name == name + "_bucket" {
        var labels = sample.labels
        let end = labels.removeValue(forKey: "le") ?? ""
        guard let bound = end == "+Inf" ? .infinity : Double(end) else {
          throw TestGuestError("\(name): le=\"\(end)\"")
        }
        groups[labels, default: []].append((bound, sample.value))
      }
      guard !groups.isEmpty else { throw TestGuestError("\(name): no buckets") }
      for (labels, buckets) in groups {
        let isOrdered = zip(buckets, buckets.dropFirst()).allSatisfy {
          $0.end < $1.end && $0.value <= $1.value
        }
        guard isOrdered, let last = buckets.last, last.end == .infinity,
          value(name + "_count", labels) == last.value, value(name + "_sum", labels) != nil
        else { throw TestGuestError("\(name) \(labels): \(buckets)") }
      }
    }
  }
}
