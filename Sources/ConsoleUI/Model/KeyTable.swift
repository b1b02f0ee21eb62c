/// The one table of keys. It drives what keys do, the key bar, help and the palette, so that they can not disagree.
///
/// Lower case never cuts power or loses data; what does is upper case and asks first.
package struct KeyTable: Sendable {
  package private(set) var bindings: [KeyBinding]
  private var lookup: [KeyContext: [Key: Action]] = [:]

  /// - Parameters:
  ///   - overrides: Keys that the user has bound. They take the place of the standard ones, and other actions of the
  ///     same place lose them.
  ///   - capabilities: What the service can do; keys for other things are left out.
  package init(
    bindings: [KeyBinding] = KeyTable.standard,
    overrides: [KeyContext: [Action: [Key]]] = [:], capabilities: ServiceCapabilities = .all
  ) {
    var bindings = bindings.filter { binding in
      switch binding.action {
      case .branch: capabilities.contains(.branching)
      case .renameSnapshot: capabilities.contains(.snapshotRenaming)
      case .demo: capabilities.contains(.demonstration)
      default: true
      }
    }
    for index in bindings.indices {
      let binding = bindings[index]
      guard let own = overrides[binding.context] else { continue }
      if let keys = own[binding.action] {
        bindings[index].keys = keys
      } else {
        let taken = Set(own.values.joined())
        bindings[index].keys.removeAll { taken.contains($0) }
      }
    }
    self.bindings = bindings
    for binding in bindings {
      for key in binding.keys { lookup[binding.context, default: [:]][key] = binding.action }
    }
  }

  package func action(for key: Key, in context: KeyContext) -> Action? {
    if let action = lookup[context]?[key] { return action }
    // A console's prefix takes only its own keys.
    guard context.hasCommonKeys else { return nil }
    return lookup[.everywhere]?[key]
  }

  package func bindings(in context: KeyContext) -> [KeyBinding] {
    bindings.filter { $0.context == context }
  }

  /// The first binding of an action where the user is.
  package func binding(for action: Action, in context: KeyContext) -> KeyBinding? {
    bindings.first { $0.action == action && $0.context == context }
      ?? bindings.first { $0.action == action && $0.context == .everywhere }
  }

  /// The key of an action as texts name it, such as `S`; the command's name where no key is bound.
  package func label(_ action: Action, in context: KeyContext = .machines) -> String {
    binding(for: action, in: context)?.keys.first?.label ?? action.configurationName
  }

  /// What the key bar shows, most important first.
  package func bar(in context: KeyContext) -> [KeyBinding] {
    bindings.filter {
      ($0.context == context || $0.context == .everywhere) && $0.bar != nil && !$0.keys.isEmpty
    }
    .sorted { ($0.bar ?? 0) < ($1.bar ?? 0) }
  }

  package static let standard: [KeyBinding] =
    machines + snapshots + pages + console + copyMode + everywhere
}
