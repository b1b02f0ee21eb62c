import CLinux
import Platform

/// The ncurses front end: `uj` without arguments.
public enum ConsoleUI {
  /// What the command line and the configuration say.
  public struct Options: Sendable {
    /// A theme's name, or a path with a slash; nil takes that of the configuration.
    public var theme: String?
    /// Draws with ASCII characters only, whatever the configuration says.
    public var usesASCII = false
    /// A machine whose console is opened at once.
    public var attach: String?
    /// Runs the demonstration at once.
    public var runsDemo = false

    public init() {}
  }

  /// Shows the console until the user leaves it. Machines are not touched by leaving.
  ///
  /// - Returns: The exit status: 0, or 1 when the terminal can not be used (one line on standard error says why).
  package static func run(
    service: any MachineService, files: FileAccess, options: Options = Options()
  ) -> Int32 {
    let variables: (String) -> String? = { name in getenv(name).map { String(cString: $0) } }
    let store = ConfigurationStore(files: files, environment: variables)
    let (configuration, problems) = store?.load() ?? (Configuration(), [])
    let environment = TerminalEnvironment(
      variables, isASCIIForced: options.usesASCII || configuration.usesASCII)
    do {
      let session = try Session(
        service: service, options: options, environment: environment, variables: variables,
        files: files, store: store, configuration: configuration, problems: problems)
      return session.run()
    } catch {
      fputs("uj: \(error)\n", linux_standard_error())
      return 1
    }
  }

  /// The path of this process's executable.
  static var executablePath: String {
    var bytes = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &bytes, bytes.count)
    return count > 0
      ? String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
  }
}
