import Devices
import Machine

/// The machines of an inventory as metrics. Names follow Prometheus' rules: base units, `_total` for counters.
package struct MachineMetrics {
  private var output = PrometheusText()
  private typealias Labels = PrometheusText.Labels

  package var text: String { output.text }

  /// - Parameter machines: those that run with their figures, others without.
  package init(_ machines: [(status: MachineStatus, figures: MachineFigures?)], version: String) {
    output.add(
      "underjack_build_info", .gauge, "The program that wrote this; always 1.",
      [("version", version)], UInt64(1))
    for (status, figures) in machines {
      let labels: Labels = [("machine", status.name)]
      add(status, labels)
      if let figures { add(figures, labels) }
    }
  }

  private mutating func add(_ status: MachineStatus, _ labels: Labels) {
    output.add(
      "underjack_machine_up", .gauge, "Whether the machine has a host process that answers.",
      labels, UInt64(status.state.isAlive && status.state != .unresponsive ? 1 : 0))
    for state in MachineStatus.State.allCases {
      output.add(
        "underjack_machine_state", .gauge, "1 for the state that the machine is in, 0 for others.",
        labels + [("state", state.rawValue)], UInt64(status.state == state ? 1 : 0))
    }
    guard status.state != .broken else { return }
    output.add(
      "underjack_machine_processors", .gauge, "Virtual processors of the definition.", labels,
      UInt64(clamping: status.processors))
    output.add(
      "underjack_machine_memory_bytes", .gauge, "Memory of the definition.", labels, status.memory)
  }

  private mutating func add(_ figures: MachineFigures, _ labels: Labels) {
    let status = figures.status
    addLife(status, labels)
    addProcessors(figures, labels)
    addMemory(status, labels)
    for disk in figures.disks { add(disk, labels + [("disk", disk.name)]) }
    for (index, network) in status.networks.enumerated() {
      add(network, labels + [("adapter", "\(index)"), ("address", network.address)])
    }
    for console in figures.consoles {
      let labels = labels + [("port", "\(console.port)")]
      output.add(
        "underjack_console_output_bytes_total", .counter,
        "Bytes that the guest has printed on a serial port.", labels, console.output)
      output.add(
        "underjack_console_input_bytes_total", .counter,
        "Bytes that the guest has taken from a serial port.", labels, console.input)
    }
    output.add(
      "underjack_console_clients", .gauge, "Consoles that are attached.", labels,
      UInt64(clamping: status.clients ?? 0))
  }

  private mutating func addLife(_ status: MachineStatus, _ labels: Labels) {
    let words = (status.accelerator ?? "").split(whereSeparator: { !$0.isLetter })
    output.add(
      "underjack_machine_info", .gauge, "What runs the guest; always 1.",
      labels + [
        ("accelerator", words.first.map { $0.lowercased() } ?? ""),
        ("sandbox", status.isUnconfined ? "off" : "on"), ("template", status.parent ?? ""),
      ], UInt64(1))
    output.add(
      "underjack_machine_uptime_seconds", .gauge, "Machine time since the start.", labels,
      Self.seconds(status.uptime ?? 0))
  }

  private mutating func addProcessors(_ figures: MachineFigures, _ labels: Labels) {
    for (index, time) in figures.processorTimes.enumerated() {
      output.add(
        "underjack_processor_seconds_total", .counter,
        "CPU time of the thread that runs a virtual processor.",
        labels + [("processor", "\(index)")], Self.seconds(time))
    }
    output.add(
      "underjack_host_processor_seconds_total", .counter,
      "CPU time of the host process beside its virtual processors.", labels,
      Self.seconds(figures.hostTime))
    output.add(
      "underjack_exits_total", .counter, "Exits of the guest to the host process.", labels,
      figures.status.exits ?? 0)
    if let instructions = figures.instructions {
      output.add(
        "underjack_instructions_total", .counter,
        "Instructions that the software processor has executed.", labels, instructions)
    }
    for (kind, count) in figures.status.completedInstructions.sorted(by: { $0.key < $1.key }) {
      output.add(
        "underjack_completed_instructions_total", .counter,
        "Instructions that KVM could not emulate and that were executed in software.",
        labels + [("kind", kind)], count)
    }
    output.add(
      "underjack_unknown_register_accesses_total", .counter,
      "Accesses of the guest to model specific registers that do not exist.", labels,
      figures.unknownRegisterAccesses)
  }

  private mutating func addMemory(_ status: MachineStatus, _ labels: Labels) {
    if let resident = status.residentMemory {
      output.add(
        "underjack_memory_resident_bytes", .gauge, "Guest memory that the host has given.",
        labels, resident)
    }
    guard let balloon = status.balloon?.report else { return }
    output.add(
      "underjack_memory_balloon_target_bytes", .gauge, "What the guest is asked to keep.", labels,
      balloon.target)
    output.add(
      "underjack_memory_balloon_kept_bytes", .gauge, "What the guest keeps.", labels,
      balloon.current)
    output.add(
      "underjack_memory_reported_bytes_total", .counter,
      "Free memory that the guest has reported and the host has taken back.", labels,
      balloon.reported)
  }

  private mutating func add(_ disk: MachineFigures.Disk, _ labels: Labels) {
    let statistics = disk.statistics
    output.add(
      "underjack_disk_read_bytes_total", .counter, "Bytes read from a disk.", labels,
      statistics.reads.bytes)
    output.add(
      "underjack_disk_written_bytes_total", .counter, "Bytes written to a disk.", labels,
      statistics.writes.bytes)
    output.add(
      "underjack_disk_discarded_bytes_total", .counter, "Bytes discarded or zeroed on a disk.",
      labels, statistics.discards.bytes)
    for (name, operation) in [
      ("read", statistics.reads), ("write", statistics.writes), ("flush", statistics.flushes),
      ("discard", statistics.discards),
    ] {
      let labels = labels + [("operation", name)]
      output.add(
        "underjack_disk_errors_total", .counter, "Requests of a disk that have failed.", labels,
        operation.errors)
      output.addHistogram(
        "underjack_disk_request_duration_seconds", "How long requests of a disk took.", labels,
        bounds: OperationStatistics.bounds.map(Self.seconds), buckets: operation.buckets,
        sum: Self.seconds(operation.nanoseconds))
    }
  }

  private mutating func add(_ network: NetworkStatus, _ labels: Labels) {
    let counters: [(String, String, UInt64)] = [
      ("received_bytes", "Bytes of frames that the guest was given.", network.bytesReceived),
      ("sent_bytes", "Bytes of frames that the guest has sent.", network.bytesSent),
      ("received_frames", "Frames that the guest was given.", network.framesReceived),
      ("sent_frames", "Frames that the guest has sent.", network.framesSent),
      ("dropped_frames", "Frames for the guest that found no room.", network.framesDropped),
      ("refused_frames", "Frames that the guest may not send.", network.framesRefused),
      ("lost_frames", "Frames of the guest that the other end did not take.", network.framesLost),
    ]
    for (name, help, value) in counters {
      output.add("underjack_network_\(name)_total", .counter, help, labels, value)
    }
    output.add(
      "underjack_network_up", .gauge, "Whether the cable is in.", labels,
      UInt64(network.isUp ? 1 : 0))
  }

  private static func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e9 }
}
