import ArgumentParser
import CLinux
import Hosting
import Inventory
import Networks

struct SSHVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ssh",
    abstract: "Log in to a running machine by ssh.",
    discussion: """
      Goes through a forward to the guest's port 22 where there is one, makes one on a free port of the loopback \
      address otherwise, and starts ssh(1). What stands behind NAME is handed to ssh. Machines on taps and switches are \
      reached by the address that was seen on the wire.

      EXAMPLES
        uj ssh web
        uj ssh web -l root uptime
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Option(name: [.customShort("l"), .long], help: "The user in the guest.")
  var login: String?
  @Argument(parsing: .captureForPassthrough, help: "Options and command for ssh.")
  var arguments: [String] = []

  func run() throws {
    let machine = try name.name()
    let client = try MachineClient(machine, at: try openInventory().location)
    let adapters = try client.call("network.list").array?.compactMap { NetworkStatus($0) } ?? []
    guard let index = adapters.firstIndex(where: { $0.text == "user" }) ?? adapters.indices.first
    else { throw UsageFailure("\(machine) has no network adapter") }
    var words = ["ssh", "-o", "HostKeyAlias=underjack-\(machine)"]
    // passt has the forwards that it was started with.
    if adapters[index].text == "user" || adapters[index].text == "passt" {
      words += ["-p", "\(try port(adapters[index], index, client))", "127.0.0.1"]
    } else {
      guard let address = adapters[index].guestAddresses.first else {
        throw UsageFailure("\(machine): no address of the guest has been seen yet")
      }
      words.append(address)
    }
    if let login { words += ["-l", login] }
    words += arguments
    var list = words.map { strdup($0) } + [nil]
    execvp("ssh", &list)
    throw UsageFailure("ssh: \(String(cString: strerror(linux_error_number())))")
  }

  private func port(
    _ adapter: NetworkStatus, _ index: Int, _ client: MachineClient
  ) throws -> UInt16 {
    for text in adapter.forwards {
      if let forward = PortForward(text), forward.transport == .tcp, forward.guestPort == 22 {
        return forward.hostPort
      }
    }
    // Free ports are found by asking for one: from a place in the range for private use that differs by machine.
    var spread = 0
    for byte in name.text.utf8 { spread = (spread &* 31 &+ Int(byte)) & 0x1FFF }
    let start = UInt16(49_152 + spread)
    for port in start..<start + 50 {
      let forward = PortForward(hostPort: port, guestPort: 22)
      let parameters: JSONValue = [
        "adapter": .integer(Int64(index)), "forward": .string(forward.description),
      ]
      if (try? client.call("network.forward", parameters)) != nil { return port }
    }
    throw UsageFailure("no free port on this host from \(start)")
  }
}
