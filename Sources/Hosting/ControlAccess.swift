import CLinux
import Inventory
import Platform

/// Who may control a running machine besides the user whose it is: `owner` and `group` of its definition, as in
/// OpenBSD's vm.conf(5).
package struct ControlAccess: Sendable, Equatable {
  /// Of the host process.
  package var user: UInt32
  package var owner: UInt32?
  package var group: UInt32?

  package init(user: UInt32 = getuid(), owner: UInt32? = nil, group: UInt32? = nil) {
    self.user = user
    self.owner = owner
    self.group = group
  }

  /// - Throws: a line when there is no such user or group here.
  package init(_ name: String, _ definition: MachineDefinition) throws(HostingError) {
    self.init()
    if let text = definition.owner {
      guard let number = AccountName.user(text) else {
        throw HostingError(.machine, "\(name): owner: there is no user \(printable(text)) here")
      }
      owner = number
    }
    if let text = definition.group {
      guard let number = AccountName.group(text) else {
        throw HostingError(.machine, "\(name): group: there is no group \(printable(text)) here")
      }
      group = number
    }
  }

  /// Nobody but the user himself.
  package var isPrivate: Bool { owner == nil && group == nil }

  /// - Parameters:
  ///   - user: of the process that asks.
  ///   - group: its own group.
  ///   - others: its other groups, asked for where they count. What the kernel says, and not the system's databases, which
  ///     a confined host cannot read.
  package func admits(
    user: UInt32, _ group: UInt32, others: () -> [UInt32] = { [] }
  ) -> Bool {
    if user == self.user || user == 0 || user == owner { return true }
    guard let ours = self.group else { return false }
    return group == ours || others().contains(ours)
  }

  /// Whether a process acts for the user whose machine it is.
  package func isOwn(user: UInt32) -> Bool { user == self.user || user == 0 }

  /// What others who are admitted may do: what vm.conf(5) grants an owner. The rest opens files, ports and machines in
  /// the user's name: with a disc of their choice they would read his files.
  package static let guestMethods: Set<String> = [
    "hello", "methods", "status", "stop", "powerButton", "pause", "unpause", "reset", "shutdown",
    "statistics.subscribe", "statistics.unsubscribe", "events.subscribe", "events.unsubscribe",
    "serial.attach", "serial.break", "display.read", "keyboard.send", "network.list",
    "statistics.read", "trace.read",
  ]

  /// Lets those who are admitted reach the socket and the folders above it; who is admitted, `admits` says at each
  /// connection. Where that cannot be done they cannot connect, and nothing else is lost.
  func open(_ path: String) {
    guard !isPrivate else { return }
    // A user who is neither this one nor in a group of ours needs the rest's bits.
    let mode: UInt32 = owner == nil && group != nil ? 0o660 : 0o666
    if let group { _ = chown(path, uid_t.max, group) }
    chmod(path, mode)
    guard let slash = path.lastIndex(of: "/") else { return }
    chmod(String(path[..<slash]), 0o711)
  }
}
