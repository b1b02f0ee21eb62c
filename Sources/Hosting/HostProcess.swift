import CLinux
import Glibc
import Inventory
import Platform

/// A machine's host as a process of its own: how it is started and how it says that it runs.
package enum HostProcess {
  /// The descriptor on which the child reports, see `linux_spawn_detached`.
  package static let reportDescriptor: Int32 = 3
  static let logLimit = 1 << 20

  /// Starts a machine's host, detached from this process and its terminal, and returns when the machine runs.
  ///
  /// - Parameters:
  ///   - program: `uj`; nil is the program that is running.
  ///   - timeout: seconds.
  /// - Throws: the child's own one-line error, or what the log's last lines tell of its death.
  package static func spawn(
    _ name: MachineName, _ inventory: Inventory, program: String? = nil,
    arguments: (MachineName) -> [String] = { ["uj", "host", "--report", $0.description] },
    timeout: Double = 30
  ) throws(HostingError) {
    let location = inventory.location
    guard inventory.exists(name) else {
      throw HostingError(
        .inventory(.notFound), "\(name): no such machine; 'uj status' lists them")
    }
    if let holder = inventory.holder(name), holder.role == .host {
      throw HostingError(
        .inventory(.running), "\(name): is running already (host process \(holder.process))")
    }
    let log = try openLog(location.hostLog(name), in: location.log(name))
    let reader = try begin(arguments(name), location, log.rawValue, program: program)
    do throws(HostingError) {
      try awaitReport(name, reader.rawValue, location, timeout)
    } catch {
      // It has said why and ends: who mends that and starts the machine again must not find it running.
      if error.kind == .machine { awaitEnd(name, inventory) }
      throw error
    }
  }

  /// - Parameter go: what the child waits for, see `PreparedHost`; -1: nothing.
  /// - Returns: where it reports.
  static func begin(
    _ arguments: [String], _ location: InventoryLocation, _ log: Int32, go: Int32 = -1,
    program: String?
  ) throws(HostingError) -> FileDescriptor {
    var ends: [Int32] = [-1, -1]
    try platform { () throws(PlatformError) in
      _ = try systemCall("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
    }
    let reader = FileDescriptor(owning: ends[0])
    // Ours must be closed for the end of the child's to be seen.
    let writer = FileDescriptor(owning: ends[1])
    let path = program ?? runningProgram()
    let code = start(path, arguments, environment(location), log, writer.rawValue, go)
    guard code == 0 else {
      throw HostingError(PlatformError(operation: "fork", code: code, subject: path))
    }
    return reader
  }

  /// Waits until a machine's host has let go of the machine, for some seconds at most.
  static func awaitEnd(_ name: MachineName, _ inventory: Inventory) {
    let deadline = MonotonicClock.now &+ 5_000_000_000
    while inventory.holder(name)?.role == .host, MonotonicClock.now < deadline { usleep(2000) }
  }

  /// Starts `uj` with other work than a host's, detached from this process; what it prints goes to the machine's log.
  package static func detach(
    _ arguments: [String], for name: MachineName, _ inventory: Inventory, program: String? = nil
  ) throws(HostingError) {
    let location = inventory.location
    let log = try openLog(location.hostLog(name), in: location.log(name))
    let path = program ?? runningProgram()
    let code = start(
      path, ["uj"] + arguments, environment(location), log.rawValue, log.rawValue, -1)
    guard code == 0 else {
      throw HostingError(PlatformError(operation: "fork", code: code, subject: path))
    }
  }

  /// 0 or the value of `errno`.
  private static func start(
    _ path: String, _ arguments: [String], _ environment: [String], _ log: Int32, _ report: Int32,
    _ go: Int32
  ) -> Int32 {
    withCStrings(arguments) { arguments in
      withCStrings(environment) { variables in
        linux_spawn_detached(path, arguments, variables, log, report, go) == 0
          ? 0 : linux_error_number()
      }
    }
  }

  /// - Parameter executing: called when the guest executes, where the child says that before it is done.
  static func awaitReport(
    _ name: MachineName, _ descriptor: Int32, _ location: InventoryLocation, _ timeout: Double,
    executing: () -> Void = {}
  ) throws(HostingError) {
    let deadline = MonotonicClock.now &+ UInt64(timeout * 1e9)
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while text.count < 65536 {
      if text.starts(with: executingLine) {
        text.removeFirst(executingLine.count)
        executing()
      }
      if text.contains(UInt8(ascii: "\n")) { break }
      guard ControlSocket.wait(descriptor, for: POLLIN, until: deadline) else {
        throw HostingError(
          .timeout, "\(name): did not start in \(Int(timeout)) s; see \(location.hostLog(name))")
      }
      guard let count = ControlSocket.receive(descriptor, into: &chunk), count > 0 else { break }
      text += chunk[..<count]
    }
    let line = String(decoding: text.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    if line == "ok" { return }
    if line.hasPrefix("error ") { throw HostingError(.machine, printable(line.dropFirst(6))) }
    let last = FileReading.lastLines(location.hostLog(name), count: 1).first
    throw HostingError(
      .machine, "\(name): its host process died at the start\(last.map { ": " + $0 } ?? "")")
  }

  private static let executingLine = Array("executing\n".utf8)

  /// In the child: says that the guest executes, while the host is not done yet. `report` follows.
  package static func reportExecuting() {
    _ = executingLine.withUnsafeBytes { write(reportDescriptor, $0.baseAddress, $0.count) }
  }

  /// In the child: says that the machine runs, or why not. Does nothing when there is nobody to tell.
  package static func report(_ error: String?) {
    let text = (error.map { "error " + printable($0) } ?? "ok") + "\n"
    _ = text.utf8CString.withUnsafeBytes {
      write(reportDescriptor, $0.baseAddress, $0.count - 1)
    }
    close(reportDescriptor)
  }

  static func openLog(
    _ path: String, in folder: String
  ) throws(HostingError) -> FileDescriptor {
    mkdir(folder, 0o700)
    var information = stat()
    if stat(path, &information) == 0, information.st_size > logLimit {
      rename(path, path + ".1")
    }
    return try platform { () throws(PlatformError) in
      try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND)
    }
  }

  /// The file of the running program, also after it has been replaced on disk.
  package static func runningProgram() -> String {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    let count = readlink("/proc/self/exe", &buffer, Int(PATH_MAX))
    guard count > 0 else { return "/proc/self/exe" }
    let path = buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    return FileReading.exists(path) ? path : "/proc/self/exe"
  }

  /// Ours, with the places fixed, whatever the child's session would make of them.
  private static func environment(_ location: InventoryLocation) -> [String] {
    var variables: [String] = []
    if var entry = linux_process_environment() {
      while let pointer = entry.pointee {
        let text = String(cString: pointer)
        if !text.hasPrefix("UNDERJACK_HOME="), !text.hasPrefix("UNDERJACK_RUNTIME=") {
          variables.append(text)
        }
        entry += 1
      }
    }
    return variables + [
      "UNDERJACK_HOME=\(location.home)", "UNDERJACK_RUNTIME=\(location.runtime)",
    ]
  }

  private static func withCStrings<Result>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
  ) -> Result {
    let pointers = strings.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    return body(pointers + [nil])
  }
}
