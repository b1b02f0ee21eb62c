// The seed of cloud-init's data source NoCloud: a disc with the label `cidata` and the files `user-data`, `meta-data`
// and, where the definition has one, `network-config`.

import CLinux
import Inventory
import Machine

/// What a machine's `[cloud-init]` becomes.
package struct CloudInitSeed {
  static let label = "cidata"

  package let userData: String
  package let metaData: String
  package let networkConfiguration: String?

  /// - Parameters:
  ///   - name: the host name where the definition has none.
  ///   - identifier: another one makes cloud-init set the guest up again.
  /// - Throws: kind `invalid` or `notFound` with file, line and what was expected.
  package init(
    _ settings: MachineDefinition.CloudInit, name: String, identifier: String
  ) throws(InventoryError) {
    let own = Self.cloudConfiguration(settings)
    if let path = settings.userData {
      let text = try Self.read(path)
      try Self.checkUserData(text, path)
      userData = own.map { Self.combined($0, text) } ?? text
    } else {
      userData = own ?? "#cloud-config\n"
    }
    networkConfiguration = try settings.networkConfiguration.map { (path) throws(InventoryError) in
      let text = try Self.read(path)
      guard text.contains("version") else {
        throw InventoryError(
          .invalid, "\(path):1: expected a network configuration of version 1 or 2 in YAML")
      }
      return text
    }
    let host = settings.hostname ?? String(name.map { $0 == "_" ? "-" : $0 })
    metaData =
      "instance-id: \(Self.quote(identifier))\nlocal-hostname: \(Self.quote(host))\n"
  }

  /// The disc's image.
  package var image: [UInt8] {
    var files = [
      OpticalImage.File(name: "user-data", content: Array(userData.utf8)),
      OpticalImage.File(name: "meta-data", content: Array(metaData.utf8)),
    ]
    if let networkConfiguration {
      files.append(.init(name: "network-config", content: Array(networkConfiguration.utf8)))
    }
    var image = OpticalImage(label: Self.label, files: files)
    return image.bytes()
  }

  private static func read(_ path: String) throws(InventoryError) -> String {
    guard let text = try FileReading.text(path) else {
      throw InventoryError(.notFound, "\(path): no such file")
    }
    return text
  }

  // MARK: User data

  /// Beginnings by which cloud-init tells what user data is ("User data formats").
  private static let beginnings = [
    "#cloud-config", "#!", "#include", "#cloud-boothook", "#part-handler", "## template: jinja",
    "Content-Type:", "MIME-Version:", "From ",
  ]

  private static func checkUserData(_ text: String, _ path: String) throws(InventoryError) {
    guard !beginnings.contains(where: { text.lowercased().hasPrefix($0.lowercased()) }) else {
      return
    }
    let line = text.prefix { !$0.isNewline }
    throw InventoryError(
      .invalid,
      "\(path):1: expected \"#cloud-config\", \"#!\" or another beginning that cloud-init knows, "
        + "not \"\(printable(line.prefix(40)))\"")
  }

  /// What the definition itself says, as a `#cloud-config`; nil when it says nothing.
  private static func cloudConfiguration(_ settings: MachineDefinition.CloudInit) -> String? {
    let keys = settings.authorizedKeys.map(quote)
    var lines = ["#cloud-config"]
    if let user = settings.user {
      lines += ["users:", "  - name: \(quote(user))", "    shell: \"/bin/bash\""]
      if user != "root" { lines.append("    sudo: \"ALL=(ALL) NOPASSWD:ALL\"") }
      lines.append("    lock_passwd: \(settings.password == nil)")
      if let password = settings.password { lines.append("    passwd: \(quote(password))") }
      if !keys.isEmpty { lines += ["    ssh_authorized_keys:"] + keys.map { "      - \($0)" } }
      if user == "root" { lines.append("disable_root: false") }
    } else {
      if let password = settings.password {
        // A password from outside would have to be changed at once otherwise.
        lines += ["password: \(quote(password))", "chpasswd:", "  expire: false"]
      }
      if !keys.isEmpty { lines += ["ssh_authorized_keys:"] + keys.map { "  - \($0)" } }
    }
    if settings.password != nil { lines.append("ssh_pwauth: true") }
    return lines.count == 1 ? nil : lines.joined(separator: "\n") + "\n"
  }

  /// Both as parts of one message (RFC 2046): what the person's own says of a key counts, because it comes last.
  private static func combined(_ own: String, _ other: String) -> String {
    var number = 0
    while own.contains("==underjack-\(number)==") || other.contains("==underjack-\(number)==") {
      number += 1
    }
    let boundary = "==underjack-\(number)=="
    // A message is a part as it is: it brings its own headers.
    let isMessage = ["content-type:", "mime-version:"].contains {
      other.lowercased().hasPrefix($0)
    }
    let header = isMessage ? "" : "Content-Type: text/plain; charset=\"utf-8\"\n\n"
    return """
      Content-Type: multipart/mixed; boundary="\(boundary)"
      MIME-Version: 1.0

      --\(boundary)
      Content-Type: text/cloud-config; charset="utf-8"

      \(own)
      --\(boundary)
      \(header)\(other)
      --\(boundary)--

      """
  }

  /// A YAML text in double quotes.
  private static func quote(_ text: String) -> String {
    var result = "\""
    for character in text {
      if character == "\"" || character == "\\" { result.append("\\") }
      result.append(character)
    }
    return result + "\""
  }
}

extension CloudInitSeed {
  /// Brings the seed in a machine's folder up to its definition. The machine's lock is held.
  ///
  /// - Parameter isResumed: the guest goes on and may have the disc mounted: what there is stays.
  package static func prepare(
    _ name: MachineName, _ definition: MachineDefinition, _ inventory: Inventory, isResumed: Bool
  ) throws(InventoryError) {
    let path = inventory.location.seed(name)
    guard let settings = definition.cloudInit else {
      unlink(path)
      return
    }
    if !(isResumed && FileReading.exists(path)) {
      let seed = try CloudInitSeed(
        settings, name: name.description,
        // A clone has a `uuid` of its own.
        identifier: definition.uuid?.description ?? "underjack-\(name)")
      let image = seed.image
      if (try? readFile(path)) != image { try inventory.writeSeed(image, of: name) }
    }
  }

  /// How the disc is attached.
  static func disk(_ path: String) -> DiskConfiguration {
    DiskConfiguration(path: path, format: .raw, isReadOnly: true, serial: label)
  }
}
