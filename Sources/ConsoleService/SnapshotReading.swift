import ConsoleUI
import Inventory

/// The snapshots of a machine as the front end shows them.
enum SnapshotReading {
  /// None where they can not be read: the list says why.
  static func list(_ name: String, _ inventory: Inventory) -> [SnapshotStatus] {
    guard let machine = try? MachineName(name), let tree = try? inventory.snapshots(machine) else {
      return []
    }
    return tree.snapshots.map { node in
      var status = SnapshotStatus(
        identifier: node.identifier, title: node.name, parent: node.parent, time: node.created,
        isAutomatic: node.isAutomatic, size: size(of: node, machine, inventory),
        isCurrent: node.identifier == tree.position)
      status.isNext = node.identifier == tree.left.last
      return status
    }
  }

  /// What the node's own layers take on the host, in bytes.
  private static func size(
    of node: Snapshot, _ machine: MachineName, _ inventory: Inventory
  ) -> UInt64 {
    node.layers.reduce(0) { sum, layer in
      let path = "\(inventory.location.disks(machine))/\(layer.key)/\(layer.value).qcow2"
      return sum &+ FileIdentity.allocatedSize(path)
    }
  }
}
