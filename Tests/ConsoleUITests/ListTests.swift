import ConsoleUI
import Testing

/// The list of machines, drawn and used.
@Suite struct ListTests {
  @Test func thePageAsAPersonSeesIt() {
    let player = Player.withMachines()
    #expect(
      player.lines[..<5] == [
        " Underjack  2 machines, 1 on                        CPU 12%  memory 5G/16G  kvm",
        "  NAME↑                   STATE           CPU               MEMORY  UPTIME CPUS",
        "▌ debian                  ◆ template                            1G            2",
        "  old                     ■ stopped                           256M            1",
        "  web                     ▶ running        50%        ▃    300M/1G   1m05s    2",
      ])
    // The bar offers what the selected machine's state allows.
    #expect(player.lines[23].hasPrefix(" ? Help  m Tree  t From template  n New"))
    player.press("j")
    #expect(player.lines[23].hasPrefix(" ? Help  Enter Attach  s Start  S Snapshot"))
    player.press("j")
    #expect(player.lines[23].hasPrefix(" ? Help  Enter Attach  P Stop  S Snapshot"))
  }

  @Test(arguments: MachineCondition.allCases) func everyStateHasGlyphAndWord(
    state: MachineCondition
  ) {
    for glyphs in [GlyphSet.unicode, .ascii] {
      let player = Player(glyphs: glyphs)
      var machine = MachineSummary(name: "m", state: state, processors: 1, memory: 1 << 30)
      if state == .broken || state == .crashed { machine.problem = "machine.toml:3: bad key" }
      player.service.machines = [machine]
      player.service.announce()
      player.pump()
      let row = player.lines[2]
      #expect(row.contains(state.word))
      let cells = row.split(separator: " ").map(String.init)
      #expect(cells[2].count == 1, "a glyph stands before the word: \(row)")
      #expect(row.contains("bad key") == (machine.problem != nil))
      if glyphs == .ascii { #expect(player.screen.unicodeScalars.allSatisfy { $0.isASCII }) }
    }
  }

  @Test func firstStart() {
    let player = Player()
    #expect(player.shows("looking for machines"))
    player.service.announce()
    player.pump()
    #expect(player.shows("No machine is defined yet."))
    #expect(player.shows(" d   run the demonstration"))
    player.press("s")
    #expect(player.message.contains("d runs the demonstration"))
    player.press("d")
    #expect(player.service.requests == [.demo])
    #expect(player.message.contains("needs a network"))
  }

  @Test func withoutDemonstrationNothingSpeaksOfIt() {
    let player = Player(capabilities: [])
    player.service.announce()
    player.pump()
    #expect(!player.screen.contains("demonstration"))
    player.press("d")
    #expect(player.service.requests.isEmpty)
  }

  @Test func movingFilteringSorting() {
    let player = Player.withMachines()
    player.press("j")
    #expect(player.model.list.selection == "old")
    player.press("G", "Down")
    #expect(player.model.list.selection == "web")
    player.press("/")
    player.type("o")
    #expect(player.shows("1 shown"))
    #expect(player.model.list.selection == "old")
    player.press("Enter")
    #expect(player.message.contains("filter 'o': 1 of 3"))
    player.press("Esc")
    #expect(player.model.list.filter == "")
    #expect(player.model.list.visible.count == 3)
    player.press("/")
    player.type("zzz")
    #expect(player.shows("no machine matches 'zzz'"))
    player.press("Esc", ">", ">")
    #expect(player.message.contains("sorted by cpu"))
    #expect(player.lines[2].contains("web"))
    player.press("o")
    #expect(player.lines[2].contains("debian"))
  }

  @Test func theSelectionStaysOnItsMachine() {
    let player = Player.withMachines()
    player.press("j")
    player.service.machines.append(MachineSummary(name: "aaa", state: .stopped))
    player.service.announce()
    player.pump()
    #expect(player.model.list.selection == "old")
    #expect(player.lines[4].hasPrefix("▌ old"))
    player.service.machines.removeAll { $0.name == "old" }
    player.service.announce()
    player.pump()
    // Gone: the row that took its place.
    #expect(player.model.list.selection == "web")
  }

  @Test func columnsLeaveByPriority() {
    for columns in [200, 120, 80, 60, 40, 20] {
      let player = Player.withMachines(columns: columns, rows: 24)
      let heading = player.lines[1]
      #expect(heading.contains("NAME"))
      #expect(heading.contains("SNAPSHOT") == (columns >= 200), "\(columns)")
      #expect(heading.contains("MEMORY") == (columns >= 60), "\(columns)")
      #expect(player.lines[4].contains("web"))
      #expect(player.lines[4].contains("▶"))
    }
  }

  @Test func anySizeIsDrawn() {
    let player = Player.withMachines()
    for overlay in ["", "?", ":", "/", "t", "n", "F", "S", "m", "C-p", ","] {
      if let key = Key(name: overlay) { player.press(key) }
      for (columns, rows) in [(1, 1), (20, 5), (21, 6), (40, 10), (80, 24), (83, 40), (300, 80)] {
        _ = player.model.handle(.resize(Size(columns: columns, rows: rows)))
        #expect(player.canvas.size == Size(columns: columns, rows: rows))
      }
      player.press("Esc", "Esc")
    }
    _ = player.model.handle(.resize(Size(columns: 10, rows: 2)))
    #expect(player.lines[0].hasPrefix("uj needs"))
    player.press("q")
    #expect(player.effects.contains(.quit))
  }

  @Test func aThousandMachines() {
    let player = Player(columns: 200, rows: 60)
    player.service.machines = (0..<1000).map { number in
      var machine = MachineSummary(name: "vm\(number)", state: .running, processors: 2)
      machine.processorUse = 0.3
      return machine
    }
    player.service.announce()
    player.pump()
    player.press("G")
    #expect(player.shows("▌ vm999"))
    let clock = ContinuousClock()
    let time = clock.measure { for _ in 0..<10 { _ = player.canvas } }
    // Debug builds draw far more slowly than release ones; this only catches what is quadratic.
    #expect(time < .seconds(30))
  }

  @Test func theMouse() {
    let player = Player.withMachines()
    player.input(.mouse(MouseEvent(.press, at: Position(row: 4, column: 10))))
    #expect(player.model.list.selection == "web")
    player.input(.mouse(MouseEvent(.wheelUp, at: Position(row: 4, column: 10))))
    #expect(player.model.list.selection == "old")
    // The key bar can be clicked.
    player.input(.mouse(MouseEvent(.press, at: Position(row: 23, column: 3))))
    #expect(player.shows("─ Keys ─"))
  }

  @Test(arguments: ColorDepth.allCases) func everyDepthDraws(depth: ColorDepth) {
    let player = Player(depth: depth)
    player.service.machines = [MachineSummary(name: "m", state: .running)]
    player.service.announce()
    player.pump()
    let styles = Set(player.canvas.cells.map(\.style))
    #expect(styles.count > 3)
    if depth == .monochrome {
      #expect(styles.allSatisfy { $0.foreground == .standard && $0.background == .standard })
    }
  }
}
