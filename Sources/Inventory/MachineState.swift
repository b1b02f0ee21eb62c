/// What `uj` itself knows about a machine's disks and snapshots: the content of `state.toml`.
///
/// This file is the single record of which layers count: replacing it is the one step by which a snapshot is taken,
/// rolled back or deleted. Layer files that it does not name are left-overs of an interrupted command and are removed by
/// the next one.
package struct MachineState: Sendable, Equatable {
  /// The layers of one disk: a tree of qcow2 files `disks/DISK/LAYER.qcow2`.
  package struct Disk: Sendable, Equatable {
    package var name: String
    /// The layer that the guest writes to; nil is the external file itself, which no layer covers yet.
    package var current: String?
    /// What the lowest layer rests on: an external file, or a template's layer as `../../../TEMPLATE/disks/...`.
    package var base: String?
    package var baseFormat: MachineDefinition.DiskFormat?
    /// Each layer and the one below it; an empty text is the base, or nothing.
    package var parents: [String: String]
    /// Layers that other machines' disks rest on: they are never written again.
    package var frozen: [String]

    package init(
      name: String, current: String? = nil, base: String? = nil,
      baseFormat: MachineDefinition.DiskFormat? = nil, parents: [String: String] = [:],
      frozen: [String] = []
    ) {
      self.name = name
      self.current = current
      self.base = base
      self.baseFormat = baseFormat
      self.parents = parents
      self.frozen = frozen
    }

    /// How state files name the external base in lists of layers.
    package static let baseLayer = ""
  }

  package var disks: [Disk]
  /// The snapshot that the present state grew from.
  package var position: String?
  package var snapshots: [Snapshot]
  /// Where `forward` goes: the snapshots that rolling back has left, the last one at the end.
  package var left: [String]
  /// The memory that the next start goes on with, see `InventoryLocation.memoryState`; nil: it switches the machine on.
  package var suspended: String?
  /// Where the machine was given to, in words: it may run there, and so not here. nil: nowhere.
  package var moved: String?

  package init(
    disks: [Disk] = [], position: String? = nil, snapshots: [Snapshot] = [], left: [String] = [],
    suspended: String? = nil, moved: String? = nil
  ) {
    self.suspended = suspended
    self.moved = moved
    self.disks = disks
    self.position = position
    self.snapshots = snapshots
    self.left = left
  }

  package func snapshot(_ identifier: String) -> Snapshot? {
    snapshots.first { $0.identifier == identifier }
  }

  package func disk(_ name: String) -> Disk? {
    disks.first { $0.name == name }
  }
}

extension MachineState {
  /// What must hold after every command and every crash; the first thing that does not, in words. Tests call it.
  package func brokenInvariant(layerExists: (Disk, String) -> Bool) -> String? {
    for disk in disks {
      let frozenByNodes = Set(snapshots.compactMap { $0.layers[disk.name] })
      if !snapshots.isEmpty, frozenByNodes.contains(disk.current ?? Disk.baseLayer) {
        return "\(disk.name): the guest would write to a snapshot's layer"
      }
      for layer in frozenByNodes.union([disk.current].compactMap { $0 }).union(disk.frozen)
      where layer != Disk.baseLayer {
        guard let parent = disk.parents[layer] else { return "\(disk.name): \(layer) is unknown" }
        guard layerExists(disk, layer) else { return "\(disk.name): \(layer) is not there" }
        guard parent == Disk.baseLayer || disk.parents[parent] != nil else {
          return "\(disk.name): \(parent), below \(layer), is unknown"
        }
      }
    }
    let known = Set(snapshots.map(\.identifier))
    guard known.count == snapshots.count else { return "an id occurs twice" }
    for identifier in snapshots.compactMap(\.parent) + left + [position].compactMap({ $0 })
    where !known.contains(identifier) {
      return "snapshot \(identifier) is unknown"
    }
    return nil
  }
}

/// A node in a machine's tree of snapshots.
package struct Snapshot: Sendable, Equatable, Codable {
  /// Eight characters, unique in the machine.
  package var identifier: String
  package var name: String
  /// The node that it grew from.
  package var parent: String?
  /// Seconds since 1970.
  package var created: Int64
  /// Made by a roll-back to keep the state that was left.
  package var isAutomatic: Bool
  /// Disk to the layer that holds its content at that moment; empty is the disk's external file.
  package var layers: [String: String]
  /// The memory of that moment, see `InventoryLocation.memoryState`; nil: only disks were kept.
  package var memory: String?
  /// Taken by the clock, see `Autosnap`; gives way to later ones.
  package var isCheckpoint: Bool

  package init(
    identifier: String, name: String, parent: String?, created: Int64, isAutomatic: Bool,
    layers: [String: String], memory: String? = nil, isCheckpoint: Bool = false
  ) {
    self.memory = memory
    self.isCheckpoint = isCheckpoint
    self.identifier = identifier
    self.name = name
    self.parent = parent
    self.created = created
    self.isAutomatic = isAutomatic
    self.layers = layers
  }

  /// A new name for a snapshot or layer: short enough to type, too many to meet twice.
  package static func makeIdentifier() -> String {
    let alphabet = Array("abcdefghijkmnpqrstuvwxyz23456789")
    return String((0..<8).map { _ in alphabet[Int.random(in: alphabet.indices)] })
  }
}

