import Machine

/// What a running machine has done since its start: its status and all counters.
package struct MachineFigures: Sendable, Equatable {
  package struct Disk: Sendable, Equatable {
    package var name: String
    package var statistics: DiskStatistics
  }
  /// Bytes of a serial port.
  package struct Console: Sendable, Equatable {
    package var port: Int
    /// Printed by the guest.
    package var output: UInt64 = 0
    /// Taken by the guest.
    package var input: UInt64 = 0
  }

  package var status: MachineStatus
  /// CPU time of each virtual processor's thread, nanoseconds.
  package var processorTimes: [UInt64] = []
  /// CPU time of the host process beside that: devices, disks, networks, consoles.
  package var hostTime: UInt64 = 0
  /// nil on KVM, which does not count them.
  package var instructions: UInt64?
  /// Accesses to model specific registers that do not exist.
  package var unknownRegisterAccesses: UInt64 = 0
  package var disks: [Disk] = []
  package var consoles: [Console] = []

  package init(_ status: MachineStatus) { self.status = status }

  /// The status's members, and these.
  package var json: JSONValue {
    guard case .object(var members) = status.json else { return status.json }
    members["processorTimes"] = .array(processorTimes.map { .unsigned($0) })
    members["hostTime"] = .unsigned(hostTime)
    members["instructions"] = .optional(instructions, JSONValue.unsigned)
    members["unknownRegisterAccesses"] = .unsigned(unknownRegisterAccesses)
    members["disks"] = .array(
      disks.map { disk in
        let statistics = disk.statistics
        return [
          "name": .string(disk.name), "reads": statistics.reads.json,
          "writes": statistics.writes.json, "flushes": statistics.flushes.json,
          "discards": statistics.discards.json,
        ]
      })
    members["consoles"] = .array(
      consoles.map {
        [
          "port": .unsigned($0.port), "output": .unsigned($0.output), "input": .unsigned($0.input),
        ]
      })
    return .object(members)
  }

  /// nil when it is not even a status; what else is missing or of a wrong type is left out.
  package init?(_ json: JSONValue) {
    guard let status = MachineStatus(json) else { return nil }
    self.status = status
    processorTimes = json["processorTimes"]?.array?.prefix(1024).map { $0.count ?? 0 } ?? []
    hostTime = json["hostTime"]?.count ?? 0
    instructions = json["instructions"]?.count
    unknownRegisterAccesses = json["unknownRegisterAccesses"]?.count ?? 0
    disks = (json["disks"]?.array ?? []).compactMap { disk in
      guard let name = disk["name"]?.string else { return nil }
      func operation(_ key: String) -> OperationStatistics { OperationStatistics(disk[key]) }
      return Disk(
        name: name,
        statistics: DiskStatistics(
          reads: operation("reads"), writes: operation("writes"), flushes: operation("flushes"),
          discards: operation("discards")))
    }
    consoles = (json["consoles"]?.array ?? []).compactMap { console in
      guard let port = console["port"]?.integer.flatMap({ Int(exactly: $0) }) else { return nil }
      return Console(
        port: port, output: console["output"]?.count ?? 0, input: console["input"]?.count ?? 0)
    }
  }
}

extension JSONValue {
  /// A number that cannot be negative.
  package var count: UInt64? { integer.flatMap { UInt64(exactly: $0) } }
}

extension OperationStatistics {
  /// `latency` has an entry for each bucket: nanoseconds and how many requests took at most so long and more than the
  /// entry before; the last one has no upper end.
  package var json: JSONValue {
    let ends = Self.bounds.map { JSONValue.unsigned($0) } + [.null]
    return [
      "count": .unsigned(count), "bytes": .unsigned(bytes), "errors": .unsigned(errors),
      "nanoseconds": .unsigned(nanoseconds),
      "latency": .array(
        zip(ends, buckets).map { ["upTo": $0.0, "count": .unsigned($0.1)] }),
    ]
  }

  /// What is missing is nothing.
  package init(_ json: JSONValue?) {
    self.init()
    bytes = json?["bytes"]?.count ?? 0
    errors = json?["errors"]?.count ?? 0
    nanoseconds = json?["nanoseconds"]?.count ?? 0
    for (index, bucket) in (json?["latency"]?.array ?? []).prefix(buckets.count).enumerated() {
      buckets[index] = min(bucket["count"]?.count ?? 0, UInt64.max >> 8)
    }
  }

  /// Nanoseconds within which a share of the requests was answered, rounded up to a bucket's end; nil without requests,
  /// and where it was longer than the last end.
  package func quantile(_ share: Double) -> UInt64? {
    let wanted = Double(count) * share
    var sum = 0.0
    for (bucket, end) in zip(buckets, Self.bounds) {
      sum += Double(bucket)
      if sum > 0, sum >= wanted { return end }
    }
    return nil
  }
}
