import CLinux
import Devices
import Machine
import Networks
import Platform

/// The control protocol's methods for network adapters.
extension MachineHost {
  static let networkMethods: [(name: String, summary: String)] = [
    ("network.list", "adapters with addresses, forwards and counters"),
    ("network.link", "{adapter, up}: put the cable in or pull it out"),
    ("network.rate", "{adapter, rate}: bits a second each way, as in 10M; null: no limit"),
    ("network.forward", "{adapter, forward}: listen on a port of the host, as in 2222:22"),
    ("network.unforward", "{adapter, forward}: end that"),
    (
      "network.capture",
      "{adapter}: after the answer the connection is a packet capture in the pcap format"
    ),
  ]

  /// nil: no such method.
  func answerNetwork(_ method: String, _ parameters: JSONValue) -> ControlServer.Answer? {
    guard Self.networkMethods.contains(where: { $0.name == method }) else { return nil }
    if method == "network.list" {
      return .result(.array(machine.networkPorts.map { NetworkStatus($0).json }))
    }
    let ports = machine.networkPorts
    guard !ports.isEmpty else { return .error(RemoteError("\(name) has no network adapter")) }
    guard let number = (parameters["adapter"] ?? 0).integer.flatMap({ Int(exactly: $0) }),
      ports.indices.contains(number)
    else {
      return .error(
        RemoteError(
          code: RemoteError.invalidParameters,
          "\(name) has network adapters 0 to \(ports.count - 1) only"))
    }
    switch method {
    case "network.link":
      guard let up = parameters["up"]?.bool else {
        return .error(
          RemoteError(code: RemoteError.invalidParameters, "up must be true or false"))
      }
      ports[number].setUp(up)
      return .result(true)
    case "network.rate":
      let text = parameters["rate"]?.string
      let rate = text.flatMap { BitRate.read($0) }
      guard rate != nil || parameters["rate"] == .null else {
        return .error(
          RemoteError(
            code: RemoteError.invalidParameters,
            "rate must be bits a second from 8k to 100G, such as 10M, or null"))
      }
      ports[number].backend.setRate(rate)
      return .result(true)
    case "network.capture": return capture(ports[number])
    default:
      return changeForward(
        parameters["forward"]?.string, of: ports[number], adds: method == "network.forward")
    }
  }

  private func changeForward(
    _ text: String?, of port: NetworkPort, adds: Bool
  ) -> ControlServer.Answer {
    guard let forward = text.flatMap({ PortForward($0) }) else {
      return .error(
        RemoteError(
          code: RemoteError.invalidParameters,
          "forward must be [tcp|udp:][ADDRESS:]HOST-PORT:[ADDRESS:]GUEST-PORT, such as 2222:22"))
    }
    guard let network = port.userNetwork else {
      return .error(
        RemoteError(
          port.configuration.kind == .passt
            ? "\(name): passt takes forwards at its start only: 'uj set \(name) networks=...'"
            : "\(name): \(port.configuration.kind.text) has no forwards; a user network has"))
    }
    do throws(NetworkError) {
      if adds { try network.add(forward) } else { try network.remove(forward) }
    } catch {
      return .error(RemoteError(error.description))
    }
    return .result(.array(network.forwards.map { .string($0.description) }))
  }

  private func capture(_ port: NetworkPort) -> ControlServer.Answer {
    .handOver(["linkType": .string("ethernet")]) { descriptor, _ in
      do throws(PlatformError) {
        port.add(try PacketCapture(descriptor) { port.remove($0) })
      } catch {
        close(descriptor)
      }
    }
  }
}
