import ArgumentParser
import Hosting
import Inventory
import Networks

struct NetworkVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "network",
    abstract: "Show and change a running machine's network adapters.",
    discussion: """
      Without a word, lists the adapters: what the cable leads to, the guest's addresses as seen on the wire, what has \
      passed, and ports of this host that lead into the guest. Changes hold until the machine ends; 'uj set NAME \
      networks=...' changes its definition.

      EXAMPLES
        uj network web
        uj network web forward 8080:80
        uj network web unforward 8080:80
        uj network web rate 10M
        uj network web rate none
        uj network web down
      """)

  enum Change: String, ExpressibleByArgument {
    case list, up, down, forward, unforward, rate
  }

  @Argument(help: "The machine.")
  var name: NameArgument
  @Argument(help: "list, up, down, forward, unforward or rate.")
  var change = Change.list
  @Argument(
    help: ArgumentHelp(
      """
      The forward, [tcp|udp:][ADDRESS:]HOST-PORT:[ADDRESS:]GUEST-PORT; or the bits a second that pass each way, such as \
      10M, or none for no limit.
      """, valueName: "value"))
  var value: String?
  @Option(help: "Which adapter, from 0.")
  var adapter = 0
  @Flag(help: "As JSON.")
  var json = false

  func run() throws {
    let client = try MachineClient(try name.name(), at: try openInventory().location)
    let number = ("adapter", JSONValue.integer(Int64(clamping: adapter)))
    switch change {
    case .list: return try list(client)
    case .up, .down:
      _ = try client.call(
        "network.link",
        .object(Dictionary(uniqueKeysWithValues: [number, ("up", .bool(change == .up))])))
    case .rate: try setRate(client, number)
    case .forward, .unforward:
      guard let forward = value else { throw UsageFailure("name a forward, such as 2222:22") }
      guard PortForward(forward) != nil else {
        throw UsageFailure(
          "\(printable(forward)): must be [tcp|udp:][ADDRESS:]HOST-PORT:[ADDRESS:]GUEST-PORT")
      }
      _ = try client.call(
        "network.\(change.rawValue)",
        .object(Dictionary(uniqueKeysWithValues: [number, ("forward", .string(forward))])))
    }
  }

  private func setRate(
    _ client: MachineClient, _ number: (String, JSONValue)
  ) throws {
    guard let value, value == "none" || BitRate.read(value) != nil else {
      throw UsageFailure("give the bits a second from 8k to 100G, such as 10M, or none")
    }
    let rate: JSONValue = value == "none" ? .null : .string(value)
    _ = try client.call(
      "network.rate", .object(Dictionary(uniqueKeysWithValues: [number, ("rate", rate)])))
  }

  private func list(_ client: MachineClient) throws {
    let answer = try client.call("network.list")
    if json { return say(answer.prettyText) }
    let adapters = answer.array?.compactMap { NetworkStatus($0) } ?? []
    if adapters.isEmpty { say("\(name.text) has no network adapter") }
    for (index, adapter) in adapters.enumerated() {
      say("\(index)  \(adapter.text)  \(adapter.address)\(adapter.isUp ? "" : "  down")")
      func row(_ title: String, _ text: String) {
        say("   \(title)\(String(repeating: " ", count: max(1, 11 - title.count)))\(text)")
      }
      if let rate = adapter.rate { row("rate", "\(rate)bit/s each way") }
      if let cable = adapter.cable { row("cable", cable) }
      row(
        "guest",
        adapter.guestAddresses.isEmpty
          ? "no address seen yet" : adapter.guestAddresses.joined(separator: " "))
      for forward in adapter.forwards { row("forward", forward) }
      row("received", "\(adapter.framesReceived) frames, \(ByteSize.format(adapter.bytesReceived))")
      row("sent", "\(adapter.framesSent) frames, \(ByteSize.format(adapter.bytesSent))")
      if adapter.framesDropped > 0 || adapter.framesRefused > 0 || adapter.framesLost > 0 {
        row(
          "lost",
          "\(adapter.framesDropped) for the guest, \(adapter.framesRefused) refused, \(adapter.framesLost) not taken by the other end"
        )
      }
      if adapter.violations > 0 { row("broken", "\(adapter.violations) connections ended") }
    }
  }
}
