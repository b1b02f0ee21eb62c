import ArgumentParser
import Networks

struct BridgeHelperVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bridge-helper",
    abstract: "Make a tap on a bridge for a machine of a user without that right.",
    discussion: """
      Machines on 'bridge:NAME' ask this program when their user may not make taps. An administrator installs a copy of \
      uj that has the right:

        install -D -m 0755 uj /usr/lib/underjack/bridge-helper
        setcap cap_net_admin+ep /usr/lib/underjack/bridge-helper

      (or chmod u+s where /dev/net/tun is root's alone). A copy with more rights than its user is this helper and \
      nothing else. Without one, QEMU's qemu-bridge-helper is asked if it is installed.

      /etc/underjack/bridge.conf says who may use which bridge; it must be root's, and nobody else may write it. The first \
      line that fits decides; without one it is no:

        allow br0 user:ada group:kvm
        deny all user:eve
        allow lab

      The tap's descriptor goes over the Unix socket --fd (SCM_RIGHTS).
      """,
    shouldDisplay: false)

  @Option(name: .customLong("br"), help: ArgumentHelp("The bridge.", valueName: "bridge"))
  var bridge: String
  @Option(help: ArgumentHelp("An inherited Unix socket.", valueName: "number"))
  var fd: Int32
  @Option(help: "How many queues the tap is to have.")
  var queues = 1
  @Flag(help: "As for QEMU's helper; always so.")
  var useVnet = false

  func run() throws {
    let status = BridgeHelper.run(["--br=\(bridge)", "--fd=\(fd)", "--queues=\(queues)"])
    if status != 0 { throw ExitStatus(status: status) }
  }
}
