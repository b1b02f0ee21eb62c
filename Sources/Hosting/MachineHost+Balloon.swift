import Devices
import Inventory
import Machine

/// The control protocol's methods for the memory balloon.
extension MachineHost {
  static let balloonMethods: [(name: String, summary: String)] = [
    ("balloon.status", "what the guest keeps and is to keep, and its own figures"),
    ("balloon.set", "{target}: ask the guest to keep so many bytes and to give the rest back"),
  ]

  /// nil: no such method.
  func answerBalloon(_ method: String, _ parameters: JSONValue) -> ControlServer.Answer? {
    guard Self.balloonMethods.contains(where: { $0.name == method }) else { return nil }
    guard let balloon = machine.balloon else {
      return .error(
        RemoteError(
          "\(name) has no memory balloon; 'uj set \(name) balloon=true' gives it one at its next start"
        ))
    }
    if method == "balloon.status" { return .result(BalloonStatus(balloon.report()).json) }
    guard let target = parameters["target"]?.integer.flatMap({ UInt64(exactly: $0) }),
      balloon.setTarget(target)
    else {
      let least = min(MemoryBalloon.smallestTarget, balloon.memorySize)
      return .error(
        RemoteError(
          code: RemoteError.invalidParameters,
          "target must be \(ByteSize.format(least)) to \(ByteSize.format(balloon.memorySize))"))
    }
    server?.notify(.events, "state", status().json)
    return .result(BalloonStatus(balloon.report()).json)
  }
}
