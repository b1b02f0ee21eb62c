import ArgumentParser
import CLinux
import Hosting
import Inventory
import Machine
import Networks
import Platform

/// The command line: one file a verb in `Verbs`, vmctl's words where it has one.
struct Uj: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "uj",
    abstract: "A terminal console for virtual machines.",
    discussion: """
      Without a verb, uj opens the console: a screen that lists, starts, stops, templates, snapshots and attaches to \
      machines. Machines run in processes of their own and do not need it.

      A verb may be shortened as long as it is unambiguous: 'uj stat' is 'uj status'.

      FILES
        $UNDERJACK_HOME (default ~/.local/share/underjack)
          machines/NAME/machine.toml   the definition; yours to edit
          machines/NAME/disks          the layers of its disks
          machines/NAME/log            host.log, serial0.log
        $XDG_RUNTIME_DIR/underjack/NAME
          control.sock, serial0        control socket, link to a port's terminal

      EXIT STATUS
        0 done; 1 failed, with one line that says why; 64 wrong usage;
        3 a processor gave up ('uj run')
      """,
    version: UnderjackVersion.text,
    groupedSubcommands: [
      CommandGroup(
        name: "Machines",
        subcommands: [
          NewVerb.self, CloneVerb.self, StartVerb.self, StopVerb.self, StatusVerb.self,
          ConsoleVerb.self,
          PauseVerb.self, UnpauseVerb.self, SuspendVerb.self, RewindVerb.self, ResetVerb.self,
          WaitVerb.self, SendVerb.self, ReceiveVerb.self,
          LogVerb.self,
          CDROMVerb.self, BalloonVerb.self, ScreenVerb.self, SendKeyVerb.self,
          StatsVerb.self, TraceVerb.self, SecurityVerb.self, DemoVerb.self,
          TemplateVerb.self,
        ]),
      CommandGroup(
        name: "Networks", subcommands: [NetworkVerb.self, SSHVerb.self, CaptureVerb.self]),
      CommandGroup(
        name: "Definitions",
        subcommands: [
          ShowVerb.self, SetVerb.self, EditVerb.self, RenameVerb.self, DeleteVerb.self,
          ImportVerb.self,
        ]),
      CommandGroup(
        name: "Disks", subcommands: [CreateVerb.self, DiskVerb.self, SnapshotVerb.self]),
      CommandGroup(
        name: "Other",
        subcommands: [
          RunVerb.self, GDBVerb.self, AutostartVerb.self, SystemdUnitVerb.self, RPCVerb.self,
          HostVerb.self,
          BridgeHelperVerb.self,
        ]),
    ])

  @Option(
    help: ArgumentHelp(
      "In front of the verb: do all of it on another computer, by ssh. Files that are named are that one's.",
      valueName: "ssh://user@server"))
  var host: String?
  @Option(help: "A colour theme for the console: its name, or a path with a slash.")
  var theme: String?

  /// Also of verbs: `RemoteHost` has taken the option where it stands in front.
  func validate() throws {
    guard host == nil else { throw ValidationError("--host goes in front of the verb.") }
  }

  func run() throws {
    try openConsole(theme: theme)
  }
}

@main
enum Main {
  static func main() {
    // Before anything else: what its user could lead astray runs only with that user's own rights.
    let path = CommandLine.arguments.first ?? ""
    if linux_has_foreign_rights() != 0 || path.split(separator: "/").last ?? "" == BridgeHelper.name
    {
      exit(BridgeHelper.run(Array(CommandLine.arguments.dropFirst())))
    }
    _ = linux_ignore_signal(SIGPIPE)
    let words = Array(CommandLine.arguments.dropFirst())
    do {
      try RemoteHost.runIfAsked(words)
    } catch {
      Failure.print(error)
      exit(64)
    }
    do {
      var command = try VerbPrefix.parse(words, of: Uj.self)
      try command.run()
    } catch let error as ExitStatus {
      exit(error.status)
    } catch  where Failure.isOurs(error) {
      Failure.print(error)
      exit(1)
    } catch {
      Uj.exit(withError: error)
    }
  }
}
