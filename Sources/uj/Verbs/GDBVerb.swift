import ArgumentParser
import CLinux
import Glibc
import Hosting
import Inventory
import Platform

struct GDBVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gdb",
    abstract: "Debug a running machine's guest with GDB.",
    discussion: """
      Listens on a Unix socket for GDB's remote protocol until it is interrupted, and prints what to type in GDB. With -- \
      and arguments, starts gdb with them, connected. While a debugger is connected the guest stands still, until it is told \
      to continue; when it leaves, the guest goes on as before.

      Processors are threads. Addresses are those of the selected processor's page tables. The software processor takes \
      256 breakpoints and 16 watchpoints and writes nothing into the guest; KVM has the hardware's four in all. 'monitor dump' \
      prints all system registers.

      EXAMPLES
        uj gdb web
        uj gdb web -- -q vmlinux
        uj gdb web -- -batch -ex 'info threads' -ex bt vmlinux
      """)

  @Argument(help: "The machine.")
  var name: NameArgument
  @Option(
    help: ArgumentHelp(
      "Where the socket is made, instead of gdb.sock in the machine's runtime folder.",
      valueName: "path"))
  var socket: String?
  @Flag(help: "Speak the protocol on standard input and output.")
  var stdio = false
  @Argument(parsing: .postTerminator, help: "Arguments for gdb.")
  var arguments: [String] = []

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    if stdio {
      // Control-C on the terminal that GDB has is for GDB, which tells us.
      _ = linux_ignore_signal(SIGINT)
      let (descriptor, received) = try MachineClient(name, at: inventory.location)
        .attachDebugger()
      return ByteRelay.run(near: (0, 1), far: descriptor, received: received)
    }
    // Whether it runs at all, before anything is started.
    _ = try MachineClient(name, at: inventory.location).status()
    guard arguments.isEmpty else { return try startDebugger(name) }
    try listen(
      socket.map { InventoryLocation.absolute($0) }
        ?? inventory.location.runtimeFolder(name) + "/gdb.sock", name, inventory.location)
  }

  /// GDB starts a program of ours that it talks to by a pipe.
  private func startDebugger(_ name: MachineName) throws {
    // In quotes for the shell that GDB asks.
    let program = HostProcess.runningProgram().split(
      separator: "'", omittingEmptySubsequences: false
    ).joined(separator: "'\\''")
    let target = "target remote | exec '\(program)' gdb --stdio \(name)"
    var list = (["gdb", "-ex", target] + arguments).map { strdup($0) } + [nil]
    execvp("gdb", &list)
    throw UsageFailure("gdb: \(String(cString: strerror(linux_error_number())))")
  }

  // MARK: A socket

  private func listen(_ path: String, _ name: MachineName, _ location: InventoryLocation) throws {
    let listener = try Self.makeListener(path)
    defer { unlink(path) }
    say("target remote \(path)")
    while true {
      let descriptor = linux_accept4(listener.rawValue, Int32(SOCK_CLOEXEC.rawValue))
      guard descriptor >= 0 else {
        if linux_error_number() == EINTR || linux_error_number() == ECONNABORTED { continue }
        throw PlatformError(operation: "accept", code: linux_error_number(), subject: path)
      }
      defer { close(descriptor) }
      do {
        let (machine, received) = try MachineClient(name, at: location).attachDebugger()
        ByteRelay.run(near: (descriptor, descriptor), far: machine, received: received)
        close(machine)
      } catch {
        if error.kind == .notRunning { throw error }
        Failure.note("\(error)")
      }
    }
  }

  /// Only this user can connect, from the first moment on; what a killed one has left is replaced.
  private static func makeListener(_ path: String) throws -> FileDescriptor {
    guard path.utf8.count <= 107 else {
      throw UsageFailure("\(printable(path)): is too long for a socket; name another with --socket")
    }
    var information = stat()
    if lstat(path, &information) == 0 {
      guard information.st_mode & Glibc.S_IFMT == Glibc.S_IFSOCK, !answers(path) else {
        throw UsageFailure("\(printable(path)): is in use; name another with --socket")
      }
      unlink(path)
    }
    let listener = FileDescriptor(owning: try systemCall("socket", path) { linux_unix_socket() })
    let number = listener.rawValue
    _ = try systemCall("fchmod", path) { fchmod(number, 0o600) }
    _ = try systemCall("bind", path) { linux_unix_bind(number, path) }
    _ = try systemCall("listen", path) { CLinux.listen(number, 4) }
    // It is waited on.
    let flags = linux_fcntl(number, F_GETFL, 0)
    _ = linux_fcntl(number, F_SETFL, flags & ~O_NONBLOCK)
    return listener
  }

  private static func answers(_ path: String) -> Bool {
    let number = linux_unix_socket()
    guard number >= 0 else { return false }
    defer { close(number) }
    return linux_unix_connect(number, path) == 0
  }
}
