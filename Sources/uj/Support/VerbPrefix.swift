import ArgumentParser

/// Verbs may be shortened to any unambiguous beginning, as in vmctl.
enum VerbPrefix {
  static func expanded(_ arguments: [String], of root: any ParsableCommand.Type) -> [String] {
    var arguments = arguments
    var command = root
    for index in arguments.indices {
      let word = arguments[index]
      if word.hasPrefix("-") || word == "help" { break }
      let configuration = command.configuration
      let verbs =
        (configuration.subcommands + configuration.groupedSubcommands.flatMap(\.subcommands))
        .filter { $0.configuration.shouldDisplay }
      let found =
        verbs.first { $0._commandName == word }
        ?? only(verbs.filter { $0._commandName.hasPrefix(word) })
      guard let found else { break }
      arguments[index] = found._commandName
      command = found
      let deeper = found.configuration
      if deeper.subcommands.isEmpty, deeper.groupedSubcommands.isEmpty { break }
    }
    return arguments
  }

  private static func only<Element>(_ elements: [Element]) -> Element? {
    elements.count == 1 ? elements[0] : nil
  }
}
