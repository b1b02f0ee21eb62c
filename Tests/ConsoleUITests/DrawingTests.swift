import CLinux
import ConsoleUI
import Testing

private let folder: String = {
  let parts = #filePath.split(separator: "/").dropLast(3)
  return "/" + parts.joined(separator: "/") + "/Themes"
}()

private let library = ThemeLibrary(folders: [folder])

/// Every state, dialog and view is drawn in every theme, at small and large sizes, and says what it has to say.
@Suite struct DrawingTests {
  /// Keys that lead somewhere, and words that must be seen there on a screen of 80 by 24.
  private static let scenes: [(keys: [Key], words: String)] = [
    ([], "NAME"), (["?"], "Keys"), ([":"], "Tab shows all"), (["/"], "3 shown"),
    (["C-p"], "What do you want to do?"), (["n"], "New machine"),
    (["t"], "New machine from debian"),
    (["G", "F"], "Force off web?"), (["G", "P"], "Power down web?"), (["G", "Z"], "Reset web?"),
    (["X"], "Power down web?"), (["j", "r"], "Rename old"), (["j", "D"], "Delete old?"),
    (["j", "S"], "Take a snapshot of old"), (["j", "e"], "Edit old"),
    (["j", "b"], "once from"), (["j", "x"], "Insert a disc into old"),
    (["j", "m"], "you are here"),
    (["j", "m", "b"], "New machine from 'clean'"), (["j", "m", "e"], "Rename snapshot"),
    (["j", "m", "D"], "Delete snapshot 'clean'?"), (["2"], "EVENTS"), (["3"], "IMAGE"),
    (["3", "n"], "New image"), (["4"], "Machines run with"), (["5"], "Console key"),
    (["5", "Enter"], "Theme"), (["G", "l"], "following"), (["G", "M"], "CHARTS OF web"),
    (["G", "Enter"], "detach: ^] d"), (["G", "Enter", "C-]"], "d detach"),
    (["G", "Enter", "C-]", "["], "copy mode"), (["G", "Enter", "C-]", "/"], "the past"),
    (["G", "Enter", "C-]", "%"], "Which console beside"), (["G", "Enter", "C-]", "?"], "Keys"),
  ]

  private func player(_ theme: Theme, _ depth: ColorDepth, _ glyphs: GlyphSet) -> Player {
    let player = Player.withMachines(theme: theme, depth: depth, glyphs: glyphs)
    player.service.snapshots["old"] = [
      SnapshotStatus(
        identifier: "a1", title: "clean", parent: nil, time: 1_699_000_000, isCurrent: true)
    ]
    player.service.images = [ImageStatus(path: "/i/base.qcow2", format: "qcow2")]
    return player
  }

  @Test(arguments: library.names) func everySceneInEveryTheme(name: String) throws {
    let theme = try library.theme(name)
    for (depth, glyphs) in [(ColorDepth.direct, GlyphSet.unicode), (.eight, .ascii)] {
      for scene in Self.scenes {
        let player = player(theme, depth, glyphs)
        for key in scene.keys { player.press(key) }
        let canvas = player.canvas
        #expect(canvas.text.contains(scene.words), "\(name) \(scene.keys)")
        if glyphs == .ascii {
          let text = canvas.text
          #expect(text.unicodeScalars.allSatisfy { $0.isASCII }, "\(name) \(scene.keys)")
        }
        // What is written can be told from what it is written on.
        var invisible = 0
        for cell in canvas.cells where cell.text != " " && cell.width > 0 {
          let style = cell.style
          if style.foreground == style.background, style.foreground != .standard,
            !style.attributes.contains(.reverse)
          {
            invisible += 1
          }
        }
        #expect(invisible == 0, "\(name) \(scene.keys)")
      }
    }
  }

  @Test func everySceneAtEverySize() {
    for scene in Self.scenes {
      for (columns, rows) in [(20, 5), (24, 8), (40, 12), (80, 24), (200, 60), (320, 100)] {
        let player = player(ThemeLibrary.fallback, .palette, .unicode)
        for key in scene.keys { player.press(key) }
        _ = player.model.handle(.resize(Size(columns: columns, rows: rows)))
        let canvas = player.canvas
        #expect(canvas.size == Size(columns: columns, rows: rows))
        let isEmpty = canvas.cells.allSatisfy { $0.text == " " }
        #expect(!isEmpty, "\(scene.keys) \(columns)x\(rows)")
        // Keys do no harm in odd places.
        player.press("Down", "Up", "PgDn", "Left", "Right", "Tab", "Esc", "Esc")
      }
    }
  }

  @Test(arguments: MachineCondition.allCases) func everyStateInEveryTheme(state: MachineCondition)
    throws
  {
    for name in library.names {
      let player = Player(theme: try library.theme(name))
      var machine = MachineSummary(name: "m", state: state, memory: 1 << 30)
      if state == .broken { machine.problem = "machine.toml:3: bad key" }
      player.service.machines = [machine]
      player.service.announce()
      player.pump()
      #expect(player.lines[2].contains(state.word), "\(name)")
      // No key stops the program in any state.
      for binding in KeyTable.standard where binding.context == .machines {
        for key in binding.keys { player.press(key, "Esc", "Esc", "C-]", "d") }
      }
    }
  }

  @Test func aStormOfSizesAndKeys() {
    let player = player(ThemeLibrary.fallback, .palette, .unicode)
    var random = SystemRandomNumberGenerator()
    let keys = KeyTable.standard.flatMap(\.keys) + ["a", "1", "C-]", "Enter", "Esc", "Tab"]
    for step in 0..<1500 {
      guard let key = keys.randomElement(using: &random) else { continue }
      if key == "C-z" { continue }
      player.press(key)
      if step % 3 == 0 {
        let size = Size(
          columns: Int.random(in: 1...220, using: &random),
          rows: Int.random(in: 1...70, using: &random))
        _ = player.model.handle(.resize(size))
      }
      if step % 50 == 0 {
        // Somebody else deletes and makes machines meanwhile.
        if step % 100 == 0 { player.service.machines.removeLast() }
        player.service.machines.append(MachineSummary(name: "s\(step)", state: .running))
        player.service.announce()
        player.pump()
      }
      #expect(player.canvas.size == player.model.size)
    }
  }

  @Test func invalidTextFromOutsideIsHarmless() {
    let player = player(ThemeLibrary.fallback, .palette, .unicode)
    let bytes: [UInt8] = [0xC3, 0x28, 0xFF, 0xFE, 0xE2, 0x82, 0x1B, 0x5B, 0x80, 0xF0, 0x9F, 0x92]
    player.press(":")
    player.input(.paste(bytes + Array("start web".utf8)))
    player.press("Enter", "/")
    player.input(.paste(bytes))
    player.press("Esc", "n")
    player.input(.paste(bytes))
    player.press("Enter", "Esc", "G", "Enter")
    player.input(.paste(bytes))
    if let number = player.model.activeConsole {
      player.service.emit(.output(number, bytes))
      player.pump()
    }
    for cell in player.canvas.cells {
      let isClean = cell.text.unicodeScalars.allSatisfy { $0.value >= 0x20 }
      #expect(isClean)
    }
  }
}
