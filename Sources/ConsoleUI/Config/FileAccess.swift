/// The few things that the console does with files itself: its configuration, and completing a path that is typed. How
/// they are done safely is known to the inventory, which is compiled beside this room, not before it.
package struct FileAccess: Sendable {
  /// A small text file's content; nil when there is none. What it throws is one line for the user.
  package var text: @Sendable (_ path: String) throws -> String?
  /// Replaces a file as a whole: after a crash there is the old one or the new one.
  package var write: @Sendable (_ text: String, _ path: String) throws -> Void
  /// Names in a folder, unsorted; none when it cannot be read.
  package var entries: @Sendable (_ folder: String) -> [String]

  package init(
    text: @escaping @Sendable (_ path: String) throws -> String?,
    write: @escaping @Sendable (_ text: String, _ path: String) throws -> Void,
    entries: @escaping @Sendable (_ folder: String) -> [String]
  ) {
    self.text = text
    self.write = write
    self.entries = entries
  }
}
