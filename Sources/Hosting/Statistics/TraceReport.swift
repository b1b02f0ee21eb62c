import Machine

/// Exits of a machine by kind and place, as the control protocol carries them. What a host says is cumulative; the
/// difference of two is what happened between them.
package struct TraceReport: Sendable, Equatable {
  package private(set) var rows: [ExitTraceRow]

  package init(_ rows: [ExitTraceRow]) { self.rows = rows }

  /// What came after `earlier`, the most frequent first. The longest exit is the longest ever there.
  package func since(_ earlier: TraceReport) -> TraceReport {
    struct Key: Hashable {
      var kind: ExitKind
      var place: UInt64
    }
    let old = Dictionary(
      earlier.rows.map { (Key(kind: $0.kind, place: $0.place), $0) }, uniquingKeysWith: { $1 })
    let changed = rows.compactMap { row -> ExitTraceRow? in
      guard let before = old[Key(kind: row.kind, place: row.place)] else { return row }
      var row = row
      row.count &-= min(row.count, before.count)
      row.nanoseconds &-= min(row.nanoseconds, before.nanoseconds)
      for index in row.buckets.indices where index < before.buckets.count {
        row.buckets[index] &-= min(row.buckets[index], before.buckets[index])
      }
      return row.count > 0 ? row : nil
    }
    return TraceReport(
      changed.sorted {
        ($1.count, $0.kind.rawValue, $0.place) < ($0.count, $1.kind.rawValue, $1.place)
      })
  }

  package var json: JSONValue {
    .array(
      rows.map { row in
        [
          "kind": .string(row.kind.rawValue),
          "place": row.kind.hasPlace ? .unsigned(row.place) : .null,
          "device": .string(row.device), "count": .unsigned(row.count),
          "nanoseconds": .unsigned(row.nanoseconds), "longest": .unsigned(row.longest),
          "buckets": .array(row.buckets.map { .unsigned($0) }),
        ]
      })
  }

  /// nil for no list; rows of kinds that are not known are left out.
  package init?(_ json: JSONValue) {
    guard let list = json.array else { return nil }
    rows = list.compactMap { entry in
      guard let kind = entry["kind"]?.string.flatMap(ExitKind.init(rawValue:)) else { return nil }
      var row = ExitTraceRow(
        kind: kind, place: entry["place"]?.count ?? 0, count: entry["count"]?.count ?? 0,
        nanoseconds: entry["nanoseconds"]?.count ?? 0, longest: entry["longest"]?.count ?? 0,
        buckets: (entry["buckets"]?.array ?? []).prefix(64).map { $0.count ?? 0 })
      row.device = entry["device"]?.string ?? ""
      return row
    }
  }
}

extension ExitTraceRow {
  /// Nanoseconds within which a share of the exits was served, rounded up to a power of two; nil without exits.
  package func quantile(_ share: Double) -> UInt64? {
    let wanted = Double(count) * share
    var sum = 0.0
    for (index, bucket) in buckets.enumerated() {
      sum += Double(bucket)
      if sum > 0, sum >= wanted { return min(UInt64(1) << UInt64(min(index, 62)), longest) }
    }
    return nil
  }

  /// A port or address in hexadecimal, and what is there.
  package var placeText: String {
    switch kind {
    case .portRead, .portWrite: "0x" + String(place, radix: 16)
    case .memoryRead, .memoryWrite: "0x" + String(place, radix: 16) + "+4K"
    default: ""
    }
  }
}
