import Devices
import Hosting
import Inventory
import Machine

/// The counters of a machine for a person: label and value, line by line.
struct StatsPage {
  private(set) var lines: [String] = []
  private let earlier: MachineFigures?
  /// Since `earlier`.
  private let seconds: Double

  var text: String { lines.joined(separator: "\n") }

  init(_ figures: MachineFigures, since earlier: MachineFigures?, seconds: Double) {
    self.earlier = earlier
    self.seconds = seconds
    let status = figures.status
    lines.append(
      "\(status.name): \(status.state.rawValue), up \(StatusVerb.duration(status.uptime ?? 0))")
    addProcessors(figures)
    addMemory(status)
    for (index, disk) in figures.disks.enumerated() {
      let before = earlier.flatMap { $0.disks.indices.contains(index) ? $0.disks[index] : nil }
      add(disk, before)
    }
    for (index, network) in status.networks.enumerated() { add(network, index) }
    for console in figures.consoles {
      let before = earlier?.consoles.first { $0.port == console.port }
      add(
        "console \(console.port)",
        "\(bytes(console.output, before?.output)) printed, "
          + "\(bytes(console.input, before?.input)) taken")
    }
    if let path = status.crashReport { add("crash report", path) }
  }

  private mutating func addProcessors(_ figures: MachineFigures) {
    for (index, used) in figures.processorTimes.enumerated() {
      let before = earlier.flatMap {
        $0.processorTimes.indices.contains(index) ? $0.processorTimes[index] : nil
      }
      add("CPU \(index)", time(used, before))
    }
    add("host process", "\(time(figures.hostTime, earlier?.hostTime)) beside them")
    add("exits", count(figures.status.exits ?? 0, earlier?.status.exits))
    if let instructions = figures.instructions {
      add("instructions", count(instructions, earlier?.instructions))
    }
  }

  private mutating func addMemory(_ status: MachineStatus) {
    var text = ByteSize.formatRounded(status.memory)
    if let resident = status.residentMemory {
      text += ", \(ByteSize.formatRounded(resident)) of it on the host"
    }
    if let balloon = status.balloon?.report {
      text += ", the guest keeps \(ByteSize.formatRounded(balloon.current))"
    }
    add("memory", text)
  }

  private mutating func add(_ disk: MachineFigures.Disk, _ before: MachineFigures.Disk?) {
    let now = disk.statistics
    for (word, operation, old) in [
      ("read", now.reads, before?.statistics.reads),
      ("written", now.writes, before?.statistics.writes),
    ] {
      add(
        "disk \(disk.name)",
        "\(bytes(operation.bytes, old?.bytes)) \(word) in \(count(operation.count, old?.count)) "
          + "requests" + Self.latency(operation))
    }
    add(
      "disk \(disk.name)",
      "\(now.flushes.count) flushes\(Self.latency(now.flushes)); \(now.discards.count) discards, "
        + Self.size(now.discards.bytes))
    let errors = [now.reads, now.writes, now.flushes, now.discards].reduce(0) { $0 &+ $1.errors }
    if errors > 0 { add("disk \(disk.name)", "\(errors) ERRORS") }
  }

  private mutating func add(_ network: NetworkStatus, _ index: Int) {
    let before = earlier.flatMap {
      $0.status.networks.indices.contains(index) ? $0.status.networks[index] : nil
    }
    add(
      "network \(index)",
      "\(bytes(network.bytesReceived, before?.bytesReceived)) received in "
        + "\(network.framesReceived) frames, \(bytes(network.bytesSent, before?.bytesSent)) sent in "
        + "\(network.framesSent)")
    add(
      "network \(index)",
      "\(network.framesDropped) dropped, \(network.framesRefused) refused, "
        + "\(network.framesLost) lost")
  }

  private mutating func add(_ label: String, _ value: String) {
    lines.append("  " + label + String(repeating: " ", count: max(1, 16 - label.count)) + value)
  }

  // MARK: Values, with rates where there was a time before

  private func rate(_ now: UInt64, _ before: UInt64?) -> Double? {
    guard let before, seconds > 0 else { return nil }
    return Double(now >= before ? now - before : 0) / seconds
  }

  private func count(_ now: UInt64, _ before: UInt64?) -> String {
    "\(now)" + (rate(now, before).map { " (\(Int64($0.rounded()))/s)" } ?? "")
  }

  private func bytes(_ now: UInt64, _ before: UInt64?) -> String {
    Self.size(now) + (rate(now, before).map { " (\(Self.size(UInt64($0)))/s)" } ?? "")
  }

  /// With a unit, also where it is bytes.
  private static func size(_ count: UInt64) -> String {
    let text = ByteSize.formatRounded(count)
    return text.last?.isNumber == true ? text + "B" : text
  }

  private func time(_ now: UInt64, _ before: UInt64?) -> String {
    let milliseconds = now / 1_000_000
    let part = "\(1000 + milliseconds % 1000)".dropFirst()
    return "\(milliseconds / 1000).\(part) s"
      + (rate(now, before).map { " (\(Int(($0 / 1e7).rounded()))%)" } ?? "")
  }

  private static func latency(_ operation: OperationStatistics) -> String {
    guard operation.count > 0 else { return "" }
    let half = operation.quantile(0.5).map { Self.duration($0) } ?? "long"
    let most = operation.quantile(0.99).map { Self.duration($0) } ?? "long"
    return ", half in \(half), 99% in \(most)"
  }

  /// `850ns`, `50us`, `2.5ms`, `1s`.
  static func duration(_ nanoseconds: UInt64) -> String {
    let units: [(UInt64, String)] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")]
    for (size, unit) in units where nanoseconds >= size {
      let tenths = nanoseconds / (size / 10)
      return tenths % 10 == 0 || tenths >= 100
        ? "\(tenths / 10)\(unit)" : "\(tenths / 10).\(tenths % 10)\(unit)"
    }
    return "\(nanoseconds)ns"
  }
}
