import ArgumentParser

@main
struct Uj: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "uj", abstract: "A terminal console for virtual machines.")
}
