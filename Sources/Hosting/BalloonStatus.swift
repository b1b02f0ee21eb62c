import Devices

/// What is known of a running machine's memory balloon, in bytes.
package struct BalloonStatus: Sendable, Equatable {
  package var report: MemoryBalloon.Report

  package init(_ report: MemoryBalloon.Report) { self.report = report }

  private static func figures(
    _ statistics: MemoryBalloon.Statistics
  ) -> [(key: String, value: UInt64?)] {
    [
      ("free", statistics.free), ("total", statistics.total),
      ("available", statistics.available), ("caches", statistics.caches),
      ("swappedIn", statistics.swappedIn), ("swappedOut", statistics.swappedOut),
      ("majorFaults", statistics.majorFaults), ("minorFaults", statistics.minorFaults),
      ("hugePages", statistics.hugePages), ("hugePageFailures", statistics.hugePageFailures),
      ("kills", statistics.kills),
    ]
  }

  package var json: JSONValue {
    [
      "target": .unsigned(report.target), "current": .unsigned(report.current),
      "driver": .bool(report.hasDriver), "reclaimed": .unsigned(report.reclaimed),
      "reported": .unsigned(report.reported),
      "guest": .optional(report.statistics) { statistics in
        var members: [String: JSONValue] = [:]
        for (key, value) in Self.figures(statistics) {
          if let value { members[key] = .unsigned(value) }
        }
        return .object(members)
      },
    ]
  }

  /// nil where the target is missing.
  package init?(_ json: JSONValue) {
    func count(_ json: JSONValue?, _ key: String) -> UInt64? {
      json?[key]?.integer.flatMap { UInt64(exactly: $0) }
    }
    guard let target = count(json, "target") else { return nil }
    var statistics: MemoryBalloon.Statistics?
    if let guest = json["guest"], case .object = guest {
      var values = MemoryBalloon.Statistics()
      values.free = count(guest, "free")
      values.total = count(guest, "total")
      values.available = count(guest, "available")
      values.caches = count(guest, "caches")
      values.swappedIn = count(guest, "swappedIn")
      values.swappedOut = count(guest, "swappedOut")
      values.majorFaults = count(guest, "majorFaults")
      values.minorFaults = count(guest, "minorFaults")
      values.hugePages = count(guest, "hugePages")
      values.hugePageFailures = count(guest, "hugePageFailures")
      values.kills = count(guest, "kills")
      statistics = values
    }
    report = MemoryBalloon.Report(
      target: target, current: count(json, "current") ?? target,
      hasDriver: json["driver"]?.bool ?? false, reclaimed: count(json, "reclaimed") ?? 0,
      reported: count(json, "reported") ?? 0, statistics: statistics)
  }
}
