/// A part of a machine that may differ in machines made from it: the words of `allow-instance`, which are those of
/// OpenBSD's vm.conf(5).
package enum InstanceSetting: String, Sendable, CaseIterable {
  case boot, cpus, memory, disk, cdrom, interface, owner, serial
  /// Made from it in its turn.
  case instance
}

extension DefinitionOverrides {
  /// What these overrides change.
  package var settings: [InstanceSetting] {
    var settings: [InstanceSetting] = []
    if firmware != nil || kernel != nil || initrd != nil || commandLine != nil || bootOrder != nil {
      settings.append(.boot)
    }
    if topology != nil || processorModel != nil || allowsNesting != nil { settings.append(.cpus) }
    if memory != nil { settings.append(.memory) }
    if opticalDrive != nil { settings.append(.cdrom) }
    if serialPorts != nil { settings.append(.serial) }
    return settings
  }
}

extension Inventory {
  /// Whether a machine that is to be made from `template` may be changed in these ways.
  ///
  /// - Throws: kind `refused`, naming what its `allow-instance` does not allow.
  package func checkInstance(
    of template: MachineName, changing settings: [InstanceSetting]
  ) throws(InventoryError) {
    let definition = try definition(template)
    guard let allowed = definition.allowedInstanceSettings else {
      return
    }
    if let refused = settings.first(where: { !allowed.contains($0) }) {
      throw InventoryError(
        .refused,
        "\(template): does not let its instances change \(refused.rawValue); allow-instance in "
          + "\(location.definition(template)) says what they may")
    }
    if definition.parent != nil, !definition.isTemplate, !allowed.contains(.instance) {
      throw InventoryError(
        .refused,
        "\(template): is an instance itself and allows none; add \"instance\" to its allow-instance"
      )
    }
  }
}
