import ArgumentParser
import Hosting
import Inventory

struct ImportVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Make machines of OpenBSD's vm.conf.",
    discussion: """
      Each 'vm' and each 'vm PARENT instance NAME' becomes a machine; its disks stay where they are and are used in \
      place. What the file says and has no equivalent here is listed, not dropped in silence.

      EXAMPLES
        uj import --dry-run /etc/vm.conf
        uj import /mnt/etc/vm.conf --root /mnt -D base=/srv/vm
      """)

  @Argument(help: "The file.")
  var file: String
  @Flag(name: [.customShort("n"), .long], help: "Only show the definitions that would be made.")
  var dryRun = false
  @Option(
    help: ArgumentHelp(
      "Where the other system's files are: stands before each absolute path.", valueName: "folder"))
  var root: String?
  @Option(
    name: [.customShort("D"), .long],
    help: ArgumentHelp("A macro, stronger than the file's.", valueName: "NAME=VALUE"))
  var define: [String] = []

  func run() throws {
    var macros: [String: String] = [:]
    for text in define {
      let pair = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2, !pair[0].isEmpty else {
        throw UsageFailure("-D \(printable(text)): must be NAME=VALUE")
      }
      macros[String(pair[0])] = String(pair[1])
    }
    let inventory = try openInventory()
    let result = try VMConfigurationImport(
      InventoryLocation.absolute(file), root: root.map(InventoryLocation.absolute), macros: macros,
      images: inventory.images)
    if dryRun {
      for machine in result.machines { say(machine.definition.text(name: machine.name)) }
    } else {
      var failed = false
      for machine in result.machines {
        do {
          try inventory.add(machine)
          say("\(machine.name): made")
        } catch {
          Failure.print(error)
          failed = true
        }
      }
      defer { report(result) }
      if failed { throw ExitStatus(status: 1) }
      return
    }
    report(result)
  }

  private func report(_ result: VMConfigurationImport) {
    let lines =
      result.remarks
      + result.machines.flatMap { machine in machine.remarks.map { "\(machine.name): \($0)" } }
    guard !lines.isEmpty else { return }
    Failure.note("not carried over:")
    for line in lines { Failure.note("  \(line)") }
  }
}
