import ArgumentParser
import CLinux
import Hosting
import Inventory

struct CaptureVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "capture",
    abstract: "Record the packets of a running machine's network adapter.",
    discussion: """
      Writes the pcap format, which tcpdump, tshark and Wireshark read, until it is interrupted or the machine ends. \
      The guest never waits for the reader: what is not taken in time is left out. Segments are seen as they leave the \
      guest, larger than the wire's and before their checksums are made.

      EXAMPLES
        uj capture web -w web.pcap
        uj capture web | tcpdump -n -r -
        uj capture web | wireshark -k -i -
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Option(help: "Which adapter, from 0.")
  var adapter = 0
  @Option(
    name: [.customShort("w"), .customLong("write")],
    help: ArgumentHelp("A file instead of standard output.", valueName: "file"))
  var file: String?

  func run() throws {
    if file == nil && isatty(1) != 0 {
      throw UsageFailure("a capture is no text: -w FILE, or a pipe into tcpdump -r -")
    }
    let client = try MachineClient(try name.name(), at: try openInventory().location)
    var output: Int32 = 1
    if let file {
      output = linux_open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
      guard output >= 0 else {
        throw UsageFailure("\(printable(file)): \(String(cString: strerror(linux_error_number())))")
      }
    }
    let (descriptor, received) = try client.capture(adapter: adapter)
    guard put(received[...], to: output) else { return }
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(descriptor, &chunk, chunk.count)
      if count == 0 { return }
      if count < 0 {
        guard linux_error_number() == EAGAIN || linux_error_number() == EINTR else { return }
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, -1)
        continue
      }
      guard put(chunk[..<count], to: output) else { return }
    }
  }

  private func put(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { CLinux.write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if linux_error_number() != EINTR {
        return false
      }
    }
    return true
  }
}
