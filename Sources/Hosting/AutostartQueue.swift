import Inventory

/// The machines to be started with the computer, in order.
package struct AutostartQueue {
  package struct Entry: Sendable, Equatable {
    package var name: MachineName
    /// Seconds to wait before the next one.
    package var delay: Int
  }
  package private(set) var entries: [Entry] = []
  /// Definitions that cannot be read: whether those machines want to be started is not known.
  package private(set) var problems: [InventoryError] = []

  /// Looks at all machines; those that run already and templates are left out.
  package init(_ inventory: Inventory) throws(HostingError) {
    let names = try inventoried { () throws(InventoryError) in try inventory.names() }
    var found: [(order: Int, entry: Entry)] = []
    for name in names {
      do {
        let definition = try inventory.definition(name)
        guard definition.autostart.isEnabled, !definition.isTemplate,
          inventory.holder(name)?.role != .host
        else { continue }
        found.append(
          (definition.autostart.order, Entry(name: name, delay: definition.autostart.delay)))
      } catch {
        problems.append(error)
      }
    }
    entries = found.sorted { ($0.order, $0.entry.name) < ($1.order, $1.entry.name) }.map(\.entry)
  }
}
