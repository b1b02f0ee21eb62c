// `[cloud-init]` of a machine's definition: what a cloud image is told when it first starts, by the NoCloud data source
// (cloud-init's manual, "NoCloud").

extension MachineDefinition {
  /// What the machine's seed disk says.
  package struct CloudInit: Sendable, Equatable {
    /// The account to make; nil is the image's own.
    package var user: String?
    /// Lines of authorized_keys(5) for that account.
    package var authorizedKeys: [String] = []
    /// A hash as crypt(5) has it, never the password itself.
    package var password: String?
    /// nil: the machine's name.
    package var hostname: String?
    /// The path of a file with the person's own user data, which goes before all of the above.
    package var userData: String?
    /// The path of a file that says how the network is set up; nil leaves it to cloud-init, which asks by DHCP.
    package var networkConfiguration: String?

    package init() {}
  }
}

extension MachineDefinition.CloudInit {
  /// - Throws: `InventoryError` with file, line and what was expected.
  init(_ table: TableReader, _ resolve: (String) -> String) throws(InventoryError) {
    user = try Self.text(
      table, "user", Self.isAccount,
      "the name of an account: lower case letters, digits, _ and -, at most 32")
    authorizedKeys = try table.strings("ssh-authorized-keys") ?? []
    for key in authorizedKeys where !Self.isPublicKey(key) {
      throw table.error(
        "ssh-authorized-keys",
        "cloud-init.ssh-authorized-keys must be a list of public keys, each as in one line of a .pub "
          + "file (\"ssh-ed25519 AAAA...\"), not \"\(printable(key.prefix(40)))\"")
    }
    // What stands there may be a password by mistake: it is not shown.
    password = try table.string("password")
    if let password, !Self.isHash(password) {
      throw table.error(
        "password",
        "cloud-init.password must be a hash as 'openssl passwd -6' prints it (\"$6$...\"), not the "
          + "password itself")
    }
    hostname = try Self.text(
      table, "hostname", Self.isHostname,
      "a host name: letters, digits and -, with dots between labels of at most 63")
    func file(_ key: String) throws(InventoryError) -> String? {
      try Self.text(
        table, key, { !$0.isEmpty && $0.utf8.count < 4096 && !$0.utf8.contains(0) },
        "the path of a file"
      ).map(resolve)
    }
    userData = try file("user-data")
    networkConfiguration = try file("network-config")
    try table.finish(otherNames: [
      "ssh-keys": "ssh-authorized-keys", "ssh_authorized_keys": "ssh-authorized-keys",
      "host-name": "hostname", "packages": "user-data (a file with packages: in it)",
      "runcmd": "user-data (a file with runcmd: in it)", "network": "network-config",
    ])
  }

  private static func text(
    _ table: TableReader, _ key: String, _ isValid: (String) -> Bool, _ expected: String
  ) throws(InventoryError) -> String? {
    guard let value = try table.string(key) else { return nil }
    guard isValid(value) else {
      throw table.error(
        key, "cloud-init.\(key) must be \(expected), not \"\(printable(value.prefix(40)))\"")
    }
    return value
  }

  private static func isLower(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) }
  private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

  private static func isAccount(_ name: String) -> Bool {
    guard let first = name.utf8.first, name.utf8.count <= 32 else { return false }
    return (isLower(first) || first == UInt8(ascii: "_"))
      && name.utf8.allSatisfy { isLower($0) || isDigit($0) || "_-".utf8.contains($0) }
  }

  /// RFC 1123.
  private static func isHostname(_ name: String) -> Bool {
    guard !name.isEmpty, name.utf8.count <= 253 else { return false }
    return name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
      !label.isEmpty && label.utf8.count <= 63 && !label.hasPrefix("-") && !label.hasSuffix("-")
        && label.utf8.allSatisfy {
          isLower($0 | 0x20) || isDigit($0) || $0 == UInt8(ascii: "-")
        }
    }
  }

  /// One line, with a key type before what begins as every key in base 64 does; options may come before.
  private static func isPublicKey(_ line: String) -> Bool {
    guard line.utf8.count <= 16_384, !line.unicodeScalars.contains(where: { $0.value < 0x20 })
    else { return false }
    let words = line.split(separator: " ")
    return zip(words, words.dropFirst()).contains { type, key in
      (type.hasPrefix("ssh-") || type.hasPrefix("ecdsa-") || type.hasPrefix("sk-"))
        && key.hasPrefix("AAAA")
    }
  }

  /// `$id$[parameters$]salt$hash`.
  private static func isHash(_ text: String) -> Bool {
    text.hasPrefix("$") && text.utf8.count <= 512
      && text.split(separator: "$", omittingEmptySubsequences: false).dropFirst().count >= 3
      && text.utf8.allSatisfy { (0x21..<0x7F).contains($0) && !"\"\\:".utf8.contains($0) }
  }

  /// The table as `machine.toml` has it.
  var lines: [String] {
    var lines = ["[cloud-init]"]
    if let user { lines.append("user = \(TOMLText.quote(user))") }
    if !authorizedKeys.isEmpty {
      lines.append("ssh-authorized-keys = \(TOMLText.list(authorizedKeys))")
    }
    if let password { lines.append("password = \(TOMLText.quote(password))") }
    if let hostname { lines.append("hostname = \(TOMLText.quote(hostname))") }
    if let userData { lines.append("user-data = \(TOMLText.quote(userData))") }
    if let networkConfiguration {
      lines.append("network-config = \(TOMLText.quote(networkConfiguration))")
    }
    return lines
  }
}
