import CLinux
import Hosting
import Inventory

/// Attaches this terminal to a running machine's serial port until the person leaves.
func attachConsole(
  _ name: MachineName, _ inventory: Inventory, port: Int = 0, isReadOnly: Bool = false,
  replays: Bool = true
) throws {
  let client = try MachineClient(name, at: inventory.location)
  let (descriptor, received) = try client.attach(
    port: port,
    options: SerialAttachment(isReadOnly: isReadOnly, replay: replays ? .everything : .nothing))
  defer { close(descriptor) }
  if isatty(0) == 1 {
    Failure.note("Connected to \(name), serial port \(port). Leave with ~. or Ctrl-]; ~? for help.")
  }
  var session = ConsoleSession(stream: descriptor, isReadOnly: isReadOnly) {
    _ = try? MachineClient(name, at: inventory.location)
      .call("serial.break", ["port": .unsigned(port)])
  }
  let end = try session.run(received: received)
  switch end {
  case .detached:
    if isatty(0) == 1 { Failure.note("\nLeft \(name); it runs on.") }
  case .closed:
    if isatty(0) == 1 { Failure.note("\n\(name): the console was closed.") }
  case .signalled(let number): throw ExitStatus(status: 128 + number)
  }
}
