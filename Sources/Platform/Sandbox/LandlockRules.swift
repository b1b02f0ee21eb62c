// Landlock: which files a process may open from now on, by rules that it gives itself and can never lift
// (Linux Documentation/userspace-api/landlock.rst).

import CLinux

/// A set of rules for `ProcessConfinement`.
public final class LandlockRules: Sendable {
  /// What may be done with a file, or with a folder and all that is in it.
  public struct Rights: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let execute = Rights(rawValue: 1 << 0)
    public static let writeFile = Rights(rawValue: 1 << 1)
    public static let readFile = Rights(rawValue: 1 << 2)
    public static let readFolder = Rights(rawValue: 1 << 3)
    public static let removeFolder = Rights(rawValue: 1 << 4)
    public static let removeFile = Rights(rawValue: 1 << 5)
    public static let makeFolder = Rights(rawValue: 1 << 7)
    public static let makeFile = Rights(rawValue: 1 << 8)
    public static let makeSocket = Rights(rawValue: 1 << 9)
    public static let makeLink = Rights(rawValue: 1 << 12)
    /// Giving files names in other folders.
    public static let refer = Rights(rawValue: 1 << 13)
    public static let truncate = Rights(rawValue: 1 << 14)

    public static let read: Rights = [.readFile]
    public static let readWrite: Rights = [.readFile, .writeFile, .truncate]
    /// A folder of one's own.
    public static let keep: Rights = [
      .readFile, .writeFile, .truncate, .readFolder, .removeFolder, .removeFile, .makeFolder,
      .makeFile, .makeSocket, .makeLink, .refer,
    ]
    /// All that a rule on a file, and not a folder, may have.
    fileprivate static let ofFile: Rights = [.execute, .writeFile, .readFile, .truncate]
  }

  /// What the running kernel has; 0 without Landlock.
  public static let version: Int = max(0, Int(linux_landlock_version()))

  /// Rights that each version of the interface has: what a kernel does not know it cannot forbid.
  private static var handledRights: UInt64 {
    switch version {
    case ...1: (1 << 13) - 1
    case 2: (1 << 14) - 1
    case 3, 4: (1 << 15) - 1
    default: (1 << 16) - 1
    }
  }

  let descriptor: FileDescriptor

  /// - Parameters:
  ///   - allowsNetwork: TCP ports may be bound and connected to (can be forbidden since version 4).
  ///   - allowsSignals: to processes outside (can be forbidden since version 6).
  /// - Throws: `PlatformError` of code ENOSYS or EOPNOTSUPP where the kernel has no Landlock, or has it switched off.
  public init(allowsNetwork: Bool, allowsSignals: Bool) throws(PlatformError) {
    var rules = linux_landlock_ruleset()
    rules.files = Self.handledRights
    var size = 8
    if Self.version >= 4 {
      // Bind and connect.
      rules.network = allowsNetwork ? 0 : 3
      size = 16
    }
    if Self.version >= 6 {
      // Abstract Unix sockets, and signals.
      rules.scopes = allowsSignals ? 1 : 3
      size = 24
    }
    descriptor = FileDescriptor(
      owning: try systemCall("landlock_create_ruleset") { linux_landlock_create(&rules, size) })
  }

  /// Allows something. What is not there needs no rule, and gets none.
  ///
  /// - Returns: whether there is now a rule.
  @discardableResult
  public func allow(_ path: String, _ rights: Rights) throws(PlatformError) -> Bool {
    let file: FileDescriptor
    do throws(PlatformError) {
      file = try FileDescriptor.open(path, linux_open_path_flag())
    } catch {
      if error.code == ENOENT || error.code == ENOTDIR || error.code == EACCES { return false }
      throw error
    }
    var status = stat()
    let number = file.rawValue
    try systemCall("fstat", path) { fstat(number, &status) }
    let isFolder = status.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR)
    let granted = (isFolder ? rights : rights.intersection(.ofFile)).rawValue & Self.handledRights
    guard granted != 0 else { return false }
    let rules = descriptor.rawValue
    try systemCall("landlock_add_rule", path) { linux_landlock_allow(rules, granted, number) }
    return true
  }
}
