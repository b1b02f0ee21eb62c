import ArgumentParser
import Hosting
import Inventory

struct SendKeyVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "send-key",
    abstract: "Press keys on the keyboard of a running machine.",
    discussion: """
      The PC's keyboard with US layout, which firmware, boot loaders and the guest's screen read; a serial port has \
      'uj console'. --text is typed first, then the keys are pressed one after the other.

      KEYS
        a single character, or f1 to f12, enter, esc, tab, backspace, space, up, down, left, right, home, end, pgup, \
        pgdn, insert, delete, print, pause, break, menu, capslock, numlock, scrolllock, kp0 to kp9, kpenter;
        with ctrl-, alt-, shift-, altgr- or win- in front.

      EXAMPLES
        uj send-key web ctrl-alt-del
        uj send-key rescue --text ls enter
        uj send-key web alt-sysrq
      """, aliases: ["sendkey"])

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: ArgumentHelp("Keys, see KEYS.", valueName: "keys"))
  var keys: [String] = []
  @Option(name: [.customShort("t"), .long], help: "Type this first.")
  var text: String?

  func run() throws {
    guard !keys.isEmpty || text != nil else { throw UsageFailure("name keys, or give --text") }
    let inventory = try openInventory()
    let name = try name.name()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    let client = try MachineClient(name, at: inventory.location)
    if let text { _ = try client.call("keyboard.send", ["text": .string(text)]) }
    if !keys.isEmpty {
      _ = try client.call("keyboard.send", ["keys": .array(keys.map(JSONValue.string))])
    }
  }
}
