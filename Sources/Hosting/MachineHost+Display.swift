import Devices
import Machine

/// The control protocol's methods for display and keyboard.
extension MachineHost {
  func readDisplay(_ parameters: JSONValue) -> ControlServer.Answer {
    guard let snapshot = machine.displaySnapshot() else {
      return .error(
        RemoteError(
          "\(name) has no display; 'uj set \(name) display=vga' gives it one at its next start"))
    }
    if let generation = parameters["generation"] {
      guard let generation = generation.integer else {
        return .error(
          RemoteError(
            code: RemoteError.invalidParameters,
            "generation must be the number that display.read gave"))
      }
      if UInt64(exactly: generation) == snapshot.generation {
        return .result(["generation": .integer(generation)])
      }
    }
    return .result(snapshot.json)
  }

  func sendKeys(_ parameters: JSONValue) -> ControlServer.Answer {
    var names: [String] = []
    if let keys = parameters["keys"] {
      guard let values = keys.array?.map(\.string), !values.contains(nil) else {
        return .error(
          RemoteError(
            code: RemoteError.invalidParameters, "keys must be a list of names of keys"))
      }
      names = values.compactMap(\.self)
    }
    let text: String
    switch parameters["text"] {
    case nil: text = ""
    case .string(let value): text = value
    default:
      return .error(
        RemoteError(code: RemoteError.invalidParameters, "text must be a string"))
    }
    do {
      if !names.isEmpty { try machine.sendKeys(names) }
      if !text.isEmpty { try machine.type(text) }
    } catch {
      return .error(RemoteError(error.description))
    }
    return .result(true)
  }
}
