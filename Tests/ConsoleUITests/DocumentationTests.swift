import ConsoleUI
import Glibc
import Testing

/// The pages of `Documentation` say what the program does.
@Suite struct DocumentationTests {
  /// The pages stand two folders above the tests' sources.
  private static func path(_ page: String) -> String {
    var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    parts.removeLast(3)
    return parts.joined(separator: "/") + "/Documentation/" + page
  }

  private func text(_ page: String) throws -> String {
    let file = try #require(fopen(Self.path(page), "r"), "\(page) is missing")
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 18)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self)
  }

  /// The table of keys as a page.
  private static func keyPage() -> String {
    var page = """
      # Keys of the console

      `?` shows the keys of where you are; this page holds all of them. Nothing in lower case cuts power or loses data.
      Every key can be bound anew in `config.toml` (`5`, or `~/.config/underjack/config.toml`).
      (Written by the tests from the program's own table: run them with UNDERJACK_WRITE_DOCUMENTATION set.)

      """
    let table = KeyTable()
    for context in KeyContext.allCases {
      page += "\n## \(context.title)\n\n| key | what it does |\n| --- | --- |\n"
      for binding in table.bindings(in: context) where !binding.keys.isEmpty {
        let keys = binding.keys.map { "`\($0.label)`" }.joined(separator: " ")
        page += "| \(keys) | \(binding.help) |\n"
      }
    }
    return page
  }

  @Test func thePageOfKeysIsTheTable() throws {
    let page = Self.keyPage()
    if getenv("UNDERJACK_WRITE_DOCUMENTATION") != nil {
      let file = try #require(fopen(Self.path("Keys.md"), "w"))
      fputs(page, file)
      fclose(file)
    }
    let isTheSame = try text("Keys.md") == page
    #expect(isTheSame, "write it anew: UNDERJACK_WRITE_DOCUMENTATION=1")
  }

  @Test func everyRoleIsExplained() throws {
    let page = try text("Themes.md")
    for role in Role.allCases { #expect(page.contains("`\(role.rawValue)`")) }
  }
}
