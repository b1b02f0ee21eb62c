import Glibc
import Platform
import TestGuests

/// The built `uj` with an inventory of its own.
struct Underjack {
  /// `uj`, beside the test program.
  static let program: String = {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    let path = String(
      decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    var folder = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
    // The test bundle may be run by a helper of the tool chain; then the working folder is the package.
    if access("\(folder)/uj", X_OK) == 0 { return "\(folder)/uj" }
    for configuration in ["release", "debug"] {
      folder = ".build/\(configuration)"
      if access("\(folder)/uj", X_OK) == 0 {
        return String(cString: realpath("\(folder)/uj", nil))
      }
    }
    return "uj"
  }()

  let folder: String
  var environment: [String: String] {
    [
      "UNDERJACK_HOME": "\(folder)/home", "XDG_RUNTIME_DIR": "\(folder)/run",
      "XDG_CONFIG_HOME": "\(folder)/config",
      // The runtime's own crash report would wait for a key.
      "SWIFT_BACKTRACE": "enable=no",
    ]
  }

  init() throws {
    folder = try TestFolder.make("home")
    mkdir("\(folder)/home", 0o700)
    mkdir("\(folder)/run", 0o700)
    mkdir("\(folder)/config", 0o700)
    mkdir("\(folder)/config/underjack", 0o700)
    // Else the first attach asks which key leads commands.
    try writeFile(configuration, "prefix = \"C-]\"\n")
  }

  /// The user's settings.
  var configuration: String { "\(folder)/config/underjack/config.toml" }

  /// Runs a verb and returns what it printed.
  func callAsFunction(_ arguments: String...) throws -> ChildProcess.Result {
    try TestProcess.run([Self.program] + arguments, environment: environment)
  }

  func callAsFunction(_ arguments: [String]) throws -> ChildProcess.Result {
    try TestProcess.run([Self.program] + arguments, environment: environment)
  }

  /// Runs a verb that must succeed.
  @discardableResult
  func run(_ arguments: String...) throws -> String { try run(arguments) }

  @discardableResult
  func run(_ arguments: [String]) throws -> String {
    let result = try TestProcess.run([Self.program] + arguments, environment: environment)
    guard result.status == 0 else {
      throw TestGuestError(
        "uj \(arguments.joined(separator: " ")): status \(result.status): \(result.output)")
    }
    return result.output
  }

  /// Ends every machine of this inventory.
  func close() {
    _ = try? TestProcess.run([Self.program, "stop", "-f", "-a"], environment: environment)
  }
}
