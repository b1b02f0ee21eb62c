import CLinux
import Platform

/// Users and groups of this computer by name or number.
package enum AccountName {
  static func isValid(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 256
      && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && $0 != UInt8(ascii: ":") }
  }

  /// The number of a user; nil when there is none of that name.
  package static func user(_ name: String) -> UInt32? {
    if let number = UInt32(name) { return number }
    return getpwnam(name).map { $0.pointee.pw_uid }
  }

  /// The number of a group; nil when there is none of that name.
  package static func group(_ name: String) -> UInt32? {
    if let number = UInt32(name) { return number }
    return getgrnam(name).map { $0.pointee.gr_gid }
  }

  /// Whether a user belongs to a group by the system's databases.
  package static func isMember(user: UInt32, of group: UInt32) -> Bool {
    guard let entry = getpwuid(user) else { return false }
    if entry.pointee.pw_gid == group { return true }
    let name = String(cString: entry.pointee.pw_name)
    var count: Int32 = 64
    var groups = [gid_t](repeating: 0, count: Int(count))
    if getgrouplist(name, entry.pointee.pw_gid, &groups, &count) < 0 {
      groups = [gid_t](repeating: 0, count: Int(min(max(count, 1), 65536)))
      count = Int32(groups.count)
      guard getgrouplist(name, entry.pointee.pw_gid, &groups, &count) >= 0 else { return false }
    }
    return groups.prefix(Int(max(0, count))).contains(group)
  }
}
