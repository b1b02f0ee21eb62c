import CLinux
import Inventory
import Platform

/// A machine's host process that has been started and waits for its machine: what it takes to start a program is over when
/// the machine is there.
final class PreparedHost {
  /// The descriptor on which the child waits, see `linux_spawn_detached`.
  static let descriptor: Int32 = 4

  private let name: MachineName
  private let inventory: Inventory
  private let report: FileDescriptor
  private let go: FileDescriptor

  /// - Parameters:
  ///   - log: the file that gets what the child prints.
  ///   - arguments: of `uj`, which calls `awaitGo`.
  init(
    _ name: MachineName, _ inventory: Inventory, log: (path: String, folder: String),
    program: String?, _ arguments: [String]
  ) throws(HostingError) {
    self.name = name
    self.inventory = inventory
    let output = try HostProcess.openLog(log.path, in: log.folder)
    var ends: [Int32] = [-1, -1]
    try platform { () throws(PlatformError) in
      _ = try systemCall("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
    }
    let waiting = FileDescriptor(owning: ends[0])
    go = FileDescriptor(owning: ends[1])
    report = try HostProcess.begin(
      arguments, inventory.location, output.rawValue, go: waiting.rawValue, program: program)
  }

  /// Lets the child begin, and returns when the machine runs. Without this call it ends when this object goes.
  ///
  /// - Parameters:
  ///   - timeout: seconds.
  ///   - executing: called when the guest executes, some time before that.
  /// - Throws: as `HostProcess.spawn`.
  func begin(timeout: Double = 30, executing: () -> Void) throws(HostingError) {
    // One that has died is seen by its report's end. Whoever sends a machine ignores SIGPIPE, as `uj` does.
    var byte = UInt8(ascii: "g")
    _ = write(go.rawValue, &byte, 1)
    do throws(HostingError) {
      try HostProcess.awaitReport(
        name, report.rawValue, inventory.location, timeout, executing: executing)
    } catch {
      if error.kind == .machine { HostProcess.awaitEnd(name, inventory) }
      throw error
    }
  }
}

extension HostProcess {
  /// In the child of a `PreparedHost`: comes back when the machine is there.
  ///
  /// - Returns: false: there will be none.
  package static func awaitGo() -> Bool {
    var byte: UInt8 = 0
    while true {
      let count = read(PreparedHost.descriptor, &byte, 1)
      if count > 0 {
        close(PreparedHost.descriptor)
        return true
      }
      if count == 0 { return false }
      // Started by hand there is nobody to wait for.
      guard linux_error_number() == EINTR else { return linux_error_number() == EBADF }
    }
  }
}