extension MachineState {
  package init(text: String, path: String) throws(InventoryError) {
    self.init()
    let root = try TableReader(path: path, text: text)
    _ = try root.integer("version", in: 1...1)
    position = try root.string("position")
    left = try root.strings("left") ?? []
    suspended = try Self.layer(root, "suspended")
    moved = try root.string("moved")
    for table in try root.tables("disk") {
      guard let name = try table.string("name"), (try? MachineName(name)) != nil else {
        throw table.error("name", "a disk has no valid name; this file is written by uj only")
      }
      disks.append(
        Disk(
          name: name, current: try Self.layer(table, "current"), base: try table.string("base"),
          baseFormat: try table.choice("base-format", of: MachineDefinition.DiskFormat.self),
          parents: try Self.layers(table, "layers"), frozen: try table.strings("frozen") ?? []))
      try table.finish()
    }
    for table in try root.tables("snapshot") {
      guard let identifier = try Self.layer(table, "id"), let name = try table.string("name") else {
        throw table.error("id", "a snapshot has no id or name; this file is written by uj only")
      }
      snapshots.append(
        Snapshot(
          identifier: identifier, name: name, parent: try table.string("parent"),
          created: Int64(try table.integer("created", in: 0...Int.max) ?? 0),
          isAutomatic: try table.bool("automatic") ?? false,
          layers: try Self.layers(table, "layers"), memory: try Self.layer(table, "memory"),
          isCheckpoint: try table.bool("checkpoint") ?? false))
      try table.finish()
    }
    try root.finish()
  }

  /// Layer names become file names: nothing but our own alphabet may pass.
  private static func layer(
    _ table: TableReader, _ key: String
  ) throws(InventoryError) -> String? {
    guard let text = try table.string(key) else { return nil }
    guard !text.isEmpty, isLayer(text) else {
      throw table.error(key, "\(key) must be a layer's name; this file is written by uj only")
    }
    return text
  }

  private static func isLayer(_ text: String) -> Bool {
    text.utf8.count <= 32
      && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) }
  }

  private static func layers(
    _ table: TableReader, _ key: String
  ) throws(InventoryError) -> [String: String] {
    let values = try table.table(key)?.stringValues() ?? [:]
    for (disk, layer) in values where !isLayer(layer) || (try? MachineName(disk)) == nil {
      throw table.error(key, "\(key) must name layers; this file is written by uj only")
    }
    return values
  }

  /// How the line begins that says that the machine is suspended.
  static let suspendedKey = "suspended = "
  /// The same of one that was given to another host.
  static let movedKey = "moved = "

  package var text: String {
    var lines = ["# Written by uj; edit machine.toml instead.", "version = 1"]
    if let position { lines.append("position = \(TOMLText.quote(position))") }
    if !left.isEmpty { lines.append("left = \(TOMLText.list(left))") }
    if let suspended { lines.append("\(Self.suspendedKey)\(TOMLText.quote(suspended))") }
    if let moved { lines.append("\(Self.movedKey)\(TOMLText.quote(moved))") }
    for disk in disks {
      lines += ["", "[[disk]]", "name = \(TOMLText.quote(disk.name))"]
      if let current = disk.current { lines.append("current = \(TOMLText.quote(current))") }
      if let base = disk.base { lines.append("base = \(TOMLText.quote(base))") }
      if let format = disk.baseFormat {
        lines.append("base-format = \(TOMLText.quote(format.rawValue))")
      }
      lines.append("layers = \(Self.inline(disk.parents))")
      if !disk.frozen.isEmpty { lines.append("frozen = \(TOMLText.list(disk.frozen))") }
    }
    for snapshot in snapshots {
      lines += [
        "", "[[snapshot]]", "id = \(TOMLText.quote(snapshot.identifier))",
        "name = \(TOMLText.quote(snapshot.name))",
      ]
      if let parent = snapshot.parent { lines.append("parent = \(TOMLText.quote(parent))") }
      if let memory = snapshot.memory { lines.append("memory = \(TOMLText.quote(memory))") }
      lines.append("created = \(snapshot.created)")
      if snapshot.isAutomatic { lines.append("automatic = true") }
      if snapshot.isCheckpoint { lines.append("checkpoint = true") }
      lines.append("layers = \(Self.inline(snapshot.layers))")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func inline(_ values: [String: String]) -> String {
    let pairs = values.sorted { $0.key < $1.key }
      .map { "\(TOMLText.quote($0.key)) = \(TOMLText.quote($0.value))" }
    return pairs.isEmpty ? "{}" : "{ " + pairs.joined(separator: ", ") + " }"
  }
}
