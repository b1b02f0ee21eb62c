import CLinux
import Platform

/// Where things are on disk (DESIGN section 4): what lasts in `home`, what lives as long as the session in `runtime`.
package struct InventoryLocation: Sendable, Equatable {
  /// Absolute, no trailing slash.
  package let home: String
  /// Sockets and links of running machines. Only this user may enter it.
  package let runtime: String

  package init(home: String, runtime: String) {
    self.home = home
    self.runtime = runtime
  }

  /// `$UNDERJACK_HOME`, else `$XDG_DATA_HOME/underjack`, else `~/.local/share/underjack`; the runtime folder in
  /// `$XDG_RUNTIME_DIR`, else `/run/user/UID`, else `/tmp/underjack-UID`. `$UNDERJACK_RUNTIME` names the latter as it is.
  package init(
    environment: (String) -> String? = Self.environmentVariable, user: UInt32 = getuid()
  ) throws(InventoryError) {
    let standard = try Self.standardHome(environment)
    let home = environment("UNDERJACK_HOME").map(Self.absolute) ?? standard
    if let runtime = environment("UNDERJACK_RUNTIME") {
      self.init(home: home, runtime: Self.absolute(runtime))
      return
    }
    var runtime: String
    if let folder = environment("XDG_RUNTIME_DIR"), folder.hasPrefix("/") {
      runtime = Self.absolute(folder) + "/underjack"
    } else if Self.isPrivateFolder("/run/user/\(user)", user: user) {
      runtime = "/run/user/\(user)/underjack"
    } else {
      runtime = "/tmp/underjack-\(user)"
    }
    // Two homes of one user may both have a machine `a`; `@` cannot begin a machine's name.
    if home != standard { runtime += "/@" + Self.fingerprint(home) }
    self.init(home: home, runtime: runtime)
  }

  package var machines: String { home + "/machines" }
  package var images: String { home + "/images" }
  package func machine(_ name: MachineName) -> String { "\(machines)/\(name)" }
  package func definition(_ name: MachineName) -> String { machine(name) + "/machine.toml" }
  package func state(_ name: MachineName) -> String { machine(name) + "/state.toml" }
  /// What `state.toml` becomes when a machine that is being sent is given away.
  package func departure(_ name: MachineName) -> String { machine(name) + "/state.departure" }
  package func lock(_ name: MachineName) -> String { machine(name) + "/lock" }
  package func runRecord(_ name: MachineName) -> String { machine(name) + "/run.toml" }
  package func disks(_ name: MachineName) -> String { machine(name) + "/disks" }
  package func log(_ name: MachineName) -> String { machine(name) + "/log" }
  package func memoryStates(_ name: MachineName) -> String { machine(name) + "/snapshots" }
  /// A machine's memory and devices at one moment.
  package func memoryState(_ name: MachineName, _ identifier: String) -> String {
    "\(memoryStates(name))/\(identifier)/memory.state"
  }
  package func hostLog(_ name: MachineName) -> String { log(name) + "/host.log" }
  package func serialLog(_ name: MachineName, port: Int) -> String {
    log(name) + "/serial\(port).log"
  }
  package func runtimeFolder(_ name: MachineName) -> String { "\(runtime)/\(name)" }
  /// The seed that cloud images read, where the definition has one.
  package func seed(_ name: MachineName) -> String { machine(name) + "/seed.iso" }
  /// Where programs of the host meet the guest's sockets.
  package func guestSocket(_ name: MachineName) -> String { runtimeFolder(name) + "/vsock.sock" }
  package func controlSocket(_ name: MachineName) -> String {
    runtimeFolder(name) + "/control.sock"
  }

  /// Where the ports of switches meet; `+` cannot begin a machine's name.
  package var switches: String { runtime + "/+switches" }

  /// Makes the runtime folder of a machine, and refuses folders that another user could have put there.
  package func prepareRuntimeFolder(_ name: MachineName) throws(InventoryError) -> String {
    try prepare(runtimeFolder(name))
  }

  /// The same for the folder of switches.
  package func prepareSwitches() throws(InventoryError) -> String { try prepare(switches) }

  private func prepare(_ folder: String) throws(InventoryError) -> String {
    var path = ""
    var isOurs = false
    for part in folder.split(separator: "/") {
      path += "/" + part
      isOurs = isOurs || path.utf8.count >= runtime.utf8.count || part.hasPrefix("underjack")
      if mkdir(path, 0o700) != 0, linux_error_number() != EEXIST {
        throw InventoryError(
          PlatformError(operation: "mkdir", code: linux_error_number(), subject: path))
      }
      if isOurs, !Self.isPrivateFolder(path, user: getuid()) {
        throw InventoryError(
          .refused,
          "\(path): must be a folder of yours that only you can write to; remove it or chmod it")
      }
    }
    return path
  }

  package static func environmentVariable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
  }

  private static func standardHome(
    _ environment: (String) -> String?
  ) throws(InventoryError) -> String {
    if let data = environment("XDG_DATA_HOME"), data.hasPrefix("/") {
      return absolute(data) + "/underjack"
    }
    if let home = environment("HOME"), home.hasPrefix("/") {
      return absolute(home) + "/.local/share/underjack"
    }
    if let entry = getpwuid(getuid()), let folder = entry.pointee.pw_dir {
      return absolute(String(cString: folder)) + "/.local/share/underjack"
    }
    throw InventoryError(.invalid, "no home folder is known; set UNDERJACK_HOME")
  }

  /// Made absolute against the working directory, `.` and doubled slashes removed.
  package static func absolute(_ path: String) -> String {
    var full = path
    if !path.hasPrefix("/") {
      let folder = getcwd(nil, 0)
      defer { free(folder) }
      full = (folder.map { String(cString: $0) } ?? "") + "/" + path
    }
    let parts = full.split(separator: "/").filter { $0 != "." }
    return "/" + parts.joined(separator: "/")
  }

  /// Whether nobody else can have put anything there. What is inside has modes of its own.
  private static func isPrivateFolder(_ path: String, user: UInt32) -> Bool {
    var information = stat()
    guard lstat(path, &information) == 0 else { return false }
    return information.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR) && information.st_uid == user
      && information.st_mode & 0o022 == 0
  }

  /// FNV-1a, 64 bits, in hexadecimal: short and stable; not a secret.
  private static func fingerprint(_ text: String) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return String(hash, radix: 16)
  }
}
