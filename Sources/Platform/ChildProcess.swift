import CLinux

/// Runs another program to its end and collects what it prints.
public enum ChildProcess {
  public struct Result: Sendable {
    /// Exit status, or 128 + signal.
    public var status: Int32
    /// Standard output and standard error, as they came.
    public var output: String
  }

  /// - Parameters:
  ///   - arguments: The program's absolute path and its arguments.
  ///   - environment: Additions to our own environment.
  ///   - folder: Where it runs; nil is our own working folder.
  ///   - input: What it reads from standard input; nothing by default.
  ///   - seconds: After which it is killed; nil: it has all the time that it wants.
  ///   - output: Called with each piece of output as it comes.
  ///   - late: Called with its number before it is killed for the time it took.
  /// - Throws: `PlatformError` when it cannot be started.
  public static func run(
    _ arguments: [String], environment: [String: String] = [:], folder: String? = nil,
    input: String = "", seconds: Double? = nil, output: (String) -> Void = { _ in },
    late: (pid_t) -> Void = { _ in }
  ) throws(PlatformError) -> Result {
    let child = try start(arguments, environment: environment, folder: folder, input: input)
    let reader = child.output
    let deadline = seconds.map { MonotonicClock.now &+ UInt64(max(0, min($0, 1e6)) * 1e9) }
    var collected: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      if let deadline, !isReadable(reader.descriptor.rawValue, until: deadline) {
        // What it has started may keep the pipe open: its end is not waited for.
        late(child.identifier)
        kill(child.identifier, SIGKILL)
        break
      }
      let count = buffer.withUnsafeMutableBytes { (try? reader.descriptor.read(into: $0)) ?? 0 }
      if count == 0 { break }
      collected += buffer[..<count]
      output(String(decoding: buffer[..<count], as: UTF8.self))
    }
    let status = wait(for: child.identifier)
    return Result(status: status, output: String(decoding: collected, as: UTF8.self))
  }

  /// Whether something, or the end, is there to be read before a time of `MonotonicClock`.
  private static func isReadable(_ descriptor: Int32, until deadline: UInt64) -> Bool {
    while true {
      let now = MonotonicClock.now
      guard now < deadline else { return false }
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      if poll(&entry, 1, Int32(clamping: (deadline - now) / 1_000_000 + 1)) > 0 { return true }
    }
  }

  /// A child that runs.
  public struct Running: Sendable {
    public let identifier: pid_t
    /// The reading end of a pipe with its standard output and standard error.
    public let output: SharedDescriptor
  }

  /// Starts a program and returns at once. The caller reads `output` and calls `wait(for:)`.
  ///
  /// - Parameter passing: A descriptor of ours, not 0 to 2, that the program has as its descriptor 3.
  public static func start(
    _ arguments: [String], environment: [String: String] = [:], folder: String? = nil,
    input: String = "", passing: Int32? = nil
  ) throws(PlatformError) -> Running {
    var outputPipe: [Int32] = [-1, -1]
    try systemCall("pipe2") { linux_pipe2(&outputPipe, O_CLOEXEC) }
    let reader = SharedDescriptor(owning: outputPipe[0])
    let writer = FileDescriptor(owning: outputPipe[1])
    let inputFile = try temporaryFile(holding: input)
    let child = try spawn(
      arguments, environment: environment, folder: folder, input: inputFile.rawValue,
      output: writer.rawValue, passing: passing)
    return Running(identifier: child, output: reader)
  }

  /// Waits for the end of a child: its exit status, or 128 + signal.
  public static func wait(for child: pid_t) -> Int32 {
    var status: Int32 = 0
    while waitpid(child, &status, 0) == -1 {
      if linux_error_number() != EINTR { return 127 }
    }
    let signal = status & 0x7F
    return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
  }

  /// A pipe could block on a long input before the child reads; a file cannot.
  private static func temporaryFile(holding text: String) throws(PlatformError) -> FileDescriptor {
    let file = FileDescriptor(
      owning: try systemCall("memfd_create") { linux_memfd_create("input", UInt32(MFD_CLOEXEC)) })
    var text = text
    let number = file.rawValue
    let written = text.withUTF8 { CLinux.write(number, $0.baseAddress, $0.count) }
    guard written == text.utf8.count, lseek(number, 0, SEEK_SET) == 0 else {
      throw PlatformError(operation: "write", code: linux_error_number())
    }
    return file
  }

  private static func spawn(
    _ arguments: [String], environment: [String: String], folder: String?, input: Int32,
    output: Int32, passing: Int32?
  ) throws(PlatformError) -> pid_t {
    guard let program = arguments.first else {
      throw PlatformError(operation: "posix_spawn", code: ENOENT)
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input, 0)
    posix_spawn_file_actions_adddup2(&actions, output, 1)
    posix_spawn_file_actions_adddup2(&actions, output, 2)
    // Last: what stood at 3 has been used. Equal numbers only lose their close-on-exec flag.
    if let passing { posix_spawn_file_actions_adddup2(&actions, passing, 3) }
    if let folder { linux_spawn_change_folder(&actions, folder) }
    // A child would inherit the signals that this process blocks to read them elsewhere, and could not be ended by them.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var child = pid_t()
    let argumentVector = CStringVector(arguments)
    let variables = CStringVector(merged(environment))
    let code = posix_spawn(
      &child, program, &actions, &attributes, argumentVector.pointer, variables.pointer)
    guard code == 0 else {
      throw PlatformError(operation: "posix_spawn", code: code, subject: program)
    }
    return child
  }

  private static func merged(_ additions: [String: String]) -> [String] {
    var list = additions.map { "\($0.key)=\($0.value)" }
    guard var entry = linux_environment() else { return list }
    while let text = entry.pointee.map({ String(cString: $0) }) {
      let name = text.prefix { $0 != "=" }
      if additions[String(name)] == nil { list.append(text) }
      entry += 1
    }
    return list
  }
}

/// A NULL-terminated array of C strings, as exec wants it.
public final class CStringVector {
  public let pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  private let count: Int

  public init(_ strings: [String]) {
    count = strings.count
    pointer = .allocate(capacity: count + 1)
    for (index, string) in strings.enumerated() {
      (pointer + index).initialize(to: strdup(string))
    }
    (pointer + count).initialize(to: nil)
  }

  deinit {
    for index in 0..<count { free(pointer[index]) }
    pointer.deallocate()
  }
}
