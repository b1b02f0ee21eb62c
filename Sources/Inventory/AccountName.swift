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
}
