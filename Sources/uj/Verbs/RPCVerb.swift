import ArgumentParser
import Hosting
import Inventory
import Platform

struct RPCVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rpc",
    abstract: "Call a method of a running machine's control protocol, for scripts.",
    discussion: """
      The answer is printed as JSON. 'uj rpc NAME methods' lists what there is. With --follow the notifications that \
      come afterwards are printed too, one a line, until the machine ends.

      EXAMPLES
        uj rpc web status
        uj rpc --follow web statistics.subscribe
        uj rpc web stop '{"force": true}'
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: "The method.")
  var method: String
  @Argument(help: "Its parameters, a JSON object.")
  var parameters = "{}"
  @Flag(help: "Print notifications until the machine ends.")
  var follow = false

  func run() throws {
    let values: JSONValue
    do {
      values = try JSONValue(parsing: parameters)
    } catch {
      throw UsageFailure("parameters: no JSON: \(error)")
    }
    guard method != "serial.attach" else {
      throw UsageFailure("serial.attach makes a byte stream; use 'uj console \(name.text)'")
    }
    let client = try MachineClient(try name.name(), at: try openInventory().location)
    // The host may open no file of somebody's choice; what cannot be opened here it refuses by itself.
    var file: SharedDescriptor?
    if method == "cdrom.insert", let path = values["path"]?.string {
      file = try? MachineClient.openedDisc(path)
    }
    say(try client.call(method, values, passing: file).prettyText)
    guard follow else { return }
    while let (method, parameters) = try client.nextNotification(timeout: 1e6) {
      say(JSONValue.object(["method": .string(method), "params": parameters]).text)
    }
  }
}
