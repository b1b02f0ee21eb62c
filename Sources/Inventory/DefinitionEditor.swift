import Networks
import Processor

/// Changes single values in a definition's text and leaves every other character, comments included, as it was.
package enum DefinitionEditor {
  private static let textKeys: Set<String> = [
    "memory", "memory-target", "accelerator", "cpu", "irqchip", "display", "cdrom", "parent",
    "uuid", "notes",
    "boot.firmware", "boot.kernel", "boot.initrd", "boot.append", "disk.name", "disk.path",
    "disk.format", "disk.serial", "disk.bus", "cdrom-bus", "watchdog", "on-panic", "owner", "group",
    "cloud-init.user", "cloud-init.password", "cloud-init.hostname", "cloud-init.user-data",
    "cloud-init.network-config", "vsock.path",
  ]
  private static let listKeys: Set<String> = [
    "tags", "serial", "boot.order", "disk.backing", "allow-instance", "networks", "shares",
    "cloud-init.ssh-authorized-keys",
  ]
  private static let tables: Set<String> = ["boot", "autostart", "keep", "cloud-init", "vsock"]
  /// Keys whose value is a file's path.
  private static let pathKeys: Set<String> = [
    "cdrom", "boot.firmware", "boot.kernel", "boot.initrd", "cloud-init.user-data",
    "cloud-init.network-config", "vsock.path",
  ]

  /// A value as a person typed it, with paths that count from the working folder made absolute: in the file they would
  /// count from the machine's folder.
  package static func resolved(_ value: String, of key: String) -> String {
    if value.isEmpty { return value }
    if key == "cdrom" { return MachineDefinition.OpticalDrive(value).text }
    if key == "serial" {
      return value.split(separator: ",", omittingEmptySubsequences: false).map { word in
        MachineDefinition.SerialTarget(String(word))?.text ?? String(word)
      }.joined(separator: ",")
    }
    if key == "networks" {
      return value.split(separator: " ").map { word in
        (try? NetworkConfiguration(text: word, resolve: { InventoryLocation.absolute($0) }))?.text
          ?? String(word)
      }.joined(separator: " ")
    }
    if key == "shares" {
      return value.split(separator: " ").map { word in
        MachineDefinition.Share(String(word))?.text ?? String(word)
      }.joined(separator: " ")
    }
    let isPath = pathKeys.contains(key) || key.hasPrefix("disk.") && key.hasSuffix(".path")
    return isPath ? InventoryLocation.absolute(value) : value
  }

  /// Sets `key` (`memory`, `boot.order`, `disk.NAME.serial`) to `value` as a person types it: texts without quotes,
  /// lists with commas. An empty value removes the key.
  ///
  /// - Returns: the new text, which the caller validates before it is saved.
  package static func set(
    _ key: String, to value: String, in text: String, path: String
  ) throws(InventoryError) -> String {
    let lines = DefinitionLines(text)
    let definition = try MachineDefinition(text: text, path: path)
    var table = ""
    var leaf = key
    if key.hasPrefix("disk.") {
      let rest = key.dropFirst(5)
      guard let dot = rest.lastIndex(of: "."),
        let index = definition.disks.firstIndex(where: { $0.name == rest[..<dot] })
      else { throw InventoryError(.invalid, "\(printable(key)): expected disk.NAME.KEY of a disk") }
      table = "disk[\(index)]"
      leaf = String(rest[rest.index(after: dot)...])
    } else if let dot = key.firstIndex(of: ".") {
      table = String(key[..<dot])
      leaf = String(key[key.index(after: dot)...])
    }
    let isName = leaf.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "-")
    }
    guard !leaf.isEmpty, isName,
      table.isEmpty || lines.places[table] != nil
        || tables.contains(table)
    else { throw InventoryError(.invalid, "\(printable(key)): no such key in a definition") }
    var rows = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if rows.last == "" { rows.removeLast() }
    let full = table.isEmpty ? leaf : "\(table).\(leaf)"
    let written = literal(value, key: table.hasPrefix("disk") ? "disk.\(leaf)" : full)
    if let place = lines.places[full] {
      guard !place.head.isEmpty else {
        throw InventoryError(
          .invalid,
          "\(path):\(place.line): \(key) is a table; set its keys, or change it with 'uj edit'")
      }
      if value.isEmpty {
        rows.remove(at: place.line - 1)
      } else {
        rows[place.line - 1] = place.head + written + comment(of: rows[place.line - 1])
      }
    } else if let place = lines.places[table], !place.head.isEmpty {
      throw InventoryError(
        .invalid,
        "\(path):\(place.line): \(table) is written as one value; set it whole, or change it with "
          + "'uj edit'")
    } else if !value.isEmpty {
      insert("\(leaf) = \(written)", table: table, lines: lines, rows: &rows)
    }
    return rows.joined(separator: "\n") + "\n"
  }

  private static func insert(
    _ row: String, table: String, lines: DefinitionLines, rows: inout [String]
  ) {
    if let end = lines.ends[table] {
      rows.insert(row, at: min(end, rows.count))
    } else if table.isEmpty {
      rows.insert(row, at: 0)
    } else {
      rows += ["", "[\(table)]", row]
    }
  }

  private static func literal(_ value: String, key: String) -> String {
    if key == "networks" || key == "shares" {
      // Commas belong to each of them.
      return TOMLText.list(value.split(separator: " ").map { String($0) })
    }
    if listKeys.contains(key) {
      return TOMLText.list(
        value.split(separator: ",").map { part in
          String(part.drop { $0 == " " })
        })
    }
    if key == "processors", let topology = ProcessorTopology(text: value) {
      return TOMLText.processors(topology)
    }
    // Anything else is a number or a word of TOML; what is neither must still reach the reader, which says what is wrong.
    let isPlain = value == "true" || value == "false" || Int(value) != nil
    return textKeys.contains(key) || !isPlain ? TOMLText.quote(value) : value
  }

  /// A comment behind a value, with the blanks before it.
  private static func comment(of row: String) -> String {
    var quote: Character?
    for index in row.indices {
      let character = row[index]
      if let open = quote {
        if character == open { quote = nil }
      } else if character == "\"" || character == "'" {
        quote = character
      } else if character == "#" {
        return " " + row[index...]
      }
    }
    return ""
  }
}
