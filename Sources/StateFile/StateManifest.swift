/// Everything of a machine's state but its memory.
package struct StateManifest: Sendable, Equatable {
  /// The state of one device, as it encoded it.
  package struct Section: Sendable, Equatable {
    package var name: String
    /// The device's `stateVersion`.
    package var version: Int
    package var state: StateValue

    package init(name: String, version: Int, state: StateValue) {
      self.name = name
      self.version = version
      self.state = state
    }
  }

  /// A fact about the machine that must be so again where the state is used.
  package struct Fact: Sendable, Equatable {
    /// Such as `memory`.
    package var subject: String
    /// Such as `256 MiB`.
    package var value: String

    package init(_ subject: String, _ value: String) {
      self.subject = subject
      self.value = value
    }
  }

  /// Seconds since 1970.
  package var created: Int64
  package var facts: [Fact]
  package var sections: [Section]

  package init(created: Int64, facts: [Fact], sections: [Section] = []) {
    self.created = created
    self.facts = facts
    self.sections = sections
  }

  private static let kind = "underjack machine"

  /// As it stands in a file, or goes to another host.
  package var encoded: [UInt8] { value.encoded }

  /// - Parameter bytes: from anywhere.
  /// - Throws: a phrase.
  package init(decoding bytes: [UInt8]) throws(StateValueError) {
    try self.init(try StateValue(decoding: bytes))
  }

  /// Bytes of an encoded one at most: what all devices of a machine say of themselves.
  package static let sizeLimit = Int(StateFileHeader.manifestLimit)

  var value: StateValue {
    .map([
      .init("kind", .text(Self.kind)),
      .init("created", .unsigned(UInt64(clamping: created))),
      .init(
        "facts",
        .array(facts.map { .array([.text($0.subject), .text($0.value)]) })),
      .init(
        "sections",
        .array(
          sections.map { section in
            .map([
              .init("name", .text(section.name)),
              .init("version", .unsigned(UInt64(clamping: section.version))),
              .init("state", section.state),
            ])
          })),
    ])
  }

  /// - Throws: a phrase.
  init(_ value: StateValue) throws(StateValueError) {
    guard value["kind"] == .text(Self.kind), case .unsigned(let created) = value["created"],
      case .array(let facts) = value["facts"], case .array(let sections) = value["sections"]
    else { throw StateValueError("it is not of a machine") }
    self.init(created: Int64(clamping: created), facts: [])
    for fact in facts {
      guard case .array(let pair) = fact, pair.count == 2, case .text(let subject) = pair[0],
        case .text(let text) = pair[1]
      else { throw StateValueError("a fact is not one") }
      self.facts.append(Fact(subject, text))
    }
    for section in sections {
      guard case .text(let name) = section["name"],
        case .unsigned(let number) = section["version"], let version = Int(exactly: number),
        let state = section["state"]
      else { throw StateValueError("a device's part has no name, version or state") }
      self.sections.append(Section(name: name, version: version, state: state))
    }
  }

  package func section(_ name: String) -> Section? { sections.first { $0.name == name } }

  /// What is otherwise than it was: a phrase a fact; empty where the state fits.
  ///
  /// - Parameter free: subjects that may be otherwise.
  package func differences(from present: [Fact], except free: Set<String> = []) -> [String] {
    var lines: [String] = []
    for fact in facts where !free.contains(fact.subject) {
      let now = present.first { $0.subject == fact.subject }?.value
      if now != fact.value {
        lines.append("\(fact.subject) was \(fact.value) and is \(now ?? "not there") now")
      }
    }
    for fact in present
    where !free.contains(fact.subject) && !facts.contains(where: { $0.subject == fact.subject }) {
      lines.append("\(fact.subject) was not there and is \(fact.value) now")
    }
    return lines
  }
}
