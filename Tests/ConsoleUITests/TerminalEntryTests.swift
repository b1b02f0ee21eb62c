import CLinux
import ConsoleUI
import Testing

private let entryPath = "/lib/terminfo/x/xterm-256color"

@Suite struct TerminalEntryTests {
  private func bytes(_ path: String) -> [UInt8] {
    guard let stream = fopen(path, "r") else { return [] }
    defer { fclose(stream) }
    var bytes = [UInt8](repeating: 0, count: 32768)
    return Array(bytes[..<fread(&bytes, 1, bytes.count, stream)])
  }

  @Test(.enabled(if: access(entryPath, R_OK) == 0, "ncurses-base is not installed"))
  func directColourIsAdded() throws {
    let entry = bytes(entryPath)
    let changed = try #require(DirectColorEntry.addingDirectColor(to: entry))
    // 32-bit numbers (term(5)), and the flag that says what colour numbers mean.
    #expect(changed[0] == 0x1E && changed[1] == 0x02)
    #expect(String(decoding: changed.suffix(4), as: UTF8.self) == "RGB\0")
    // What was changed once can be changed again: the format is understood both ways.
    #expect(DirectColorEntry.addingDirectColor(to: changed) != nil)
    for length in 0..<entry.count {
      _ = DirectColorEntry.addingDirectColor(to: Array(entry[..<length]))
    }
    #expect(DirectColorEntry.addingDirectColor(to: Array(entry[..<700])) == nil)
  }

  @Test func environments() {
    func environment(_ variables: [String: String]) -> TerminalEnvironment {
      TerminalEnvironment({ variables[$0] }, isASCIIForced: false)
    }
    let good = environment([
      "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "en_US.UTF-8",
    ])
    #expect(good.wantsDirectColor && good.glyphs == .unicode && good.hasExtensions)
    #expect(environment(["TERM": "xterm", "LANG": "C"]).glyphs == .ascii)
    #expect(environment(["TERM": "xterm"]).glyphs == .unicode)
    #expect(environment(["TERM": "linux"]).glyphs == .ascii)
    #expect(!environment(["TERM": "vt100"]).hasExtensions)
    #expect(environment(["TERM": "xterm", "NO_COLOR": "1"]).depthLimit == .monochrome)
    #expect(environment(["TERM": "xterm", "NO_COLOR": ""]).depthLimit == .direct)
    #expect(
      !environment(["TERM": "screen-256color", "COLORTERM": "truecolor"]).wantsDirectColor)
  }
}
