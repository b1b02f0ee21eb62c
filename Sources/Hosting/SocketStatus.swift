import Devices
import Machine

/// What is known of a running machine's socket device.
package struct SocketStatus: Sendable, Equatable {
  /// The guest's address.
  package var contextIdentifier: UInt32
  /// Where programs of this host connect.
  package var path: String
  package var statistics = GuestSocketPoint.Statistics()

  init(_ device: SocketDeviceConfiguration, _ statistics: GuestSocketPoint.Statistics) {
    contextIdentifier = device.contextIdentifier
    path = device.path
    self.statistics = statistics
  }

  package var json: JSONValue {
    [
      "cid": .unsigned(contextIdentifier), "path": .string(path),
      "connections": .unsigned(statistics.connections), "opened": .unsigned(statistics.opened),
      "refused": .unsigned(statistics.refused), "malformed": .unsigned(statistics.malformed),
      "bytesToGuest": .unsigned(statistics.bytesToGuest),
      "bytesFromGuest": .unsigned(statistics.bytesFromGuest),
    ]
  }

  /// nil when address or path are missing.
  package init?(_ json: JSONValue) {
    func count(_ key: String) -> UInt64? { json[key]?.integer.flatMap { UInt64(exactly: $0) } }
    guard let path = json["path"]?.string, let number = count("cid"),
      let address = UInt32(exactly: number)
    else { return nil }
    contextIdentifier = address
    self.path = path
    statistics.connections = count("connections").flatMap { Int(exactly: $0) } ?? 0
    statistics.opened = count("opened") ?? 0
    statistics.refused = count("refused") ?? 0
    statistics.malformed = count("malformed") ?? 0
    statistics.bytesToGuest = count("bytesToGuest") ?? 0
    statistics.bytesFromGuest = count("bytesFromGuest") ?? 0
  }
}
