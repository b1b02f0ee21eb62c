import CLinux
import Devices
import Inventory
import Machine
import Platform

/// The control protocol's methods. `uj rpc NAME methods` lists them.
extension MachineHost: ControlService {
  static let methods: [(name: String, summary: String)] =
    [
      ("hello", "protocol version, machine, process"),
      ("methods", "this list"),
      ("status", "state, uptime, processor use, memory, clients"),
      ("stop", "press the power button; {\"force\": true} cuts the power"),
      ("powerButton", "press the power button, without counting it as a wish to stop"),
      ("pause", "stop the guest's time"),
      ("unpause", "let the guest's time go on"),
      ("reset", "press the reset button"),
      ("suspend", "save memory and devices and end; the next start goes on from there"),
      ("shutdown", "end machine and host process at once, disks flushed"),
      ("statistics.subscribe", "notification 'statistics' once a second"),
      ("statistics.unsubscribe", "end that"),
      ("events.subscribe", "notifications 'state', 'message' and 'ended'"),
      ("events.unsubscribe", "end that"),
      (
        "serial.attach",
        "{port, readOnly, replay, answersQueries, label}: after the answer the connection is the port's byte stream"
      ),
      ("serial.break", "{port}: a break condition on the line"),
      (
        "cdrom.insert",
        "{path, force}: put a disc image into the CD-ROM drive; the open file comes ahead (SCM_RIGHTS)"
      ),
      ("cdrom.eject", "{force}: take the disc out"),
      (
        "snapshot.take",
        "{title, memory}: keep the present state of all disks, crash-consistent, or with memory"
      ),
      ("snapshot.rename", "{snapshot, title}: give a snapshot another name"),
      ("snapshot.delete", "{snapshot}: remove it; its space comes back when the machine is off"),
      ("snapshot.prune", "{}: remove the snapshots that the machine's rule does not keep"),
      (
        "snapshot.freeze",
        "{snapshot}: keep its layers for good, so that a machine can be made that grows from them"
      ),
      ("display.read", "{generation}: what the display shows, unless it is that generation still"),
      ("keyboard.send", "{keys, text}: press keys by name, then type a text, on a US keyboard"),
    ] + statisticsMethods + networkMethods + balloonMethods + debuggerMethods + moveMethods

  package func answer(
    _ method: String, _ parameters: JSONValue, _ client: ControlServer.Client
  ) -> ControlServer.Answer {
    switch method {
    case "hello":
      return .result([
        "protocol": .integer(RemoteMessage.protocolVersion), "name": .string(name),
        "process": .unsigned(getpid()), "serialPorts": .unsigned(serial.count),
      ])
    case "methods":
      let pairs = Self.methods.map { ($0.name, JSONValue.string($0.summary)) }
      return .result(.object(Dictionary(uniqueKeysWithValues: pairs)))
    case "status": return .result(status().json)
    case "stop":
      if parameters["force"]?.bool == true { stopAtOnce() } else { stopGracefully() }
      return .result(true)
    case "shutdown":
      stopAtOnce()
      return .result(true)
    case "powerButton": return done(machine.pressPowerButton)
    case "pause": return done(machine.pause)
    case "unpause":
      if let refusal = uncertainRefusal { return .error(refusal) }
      return done(machine.resume)
    case "reset": return done(machine.reset)
    case "statistics.subscribe":
      client.subscribe(.statistics, true)
      return .result(status().json)
    case "statistics.unsubscribe": return done { client.subscribe(.statistics, false) }
    case "events.subscribe":
      client.subscribe(.events, true)
      return .result(status().json)
    case "events.unsubscribe": return done { client.subscribe(.events, false) }
    case "serial.attach": return attach(parameters)
    case "serial.break":
      guard let port = port(parameters) else { return .error(noPort(parameters)) }
      return done { machine.serialDevices[port].sendBreak() }
    case "cdrom.insert": return insertDisc(parameters, client.takePassed())
    case "cdrom.eject":
      return changeDrive(parameters) { (force) throws(MachineError) in
        try machine.ejectDisc(force: force)
      }
    case "display.read": return readDisplay(parameters)
    case "keyboard.send": return sendKeys(parameters)
    case "suspend", "snapshot.take", "snapshot.rename", "snapshot.delete", "snapshot.prune",
      "snapshot.freeze":
      return changeSnapshots(method, parameters)
    default:
      if let answer = answerStatistics(method) { return answer }
      if let answer = answerNetwork(method, parameters) { return answer }
      if let answer = answerBalloon(method, parameters) { return answer }
      if let answer = answerDebugger(method) { return answer }
      if let answer = answerMove(method, parameters) { return answer }
      return .error(
        RemoteError(
          code: RemoteError.methodNotFound, "no method \"\(printable(method.prefix(60)))\""))
    }
  }

