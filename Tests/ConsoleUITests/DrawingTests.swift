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
  /// What stands on the screen after some keys.
  private struct Scene: Sendable {
    var keys: [Key]
    /// Words that must be seen on a screen of 80 by 24.
    var words: String
    var asksForPrefix = false
    /// What the world is like before the first key.
    var prepare: @Sendable (Player) -> Void = { _ in }

    init(
      _ keys: [Key], _ words: String, asksForPrefix: Bool = false,
      prepare: @escaping @Sendable (Player) -> Void = { _ in }
    ) {
      self.keys = keys
      self.words = words
      self.asksForPrefix = asksForPrefix
      self.prepare = prepare
    }
  }

  private static let scenes: [Scene] = [
    Scene([], "NAME"), Scene(["?"], "Keys"), Scene([":"], "Tab shows all"),
    Scene(["/"], "3 shown"), Scene(["C-p"], "What do you want to do?"),
    Scene(["n"], "New machine"), Scene(["t"], "New machine from debian"),
    Scene(["G", "F"], "Force off web?"), Scene(["G", "P"], "Power down web?"),
    Scene(["G", "Z"], "Reset web?"), Scene(["X"], "Power down web?"),
    Scene(["j", "r"], "Rename old"), Scene(["j", "D"], "Delete old?"),
    Scene(["j", "S"], "Take a snapshot of old"), Scene(["j", "e"], "Edit old"),
    Scene(["j", "b"], "once from"), Scene(["j", "x"], "Insert a disc into old"),
    Scene(["j", "m"], "you are here"), Scene(["j", "m", "b"], "New machine from 'clean'"),
    Scene(["j", "m", "e"], "Rename snapshot"), Scene(["j", "m", "D"], "Delete snapshot 'clean'?"),
    Scene(["2"], "EVENTS"), Scene(["3"], "IMAGE"), Scene(["3", "n"], "New image"),
    Scene(["3", "C"], "Convert base.qcow2"), Scene(["3", "e"], "Size of base.qcow2"),
    Scene(["3", "D"], "Delete base.qcow2?"), Scene(["4"], "Machines run with"),
    Scene(["5"], "Console key"), Scene(["5", "Enter"], "Theme"), Scene(["G", "l"], "following"),
    Scene(["G", "M"], "CHARTS OF web"), Scene(["G", "Enter"], "detach: ^] d"),
    Scene(["G", "Enter", "C-]"], "d detach"), Scene(["G", "Enter", "C-]", "["], "copy mode"),
    Scene(["G", "Enter", "C-]", "/"], "the past"),
    Scene(["G", "Enter", "C-]", "%"], "Which console beside"),
    Scene(["G", "Enter", "C-]", "w"], "Which console?"), Scene(["G", "Enter", "C-]", "?"], "Keys"),
    Scene(["G", "V", "C-]", "K"], "Press on web's keyboard"),
    Scene(["G", "Enter"], "How to leave a console", asksForPrefix: true),
    Scene(["5"] + Array(repeating: "j", count: 5) + ["Enter"], "shall lead commands"),
    Scene(["5"] + Array(repeating: "j", count: 6) + ["Enter"], "another key"),
    Scene(["G", "m", "R"], "Cut the power of web") { player in
      player.service.snapshots["web"] = tree(current: "a1")
    },
    Scene(["j", "m", "]"], "Roll forward to which snapshot?") { player in
      player.service.snapshots["old"] = tree(current: "a1")
    },
    Scene(["j", "x"], "CD drive of old") { player in
      player.service.machines[2].disc = "/discs/install.iso"
      player.service.announce()
      player.pump()
    },
    Scene(["j", "t"], "New machine from which template?") { player in
      player.service.machines.append(MachineSummary(name: "zeta", state: .template))
      player.service.announce()
      player.pump()
    },
    Scene([], "That did not work") { player in
      player.tell(.failed(RequestNumber(99), String(repeating: "a long reason ", count: 8)))
    },
  ]

  /// A snapshot with two that grow from it.
  private static func tree(current: String) -> [SnapshotStatus] {
    [("a1", nil), ("b1", "a1"), ("b2", "a1")].map { identifier, parent in
      SnapshotStatus(
        identifier: identifier, title: "state \(identifier)", parent: parent,
        time: 1_699_000_000, isCurrent: identifier == current)
    }
  }

  private func player(
    _ scene: Scene, _ theme: Theme, _ depth: ColorDepth, _ glyphs: GlyphSet
  ) -> Player {
    let player = Player.withMachines(
      theme: theme, depth: depth, glyphs: glyphs, asksForPrefix: scene.asksForPrefix)
    player.service.snapshots["old"] = [
      SnapshotStatus(
        identifier: "a1", title: "clean", parent: nil, time: 1_699_000_000, isCurrent: true)
    ]
    player.service.images = [ImageStatus(path: "/i/base.qcow2", format: "qcow2")]
    scene.prepare(player)
    for key in scene.keys { player.press(key) }
    return player
  }

  /// A name for each kind of thing that can stand over the screen.
  private func kind(_ overlay: Overlay) -> String {
    switch overlay {
    case .confirmation: "confirmation"
    case .form(let form):
      // Of 'edit("web", …)' what stands before the parenthesis.
      "form \(String(describing: form.purpose).prefix { $0 != "(" })"
    case .picker(let picker):
      "picker \(String(describing: picker.purpose).prefix { $0 != "(" })"
    case .help: "help"
    case .text: "text"
    case .commandLine: "commandLine"
    case .filter: "filter"
    case .search: "search"
    case .askKey(let question): "askKey \(question)"
    }
  }

  @Test func theScenesShowEveryDialogThereIs() {
    var seen: Set<String> = []
    for scene in Self.scenes {
      let overlay = player(scene, ThemeLibrary.fallback, .palette, .unicode).model.overlay
      if let overlay { seen.insert(kind(overlay)) }
    }
    let expected: Set<String> = [
      "confirmation", "help", "text", "commandLine", "filter", "search",
      "askKey prefixAtAttach", "askKey prefix", "askKey secondPrefix",
      "form newMachine", "form newFromTemplate", "form rename", "form delete", "form takeSnapshot",
      "form branch", "form renameSnapshot", "form edit", "form insertDisc", "form newImage",
      "form convertImage", "form resizeImage",
      "picker action", "picker template", "picker theme", "picker child", "picker guestKey",
      "picker console", "picker split", "picker bootDevice", "picker disc",
    ]
    #expect(seen == expected)
  }

  @Test(arguments: library.names) func everySceneInEveryTheme(name: String) throws {
    let theme = try library.theme(name)
    for (depth, glyphs) in [(ColorDepth.direct, GlyphSet.unicode), (.eight, .ascii)] {
      for scene in Self.scenes {
        let player = player(scene, theme, depth, glyphs)
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
        let player = player(scene, ThemeLibrary.fallback, .palette, .unicode)
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
    let player = player(Scene([], ""), ThemeLibrary.fallback, .palette, .unicode)
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
    let player = player(Scene([], ""), ThemeLibrary.fallback, .palette, .unicode)
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
