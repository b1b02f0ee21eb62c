import Devices
import Machine
import Networks

/// What a machine's parts ask of the kernel beyond what every machine does.
struct SandboxNeeds: Sendable, Equatable {
  /// Sockets of the Internet protocols, made while it runs.
  var usesInternet = false
  /// Unix sockets, made while it runs.
  var usesLocalSockets = false
  /// Names are looked up for the guest.
  var resolvesNames = false
  /// A program that was started before runs beside it.
  var hasProgram = false
  var usesTaps = false
  /// Folders with ports of switches, watched.
  var usesSwitches = false
  /// The guest's code is translated: mappings that can be written and, elsewhere, executed.
  var translates = false

  init() {}

  init(_ configuration: MachineConfiguration, translates: Bool) {
    self.translates = translates
    usesLocalSockets = configuration.socketDevice != nil
    for network in configuration.networks {
      switch network.kind {
      case .user:
        // Also one that reaches nobody: it forwards ports, and looks up names.
        usesInternet = true
        resolvesNames = true
      case .passt:
        hasProgram = true
      case .stream(let address):
        if case .file = address { usesLocalSockets = true } else { usesInternet = true }
      case .networkSwitch:
        usesSwitches = true
        usesLocalSockets = true
      case .tap, .tapDescriptors, .bridge: usesTaps = true
      case .none: break
      }
    }
  }
}
