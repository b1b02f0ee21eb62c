import Devices
import Machine
import Networks

/// What is known of a running machine's network adapter.
package struct NetworkStatus: Sendable, Equatable {
  /// As in the definition.
  package var text: String
  package var address: String
  package var isUp = true
  /// IPv4 addresses that the guest has been seen to use, the newest first; then IPv6.
  package var guestAddresses: [String] = []
  /// Ports of the host that lead to the guest.
  package var forwards: [String] = []
  package var bytesReceived: UInt64 = 0
  package var bytesSent: UInt64 = 0
  package var framesReceived: UInt64 = 0
  package var framesSent: UInt64 = 0
  package var framesDropped: UInt64 = 0
  package var framesRefused: UInt64 = 0
  /// Bits a second, each way, such as 10M; nil: no limit.
  package var rate: String?
  /// Of a cable whose other end comes and goes: whether it is there.
  package var cable: String?
  /// Frames of the guest that the other end did not take, and how often that broke a rule.
  package var framesLost: UInt64 = 0
  package var violations: UInt64 = 0

  package init(text: String, address: String) {
    self.text = text
    self.address = address
  }

  init(_ port: NetworkPort) {
    text = port.configuration.kind.text
    address = port.address.description
    isUp = port.isUp
    guestAddresses = port.neighbors.addresses4 + port.neighbors.addresses6
    forwards = (port.userNetwork?.forwards ?? port.configuration.user.forwards).map(\.description)
    rate = port.backend.rate.map { BitRate.text($0) }
    let other = port.backend.cable
    cable = other.state
    framesLost = other.framesLost
    violations = other.violations
    bytesReceived = port.statistics.bytesReceived
    bytesSent = port.statistics.bytesSent
    framesReceived = port.statistics.framesReceived
    framesSent = port.statistics.framesSent
    framesDropped = port.statistics.framesDropped
    framesRefused = port.statistics.framesRefused
  }

  package var json: JSONValue {
    [
      "network": .string(text), "address": .string(address), "up": .bool(isUp),
      "guestAddresses": .array(guestAddresses.map(JSONValue.string)),
      "forwards": .array(forwards.map(JSONValue.string)),
      "bytesReceived": .unsigned(bytesReceived), "bytesSent": .unsigned(bytesSent),
      "framesReceived": .unsigned(framesReceived), "framesSent": .unsigned(framesSent),
      "framesDropped": .unsigned(framesDropped), "framesRefused": .unsigned(framesRefused),
      "framesLost": .unsigned(framesLost), "violations": .unsigned(violations),
      "cable": cable.map(JSONValue.string) ?? .null,
      "rate": rate.map(JSONValue.string) ?? .null,
    ]
  }

  package init?(_ json: JSONValue) {
    guard let text = json["network"]?.string, let address = json["address"]?.string else {
      return nil
    }
    self.init(text: text, address: address)
    func count(_ key: String) -> UInt64 {
      json[key]?.integer.flatMap { UInt64(exactly: $0) } ?? 0
    }
    isUp = json["up"]?.bool ?? true
    guestAddresses = json["guestAddresses"]?.array?.compactMap(\.string) ?? []
    forwards = json["forwards"]?.array?.compactMap(\.string) ?? []
    bytesReceived = count("bytesReceived")
    bytesSent = count("bytesSent")
    framesReceived = count("framesReceived")
    framesSent = count("framesSent")
    framesDropped = count("framesDropped")
    framesRefused = count("framesRefused")
    framesLost = count("framesLost")
    violations = count("violations")
    cable = json["cable"]?.string
    rate = json["rate"]?.string
  }
}
