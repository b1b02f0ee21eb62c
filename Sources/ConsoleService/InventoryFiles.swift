import ConsoleUI
import Inventory

extension FileAccess {
  /// Files as the inventory reads and writes them: bounded, and whole or not at all.
  package static let inventory = FileAccess(
    text: { path in try FileReading.text(path) },
    write: { text, path in try FileChanges().write(text, to: path) },
    entries: { folder in (try? FileReading.entries(of: folder)) ?? [] })
}
