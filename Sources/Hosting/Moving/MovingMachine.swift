import Inventory
import StateFile

/// What a receiver is told of a machine before anything else of it comes.
package struct MovingMachine: Sendable, Equatable {
  package struct File: Sendable, Equatable {
    package var file: MovingFile
    package var size: UInt64

    package init(file: MovingFile, size: UInt64) {
      self.file = file
      self.size = size
    }
  }

  package var name: String
  /// As `machine.toml` has it; its paths are the sender's.
  package var definition: String
  package var facts: [StateManifest.Fact]
  /// What CPUID tells the first processor.
  package var leaves: StateValue
  package var memorySize: UInt64
  package var disks: [ArrivingMachine.Disk]
  package var files: [File]
  /// The sender hears answers.
  package var isAnswered: Bool

  package init(
    name: String, definition: String, facts: [StateManifest.Fact], leaves: StateValue,
    memorySize: UInt64, disks: [ArrivingMachine.Disk], files: [File], isAnswered: Bool
  ) {
    self.name = name
    self.definition = definition
    self.facts = facts
    self.leaves = leaves
    self.memorySize = memorySize
    self.disks = disks
    self.files = files
    self.isAnswered = isAnswered
  }

  package var encoded: [UInt8] {
    StateValue.map([
      .init("name", .text(name)),
      .init("definition", .text(definition)),
      .init("facts", .array(facts.map { .array([.text($0.subject), .text($0.value)]) })),
      .init("leaves", leaves),
      .init("memory", .unsigned(memorySize)),
      .init(
        "disks",
        .array(
          disks.map { disk in
            .map([
              .init("name", .text(disk.name)), .init("size", .unsigned(disk.size)),
              .init("comes", .bool(disk.isCopied)),
            ])
          })),
      .init(
        "files",
        .array(
          files.map { .array([.unsigned(UInt64($0.file.rawValue)), .unsigned($0.size)]) })),
      .init("answered", .bool(isAnswered)),
    ]).encoded
  }

  /// - Parameter bytes: from anywhere.
  /// - Throws: a phrase.
  package init(decoding bytes: [UInt8]) throws(StateValueError) {
    let value = try StateValue(decoding: bytes)
    guard case .text(let name) = value["name"], case .text(let definition) = value["definition"],
      case .array(let facts) = value["facts"], let leaves = value["leaves"],
      case .unsigned(let memory) = value["memory"], case .array(let disks) = value["disks"],
      case .array(let files) = value["files"], case .bool(let isAnswered) = value["answered"]
    else { throw StateValueError("what it says of the machine is not complete") }
    self.init(
      name: name, definition: definition, facts: [], leaves: leaves, memorySize: memory, disks: [],
      files: [], isAnswered: isAnswered)
    for fact in facts {
      guard case .array(let pair) = fact, pair.count == 2, case .text(let subject) = pair[0],
        case .text(let text) = pair[1]
      else { throw StateValueError("a fact is not one") }
      self.facts.append(.init(subject, text))
    }
    for disk in disks {
      guard case .text(let name) = disk["name"], case .unsigned(let size) = disk["size"],
        case .bool(let comes) = disk["comes"]
      else { throw StateValueError("a disk has no name or size") }
      self.disks.append(.init(name: name, size: size, isCopied: comes))
    }
    for file in files {
      guard case .array(let pair) = file, pair.count == 2, case .unsigned(let number) = pair[0],
        case .unsigned(let size) = pair[1], let kind = UInt8(exactly: number),
        let known = MovingFile(rawValue: kind)
      else { throw StateValueError("a file is of no known kind") }
      self.files.append(.init(file: known, size: size))
    }
  }
}
