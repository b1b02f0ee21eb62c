import ArgumentParser
import CLinux

/// Verbs may be shortened to any unambiguous beginning, as in vmctl.
enum VerbPrefix {
  /// Arguments with whole verbs, and what they lead to.
  struct Expansion {
    /// All arguments, each verb in full.
    var arguments: [String]
    /// The last verb's command: the root if there is no verb.
    var command: any ParsableCommand.Type
    /// How many of the arguments are verbs.
    var depth: Int
  }

  /// Looks the verbs up. Ends the program with status 64 and one line when a verb is ambiguous or unknown.
  static func expanded(_ arguments: [String], of root: any ParsableCommand.Type) -> Expansion {
    var arguments = arguments
    var command = root
    var depth = 0
    for index in arguments.indices {
      let word = arguments[index]
      if word.hasPrefix("-") || word == "help" { break }
      let verbs = verbs(of: command)
      if verbs.isEmpty { break }
      let exact = verbs.first { $0._commandName == word || $0.configuration.aliases.contains(word) }
      let begun = verbs.filter {
        $0.configuration.shouldDisplay && $0._commandName.hasPrefix(word)
      }
      guard let found = exact ?? (begun.count == 1 ? begun[0] : nil) else {
        refuse(word, begun.map { $0._commandName }, command)
      }
      arguments[index] = found._commandName
      command = found
      depth = index + 1
    }
    return Expansion(arguments: arguments, command: command, depth: depth)
  }

  /// The command that the arguments ask for, with its options read.
  ///
  /// The library looks into every verb that it could meet; where the verbs are already found, only the last one is shown
  /// to it, which makes the program start in less time and memory. What that cannot read (help, wrong options, options
  /// before the verb) is read again from the root, so that every message names the whole command.
  static func parse(
    _ arguments: [String], of root: any ParsableCommand.Type
  ) throws -> any ParsableCommand {
    let expansion = expanded(arguments, of: root)
    let configuration = expansion.command.configuration
    if expansion.depth > 0, configuration.subcommands.isEmpty,
      configuration.groupedSubcommands.isEmpty,
      let command = try? expansion.command.parseAsRoot(
        Array(expansion.arguments.dropFirst(expansion.depth))),
      type(of: command) == expansion.command
    {
      return command
    }
    return try root.parseAsRoot(expansion.arguments)
  }

  private static func verbs(of command: any ParsableCommand.Type) -> [any ParsableCommand.Type] {
    let configuration = command.configuration
    var names: Set<String> = []
    return (configuration.subcommands + configuration.groupedSubcommands.flatMap(\.subcommands))
      .filter { names.insert($0._commandName).inserted }
  }

  private static func refuse(
    _ word: String, _ candidates: [String], _ command: any ParsableCommand.Type
  ) -> Never {
    let shown = word.unicodeScalars.allSatisfy { $0.value >= 0x20 } ? word : "?"
    var known = candidates
    if known.isEmpty {
      for verb in verbs(of: command) where verb.configuration.shouldDisplay {
        known.append(verb._commandName)
      }
    }
    let list = known.sorted().joined(separator: ", ")
    let reason = candidates.isEmpty ? "no such verb; there are" : "could be"
    write("uj: \(shown): \(reason) \(list)\n", to: 2)
    exit(64)
  }
}
