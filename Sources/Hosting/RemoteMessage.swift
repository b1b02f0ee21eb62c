/// A JSON-RPC 2.0 error object.
package struct RemoteError: Error, Sendable, Equatable, CustomStringConvertible {
  package var code: Int64
  package var message: String
  package var description: String { message }

  package init(code: Int64 = RemoteError.failed, _ message: String) {
    self.code = code
    self.message = message
  }

  // JSON-RPC 2.0, section 5.1; -32000 and below are ours to give.
  package static let parseError: Int64 = -32700
  package static let invalidRequest: Int64 = -32600
  package static let methodNotFound: Int64 = -32601
  package static let invalidParameters: Int64 = -32602
  package static let failed: Int64 = -32000
}

/// One object of JSON-RPC 2.0; each is one line on the control socket. Batches are not part of our protocol.
package enum RemoteMessage: Sendable, Equatable {
  /// A nil identifier is a notification.
  case call(identifier: JSONValue?, method: String, parameters: JSONValue)
  case result(identifier: Int64, JSONValue)
  case error(identifier: Int64?, RemoteError)

  /// A line is refused beyond this many bytes.
  package static let lineLimit = 65536
  package static let protocolVersion: Int64 = 1

  package static func request(_ line: [UInt8]) -> Result<RemoteMessage, RemoteError> {
    let value: JSONValue
    do {
      value = try JSONValue(parsing: line)
    } catch {
      return .failure(RemoteError(code: RemoteError.parseError, "no JSON: \(error)"))
    }
    guard value["jsonrpc"]?.string == "2.0", let method = value["method"]?.string else {
      return .failure(
        RemoteError(
          code: RemoteError.invalidRequest,
          "expected an object with \"jsonrpc\": \"2.0\" and \"method\""))
    }
    let identifier = value["id"]
    switch identifier {
    case nil, .integer, .string, .null: break
    default:
      return .failure(
        RemoteError(code: RemoteError.invalidRequest, "id must be a number or a text"))
    }
    return .success(
      .call(identifier: identifier, method: method, parameters: value["params"] ?? .object([:])))
  }

  /// What a client reads: an answer or a notification; nil when it is neither.
  package static func incoming(_ line: [UInt8]) -> RemoteMessage? {
    guard let value = try? JSONValue(parsing: line), value["jsonrpc"]?.string == "2.0" else {
      return nil
    }
    if let method = value["method"]?.string {
      return .call(identifier: nil, method: method, parameters: value["params"] ?? .null)
    }
    if let error = value["error"] {
      return .error(
        identifier: value["id"]?.integer,
        RemoteError(
          code: error["code"]?.integer ?? RemoteError.failed,
          error["message"]?.string ?? "an error without a message"))
    }
    guard let identifier = value["id"]?.integer, let result = value["result"] else { return nil }
    return .result(identifier: identifier, result)
  }

  package static func callLine(
    _ method: String, _ parameters: JSONValue, identifier: Int64?
  ) -> [UInt8] {
    var members: [String: JSONValue] = [
      "jsonrpc": "2.0", "method": .string(method), "params": parameters,
    ]
    if let identifier { members["id"] = .integer(identifier) }
    return line(.object(members))
  }

  package static func resultLine(_ identifier: JSONValue, _ result: JSONValue) -> [UInt8] {
    line(["jsonrpc": "2.0", "id": identifier, "result": result])
  }

  package static func errorLine(_ identifier: JSONValue, _ error: RemoteError) -> [UInt8] {
    line([
      "jsonrpc": "2.0", "id": identifier,
      "error": ["code": .integer(error.code), "message": .string(error.message)],
    ])
  }

  private static func line(_ value: JSONValue) -> [UInt8] {
    Array(value.text.utf8) + [UInt8(ascii: "\n")]
  }
}
