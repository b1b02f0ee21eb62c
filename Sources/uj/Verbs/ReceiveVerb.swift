import ArgumentParser
import CLinux
import Hosting
import Inventory
import Networks
import Platform
import StateFile
import Synchronization

struct ReceiveVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "receive",
    abstract: "Take a machine that 'uj send' sends to standard input, and run it here.",
    discussion: """
      The machine comes with its memory, disks, kernel and discs, and goes on where it was. It is refused, with a \
      reason, where this host lacks what its processor has, where the name is taken, or where a disk is missing. \
      Paths of the other host are not used: disks that do not come along are named by --disk, and cables to taps, \
      bridges and streams by --net, once for each adapter.

      With --from it is asked for: 'uj send' is started there.

      EXAMPLES
        uj receive web --from ssh://admin@other
        uj receive --as web2 --disk data=/srv/shared/data.raw --net bridge:br0
      """)

  @Argument(help: "With --from: the machine there.")
  var name: NameArgument?
  @Option(help: ArgumentHelp("Ask this host for it: ssh://[user@]host[:port].", valueName: "host"))
  var from: String?
  @Option(
    name: .customLong("as"), help: ArgumentHelp("Another name than it has.", valueName: "name"))
  var other: NameArgument?
  @Option(help: ArgumentHelp("Where a shared disk is here: NAME=FILE.", valueName: "disk"))
  var disk: [String] = []
  @Option(
    help: ArgumentHelp("Where an adapter's cable leads here, as for 'uj new'.", valueName: "net"))
  var net: [String] = []

  func validate() throws {
    guard (name == nil) == (from == nil) else {
      throw ValidationError("The machine's name goes with --from; --as gives it another.")
    }
  }

  func run() throws {
    guard from != nil || isatty(0) == 0 else {
      throw UsageFailure("'uj send NAME | uj receive': a machine comes from another program")
    }
    var options = MoveReceiver.Options()
    options.name = try other?.name()
    for text in disk {
      let pair = text.split(separator: "=", maxSplits: 1).map(String.init)
      guard pair.count == 2 else { throw UsageFailure("--disk \(printable(text)): NAME=FILE") }
      options.disks[pair[0]] = InventoryLocation.absolute(pair[1])
    }
    for text in net {
      do throws(NetworkError) {
        let network = try NetworkConfiguration(
          text: text, resolve: { InventoryLocation.absolute($0) })
        options.networks.append(network)
      } catch {
        throw UsageFailure("--net \(printable(text)): \(error.description)")
      }
    }
    let name = try receive(options)
    Failure.note("\(name): runs here")
  }

  private func receive(_ options: MoveReceiver.Options) throws -> MachineName {
    let inventory = try openInventory()
    let progress = MoveReceiver.Progress()
    let isOver = Monitor(false)
    let isShown = isatty(2) == 1
    let drawer = try PosixThread(name: "progress") {
      var drawn = false
      while isShown {
        let end = MonotonicClock.now &+ 200_000_000
        guard isOver.wait(until: end, { $0 ? true : nil }) == nil else { break }
        let state = progress.state
        guard !state.name.isEmpty else { continue }
        let bytes = ByteSize.formatRounded(state.receivedBytes)
        write("\r\u{1b}[K\(state.name): \(bytes)\(state.isLast ? ", starts" : "")", to: 2)
        drawn = true
      }
      if drawn { write("\r\u{1b}[K", to: 2) }
    }
    defer {
      isOver.update { $0 = true }
      drawer.join()
    }
    var remote: RemoteProgram?
    if let from, let name {
      remote = try RemoteProgram(
        try RemoteHost(from).command(["send", "--answers", try name.name().description]))
    }
    defer { _ = remote?.end() }
    let channel = MoveChannel(
      input: remote?.descriptor ?? 0, output: remote?.descriptor ?? 1)
    do {
      return try MoveReceiver(inventory, options, channel, progress).run()
    } catch let error as MoveError {
      throw HostingError(.io, "the machine did not come: \(error)")
    } catch let error as StateValueError {
      throw HostingError(.io, "the machine did not come: \(error)")
    }
  }
}
