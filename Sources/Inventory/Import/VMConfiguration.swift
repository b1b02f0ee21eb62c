/// The content of a vm.conf(5), as OpenBSD's manual page of 7.8 describes it, with `cpus` and `sev` of later versions.
package struct VMConfiguration: Sendable, Equatable {
  package enum BootDevice: String, Sendable, CaseIterable {
    case disk, cdrom, net
  }

  package struct Disk: Sendable, Equatable {
    package var path: String
    /// nil: to be found out from the file.
    package var format: MachineDefinition.DiskFormat?
  }

  package struct Interface: Sendable, Equatable {
    package var isLocal = false
    package var name: String?
    package var switchName: String?
    package var address: String?
    package var isLocked = false
    package var group: String?
    package var routingDomain: Int?
    package var isUp = true

    /// In words, for the report.
    package var description: String {
      var parts = [isLocal ? "local interface" : "interface"]
      if let name { parts.append(name) }
      if let switchName { parts.append("on switch \(switchName)") }
      if isLocked { parts.append("locked") }
      if let address { parts.append("lladdr \(address)") }
      if let group { parts.append("group \(group)") }
      if let routingDomain { parts.append("rdomain \(routingDomain)") }
      if !isUp { parts.append("down") }
      return parts.joined(separator: " ")
    }
  }

  package struct Owner: Sendable, Equatable {
    package var user: String?
    package var group: String?

    /// `USER`, `USER:GROUP` or `:GROUP`.
    init?(_ text: String) {
      let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      guard parts.count <= 2, parts.contains(where: { !$0.isEmpty }) else { return nil }
      user = parts[0].isEmpty ? nil : parts[0]
      group = parts.count < 2 || parts[1].isEmpty ? nil : parts[1]
    }

    package var description: String { (user ?? "") + (group.map { ":" + $0 } ?? "") }
  }

  package struct Machine: Sendable, Equatable {
    package var name: String
    /// The machine that it is an instance of.
    package var parent: String?
    /// Where it is declared.
    package var place = ""
    package var isEnabled: Bool?
    package var boot: String?
    package var bootDevice: BootDevice?
    package var cdrom: String?
    package var processors: Int?
    /// Bytes.
    package var memory: UInt64?
    package var disks: [Disk] = []
    package var interfaces: [Interface] = []
    /// At least so many interfaces.
    package var interfaceCount: Int?
    package var owner: Owner?
    package var allowed: [InstanceSetting]?
    /// Who may make instances.
    package var instanceOwner: Owner?
    /// Words that are on their own, such as `sev`.
    package var flags: [String] = []
  }

  package struct Switch: Sendable, Equatable {
    package var name: String
    package var place = ""
    package var interface: String?
    package var isEnabled = true
    package var options: [String] = []
  }

  package var machines: [Machine] = []
  package var switches: [Switch] = []
  /// Settings of the daemon, as they were written.
  package var global: [(place: String, text: String)] = []
  package var staggeredStart: (parallel: Int, delay: Int)?

  package static func == (left: VMConfiguration, right: VMConfiguration) -> Bool {
    left.machines == right.machines && left.switches == right.switches
      && left.global.map(\.text) == right.global.map(\.text)
  }
}
