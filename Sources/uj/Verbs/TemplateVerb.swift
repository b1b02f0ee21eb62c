import ArgumentParser
import Hosting
import Inventory
import Platform

struct TemplateVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "template",
    abstract: "Build templates, and list them.",
    subcommands: [Build.self, List.self])

  struct Build: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "build",
      abstract: "Build a bootable system of a distribution's packages.",
      discussion: """
        'debian' is the one there is: Debian with systemd, a login on the serial console, ssh and the cloud kernel, \
        started by GRUB. It needs no root, but mmdebstrap and a range of user ids in /etc/subuid; packages come from \
        the mirror, and what was built is kept in $XDG_CACHE_HOME/underjack/templates for the next time.

        On the serial console root logs in without a password. By ssh, which asks for a key: give yours with \
        --ssh-key. Each machine made from the template has its own name as host name and makes its own keys.

        EXAMPLES
          uj template build debian
          uj start -t debian web1 -c
        """)
    @Argument(help: "What to build: debian.") var system: String
    @Option(help: "The template's name.") var name = "debian"
    @Option(help: "The release.") var suite = "bookworm"
    @Option(
      name: [.customShort("s"), .long],
      help: "Size of the disk, such as 20G; takes space as it fills.")
    var size: SizeArgument?
    @Option(help: ArgumentHelp("More packages, with commas.", valueName: "packages"))
    var include: String?
    @Option(help: ArgumentHelp("A public key file for root.", valueName: "file"))
    var sshKey: [String] = []
    @Option(help: ArgumentHelp("Where packages come from.", valueName: "url")) var mirror: String?
    @Flag(help: "Build anew what is in the cache.") var fresh = false

    func run() throws {
      guard system == "debian" else {
        throw UsageFailure("\(printable(system)): unknown; 'debian' can be built")
      }
      var options = DebianTemplate.Options()
      options.suite = try Self.plain(suite, "--suite")
      options.size = size?.bytes ?? options.size
      options.mirror = mirror ?? options.mirror
      options.packages =
        try include?.split(separator: ",").map { try Self.plain(String($0), "--include") } ?? []
      options.isFresh = fresh
      for file in sshKey {
        guard let text = try FileReading.text(file) else {
          throw UsageFailure("\(printable(file)): no such file")
        }
        options.sshKeys += text
      }
      let start = MonotonicClock.now
      let name = try MachineName(name)
      try DebianTemplate(inventory: try openInventory(), options: options, report: say).build(name)
      let seconds = (MonotonicClock.now - start) / 1_000_000_000
      say("\(name): made in \(seconds) s; 'uj start -t \(name) NEW -c' starts a machine of it")
    }

    /// Nothing that a shell or apt would read otherwise.
    private static func plain(_ text: String, _ option: String) throws -> String {
      let isPlain = text.utf8.allSatisfy {
        (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
          || ".+-_:".utf8.contains($0)
      }
      guard isPlain, !text.isEmpty, !text.hasPrefix("-") else {
        throw UsageFailure("\(option) \(printable(text)): letters, digits and .+-_: only")
      }
      return text
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "list",
      abstract: "List templates and what grew from them.")

    func run() throws {
      let inventory = try openInventory()
      for name in try inventory.names() {
        guard let definition = try? inventory.definition(name), definition.isTemplate else {
          continue
        }
        let count = try inventory.dependents(of: name).count
        say("\(name)  \(count) machine\(count == 1 ? "" : "s")  \(definition.notes)")
      }
    }
  }
}
