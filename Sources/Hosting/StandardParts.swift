import Devices
import Machine

extension HostParts {
  /// The real board and the real multiplexer.
  package static let standard = HostParts(
    makeMachine: board,
    makeSerial: { (place) throws(HostingError) in try SerialLine(place) })
}
