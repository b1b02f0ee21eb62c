import CLinux
import ConsoleUI
import Testing

private func contents(_ path: String) -> String? {
  guard let stream = fopen(path, "r") else { return nil }
  defer { fclose(stream) }
  var bytes = [UInt8](repeating: 0, count: 65536)
  return String(decoding: bytes[..<fread(&bytes, 1, 65536, stream)], as: UTF8.self)
}

/// The folder `Themes` of the package.
private let folder: String = {
  let parts = #filePath.split(separator: "/").dropLast(3)
  return "/" + parts.joined(separator: "/") + "/Themes"
}()

private let library = ThemeLibrary(folders: [folder])
private let names = library.names

@Suite struct ThemeTests {
  @Test func thereAreEnough() {
    #expect(names.count >= 8)
    for name in ["light", "monochrome", "high-contrast", "color-blind", "underjack"] {
      #expect(names.contains(name))
    }
  }

  @Test func theCompiledInThemeIsTheFile() throws {
    #expect(try library.theme("underjack") == ThemeLibrary.fallback)
    #expect(try #require(contents(folder + "/underjack.toml")).count > 1000)
  }

  @Test(arguments: names) func isReadable(name: String) throws {
    let palette = try library.theme(name).palette(for: .direct)
    for role in Role.allCases where role != .border && role != .dialogBorder && role != .focus {
      let style = palette[role]
      // The terminal's own colours are its owner's business.
      guard case .rgb = style.foreground, case .rgb = style.background else { continue }
      let ratio = contrast(style.foreground, style.background)
      #expect(ratio >= 4.4, "\(name): \(role) has contrast \(ratio)")
      // State words also stand on the selected row.
      if [.running, .paused, .crashed, .template, .starting].contains(role) {
        let selected = contrast(style.foreground, palette[.selection].background)
        #expect(selected >= 3, "\(name): \(role) on a selected row has contrast \(selected)")
      }
    }
  }

  private func contrast(_ a: Color, _ b: Color) -> Double {
    let light = max(a.luminance, b.luminance)
    let dark = min(a.luminance, b.luminance)
    return (light + 0.05) / (dark + 0.05)
  }

  @Test(arguments: names, ColorDepth.allCases) func fitsTheDepth(name: String, depth: ColorDepth)
    throws
  {
    let palette = try library.theme(name).palette(for: depth)
    for role in Role.allCases {
      for color in [palette[role].foreground, palette[role].background] {
        switch color {
        case .standard: break
        case .indexed(let index):
          #expect(depth > .monochrome && Int(index) < max(8, depth.rawValue))
        case .rgb: #expect(depth == .direct)
        }
      }
    }
    // The selection and the focused button are seen without colours.
    if depth <= .sixteen {
      let plain = palette[.text]
      #expect(palette[.selection] != plain)
      #expect(palette[.buttonFocus] != palette[.button])
    }
  }

  @Test func poorTerminalsGetTheirOwnColours() {
    let palette = ThemeLibrary.fallback.palette(for: .eight)
    #expect(palette[.running].foreground == .indexed(2))
    #expect(palette[.crashed].foreground == .indexed(1))
    #expect(palette[.text] == .plain)
  }

  @Test func errorsNameFileAndLine() throws {
    let path = "/tmp/uj-theme-\(getpid()).toml"
    defer { unlink(path) }
    func problem(_ text: String) -> ThemeProblem? {
      guard let stream = fopen(path, "w") else { return nil }
      fputs(text, stream)
      fclose(stream)
      do {
        _ = try library.theme(path)
        return nil
      } catch {
        return error
      }
    }
    #expect(problem("summary = \"x\"\ninherit = \"underjack\"\n") == nil)
    #expect(problem("[ui]\ntext = \"red\"\n\ntxet = \"blue\"\n")?.line == 4)
    #expect(problem("[ui]\ntext = \"rde\"\n")?.line == 2)
    #expect(problem("[palette]\na = \"#12345\"\n")?.line == 2)
    #expect(problem("colour = 1\n")?.line == 1)
    #expect(problem("a = \n")?.line == 1)
    let text = problem("[ui]\ntext = \"red on\"\n")?.description ?? ""
    #expect(text.hasPrefix("\(path):2: "))
    #expect(text.contains("missing"))
    #expect(throws: ThemeProblem.self) { try library.theme("no-such-theme") }
  }

  @Test func aCircleOfInheritanceEnds() throws {
    let path = "/tmp/uj-circle-\(getpid()).toml"
    defer { unlink(path) }
    let stream = try #require(fopen(path, "w"))
    fputs("inherit = \"\(path)\"\n", stream)
    fclose(stream)
    #expect(try library.theme(path).palette(for: .direct)[.brand] != .plain)
  }

  @Test func coloursAreReducedToTheNearest() {
    #expect(Color.rgb(red: 255, green: 0, blue: 0).reduced(to: .palette) == .indexed(196))
    #expect(Color.rgb(red: 8, green: 8, blue: 8).reduced(to: .palette) == .indexed(232))
    #expect(Color.rgb(red: 250, green: 5, blue: 5).reduced(to: .sixteen) == .indexed(9))
    #expect(Color.rgb(red: 250, green: 5, blue: 5).reduced(to: .eight) == .indexed(1))
    #expect(Color.indexed(12).reduced(to: .eight) == .indexed(4))
    #expect(Color.rgb(red: 1, green: 2, blue: 3).reduced(to: .monochrome) == .standard)
  }
}
