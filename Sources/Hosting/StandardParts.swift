import Devices
import Inventory
import Machine

extension HostParts {
  /// The real board and the real multiplexer.
  package static let standard = HostParts(
    makeMachine: board,
    makeSerial: { (place) throws(HostingError) in
      switch place.target {
      case .console, .pty: try SerialLine(place)
      case .file(let path): try SerialSink(path: path)
      case .none: try SerialSink(path: nil)
      }
    })
}