  private func done(_ action: () -> Void) -> ControlServer.Answer {
    action()
    return .result(true)
  }

  private func port(_ parameters: JSONValue) -> Int? {
    let value = parameters["port"] ?? 0
    guard let port = value.integer.flatMap({ Int(exactly: $0) }), serial.indices.contains(port),
      machine.serialDevices.indices.contains(port)
    else { return nil }
    return port
  }

  private func noPort(_ parameters: JSONValue) -> RemoteError {
    RemoteError(
      code: RemoteError.invalidParameters,
      serial.isEmpty
        ? "\(name) has no serial port"
        : "\(name) has serial ports 0 to \(serial.count - 1) only")
  }

  private func insertDisc(
    _ parameters: JSONValue, _ file: SharedDescriptor?
  ) -> ControlServer.Answer {
    guard let path = parameters["path"]?.string, path.hasPrefix("/"), path.utf8.count < 4096 else {
      return .error(
        RemoteError(
          code: RemoteError.invalidParameters, "path must be the absolute path of a disc image"))
    }
    return changeDrive(parameters) { (force) throws(MachineError) in
      try machine.changeDisc(path: path, file: file, force: force)
    }
  }

  private func changeDrive(
    _ parameters: JSONValue, _ change: (_ force: Bool) throws(MachineError) -> Void
  ) -> ControlServer.Answer {
    guard plan.configuration.opticalDrive != nil else {
      return .error(
        RemoteError(
          "\(name) has no CD-ROM drive; 'uj set \(name) cdrom=empty' gives it one at its next start"
        ))
    }
    do {
      try change(parameters["force"]?.bool ?? false)
    } catch {
      return .error(RemoteError(error.description))
    }
    server?.notify(.events, "state", status().json)
    return .result(true)
  }

  private func attach(_ parameters: JSONValue) -> ControlServer.Answer {
    guard let port = port(parameters) else { return .error(noPort(parameters)) }
    let multiplexer = serial[port]
    if let refusal = multiplexer.refusal {
      return .error(RemoteError("serial port \(port) of \(name) \(refusal)"))
    }
    guard multiplexer.clientCount < ControlServer.clientLimit else {
      return .error(
        RemoteError("\(ControlServer.clientLimit) consoles are attached to \(name); close one"))
    }
    guard let options = SerialAttachment(parameters) else {
      return .error(
        RemoteError(
          code: RemoteError.invalidParameters,
          "readOnly and answersQueries are true or false, replay is true, false, \"screen\" or a "
            + "number of lines"))
    }
    return .handOver(["port": .unsigned(port)]) { descriptor, input in
      multiplexer.attach(descriptor, input: input, options)
    }
  }

  /// Callable from any thread.
  package func sendBreak(port: Int) {
    guard machine.serialDevices.indices.contains(port) else { return }
    machine.serialDevices[port].sendBreak()
  }

  /// Connects a terminal of this very process to a port, as a client of the socket would be.
  package func attach(
    port: Int, descriptor: Int32, options: SerialAttachment = SerialAttachment()
  ) {
    serial[port].attach(descriptor, input: [], options)
  }
}
