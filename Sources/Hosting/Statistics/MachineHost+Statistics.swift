import CLinux
import Devices
import Glibc
import Inventory
import Machine
import Platform

/// What the control protocol tells of a machine: its state, its counters, its exits.
extension MachineHost {
  static let statisticsMethods: [(name: String, summary: String)] = [
    ("statistics.read", "all counters: processors, disks with latencies, networks, consoles"),
    ("trace.read", "exits by kind and place; they are counted for ten seconds from each call on"),
  ]

  /// Nanoseconds for which exits are counted after somebody has asked.
  static let traceTime: UInt64 = 10_000_000_000

  /// nil: no such method.
  func answerStatistics(_ method: String) -> ControlServer.Answer? {
    switch method {
    case "statistics.read": .result(figures().json)
    case "trace.read": .result(TraceReport(machine.readTrace(for: Self.traceTime)).json)
    default: nil
    }
  }

  func figures() -> MachineFigures {
    let statistics = machine.statistics()
    var figures = MachineFigures(status(statistics))
    figures.processorTimes = statistics.processorTimes
    let processTime = Self.processTime()
    figures.hostTime = processTime &- min(processTime, statistics.processorTime)
    figures.instructions = statistics.instructions
    figures.unknownRegisterAccesses = statistics.unknownRegisterAccesses
    figures.disks = statistics.disks.enumerated().map { index, disk in
      .init(name: diskName(index), statistics: disk)
    }
    figures.consoles = zip(plan.serial, serial).map { place, port in
      let traffic = port.traffic
      return .init(port: place.port, output: traffic.output, input: traffic.input)
    }
    return figures
  }

  /// As in the definition. Disks of this run only, and the seed of cloud images, have none there.
  private func diskName(_ index: Int) -> String {
    guard plan.diskNames.indices.contains(index), !plan.diskNames[index].isEmpty else {
      return "extra\(index)"
    }
    return plan.diskNames[index]
  }

  /// CPU time of this process, nanoseconds.
  private static func processTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  func status() -> MachineStatus { status(machine.statistics()) }

  private func status(_ statistics: MachineStatistics) -> MachineStatus {
    let state: MachineStatus.State =
      switch machine.runState {
      case .ready: .starting
      case .running: isStopping ? .stopping : .running
      case .paused: .paused
      case .halted: .halted
      case .stopped: .stopping
      }
    var status = MachineStatus(name: name, state: state)
    status.process = getpid()
    status.processors = plan.configuration.processorCount
    status.memory = plan.configuration.memorySize
    status.residentMemory = statistics.residentMemory
    status.processorUse = processorUse
    status.uptime = statistics.uptime
    status.accelerator = machine.acceleratorDescription
    status.sandbox = sandbox?.text ?? MachineStatus.noSandbox
    status.clients = serial.reduce(0) { $0 + $1.clientCount }
    status.diskBytesRead = statistics.diskBytesRead
    status.diskBytesWritten = statistics.diskBytesWritten
    status.exits = statistics.exits
    status.completedInstructions = statistics.completedInstructions
    status.crashReport = crashReports.last
    if plan.configuration.opticalDrive != nil {
      let drive = machine.disc.map(MachineDefinition.OpticalDrive.disc) ?? .empty
      status.cdrom = drive.text
    }
    status.networks = machine.networkPorts.map { NetworkStatus($0) }
    if let point = machine.socketPoint, let device = plan.configuration.socketDevice {
      status.sockets = SocketStatus(device, point.statistics)
    }
    status.balloon = machine.balloon.map { BalloonStatus($0.report()) }
    status.serialDevices = serial.compactMap(\.devicePath)
    return status
  }
}
