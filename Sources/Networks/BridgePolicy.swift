// Who may put machines on which bridge: /etc/underjack/bridge.conf, which the bridge helper obeys.

import CLinux
import Platform

/// Lines of `allow BRIDGE [WHO...]` and `deny BRIDGE [WHO...]`. BRIDGE is a name or `all`; WHO is `user:NAME`,
/// `group:NAME`, either with a number instead of the name, and nobody said means everybody. The first line that fits
/// decides; without one it is no.
public struct BridgePolicy: Sendable {
  struct Rule: Equatable, Sendable {
    var allows: Bool
    /// nil: all.
    var bridge: String?
    /// Empty: everybody.
    var who: [Who]
  }

  enum Who: Equatable, Sendable {
    case user(UInt32)
    case group(UInt32)
    /// A name that this host does not know: fits nobody.
    case unknown
  }

  /// Where the administrator's file is.
  public static let path = "/etc/underjack/bridge.conf"
  private static let sizeLimit = 65_536

  var rules: [Rule] = []

  /// Reads the lines.
  ///
  /// - Throws: `NetworkError` that names the line: who made a mistake gets nobody a right by it.
  public init(text: String) throws(NetworkError) {
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let words = line.prefix { $0 != "#" }.split(whereSeparator: { $0 == " " || $0 == "\t" })
      guard let verb = words.first else { continue }
      guard verb == "allow" || verb == "deny", words.count >= 2,
        let kind = NetworkConfiguration.Kind("bridge:\(words[1])"), case .bridge(let name) = kind
      else {
        throw NetworkError(
          "line \(index + 1): must be 'allow BRIDGE' or 'deny BRIDGE', then user:NAME or group:NAME"
        )
      }
      var who: [Who] = []
      for word in words.dropFirst(2) { who.append(try Self.who(String(word), index + 1)) }
      rules.append(Rule(allows: verb == "allow", bridge: name == "all" ? nil : name, who: who))
    }
  }

  private static func who(_ word: String, _ line: Int) throws(NetworkError) -> Who {
    let parts = word.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0] == "user" || parts[0] == "group", !parts[1].isEmpty else {
      throw NetworkError("line \(line): must be user:NAME or group:NAME")
    }
    let name = String(parts[1])
    if name.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
      guard let number = UInt32(name) else { return .unknown }
      return parts[0] == "user" ? .user(number) : .group(number)
    }
    if parts[0] == "user" { return getpwnam(name).map { .user($0.pointee.pw_uid) } ?? .unknown }
    return getgrnam(name).map { .group($0.pointee.gr_gid) } ?? .unknown
  }

  /// - Parameter groups: all that the person is in.
  public func allows(_ bridge: String, user: UInt32, groups: [UInt32]) -> Bool {
    for rule in rules where rule.bridge == nil || rule.bridge == bridge {
      let fits =
        rule.who.isEmpty
        || rule.who.contains { who in
          switch who {
          case .user(let number): number == user
          case .group(let number): groups.contains(number)
          case .unknown: false
          }
        }
      if fits { return rule.allows }
    }
    return false
  }

  /// The administrator's file. One that others can write is none.
  static func installed() throws(NetworkError) -> BridgePolicy {
    let file: SharedDescriptor
    do throws(PlatformError) {
      file = SharedDescriptor(
        try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK))
    } catch {
      throw NetworkError("\(path): \(error.reason)")
    }
    var state = stat()
    guard fstat(file.rawValue, &state) == 0, state.st_mode & 0o170000 == 0o100000,
      state.st_uid == 0, state.st_mode & 0o022 == 0, state.st_size <= sizeLimit
    else {
      throw NetworkError("\(path): must be a small file of root's that nobody else can write")
    }
    var bytes = [UInt8](repeating: 0, count: sizeLimit)
    var count = 0
    while count < sizeLimit {
      let size = bytes.withUnsafeMutableBytes {
        read(file.rawValue, $0.baseAddress.map { $0 + count }, sizeLimit - count)
      }
      guard size > 0 else { break }
      count += size
    }
    do throws(NetworkError) {
      return try BridgePolicy(text: String(decoding: bytes.prefix(count), as: UTF8.self))
    } catch {
      throw NetworkError("\(path), \(error)")
    }
  }
}
