/// What the filter line says: words that must all match. `!word` must not match; `state:run`, `tag:x` and `template:x`
/// look at one property, other words at the name.
package struct FilterQuery: Sendable {
  private enum Property { case name, state, tag, template }
  private struct Term {
    var property: Property
    var text: String
    var isNegated: Bool
  }

  private var terms: [Term] = []

  package init(_ text: String) {
    for word in text.lowercased().split(separator: " ") {
      var rest = word
      let isNegated = rest.first == "!"
      if isNegated { rest = rest.dropFirst() }
      var property = Property.name
      for (prefix, value) in [
        ("state:", Property.state), ("tag:", .tag), ("template:", .template),
      ] where rest.hasPrefix(prefix) {
        property = value
        rest = rest.dropFirst(prefix.count)
      }
      if !rest.isEmpty {
        terms.append(Term(property: property, text: String(rest), isNegated: isNegated))
      }
    }
  }

  package func matches(_ machine: MachineSummary) -> Bool {
    terms.allSatisfy { term in
      let found =
        switch term.property {
        case .name: machine.name.lowercased().contains(term.text)
        case .state: machine.state.word.hasPrefix(term.text)
        case .tag: machine.tags.contains { $0.lowercased().hasPrefix(term.text) }
        case .template: machine.parent?.lowercased().hasPrefix(term.text) ?? false
        }
      return found != term.isNegated
    }
  }

  /// Where the name matches: offset and count in characters, for highlighting.
  package func match(in name: String) -> Range<Int>? {
    let characters = Array(name.lowercased())
    for term in terms where term.property == .name && !term.isNegated {
      let wanted = Array(term.text)
      guard wanted.count <= characters.count else { continue }
      for start in 0...(characters.count - wanted.count)
      where characters[start..<(start + wanted.count)].elementsEqual(wanted) {
        return start..<(start + wanted.count)
      }
    }
    return nil
  }
}
