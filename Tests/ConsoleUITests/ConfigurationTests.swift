import CLinux
import ConsoleService
import ConsoleUI
import Testing

/// `config.toml`: what it can say, what is complained about, and how settings get into it.
@Suite struct ConfigurationTests {
  private func read(_ text: String) -> ConfigurationFile {
    ConfigurationFile(file: "config.toml", text: text)
  }

  @Test func everythingCanBeSaid() {
    let file = read(
      """
      theme = "nord"
      prefix = "C-a"
      second-prefix = "F12"
      mouse = false
      ascii = true
      refresh = 2.5
      columns = ["name", "cpu", "state"]
      sort = "memory"
      reverse = true
      group = "tag"
      details = false

      [confirm]
      power-down = false

      [keys.machines]
      start = "F9"
      attach = ["Enter", "a"]
      group = "A"
      """)
    #expect(file.problems.isEmpty, "\(file.problems)")
    var wanted = Configuration()
    wanted.theme = "nord"
    wanted.prefix = "C-a"
    wanted.secondPrefix = "F12"
    wanted.usesMouse = false
    wanted.usesASCII = true
    wanted.refresh = 2.5
    wanted.columns = [.name, .processor, .state]
    wanted.sort = .memory
    wanted.isReversed = true
    wanted.grouping = .tag
    wanted.showsDetail = false
    wanted.questions.remove(.powerDown)
    wanted.keys = [.machines: [.start: ["F9"], .attach: ["Enter", "a"], .group: ["A"]]]
    #expect(file.configuration == wanted)
  }

  @Test func problemsNameTheirLineAndTheRestCounts() {
    let file = read(
      """
      theme = "nord"
      colour = 3
      prefix = "x"
      refresh = 0
      columns = ["name", "nonsense", "name"]

      [confirm]
      nothing = true

      [keys.machines]
      start = "s"
      pause = ["s", "w"]
      fly = "q"

      [keys.nowhere]
      start = "s"
      """)
    let lines = file.problems.map { "\($0.line): \($0.text)" }.sorted()
    func has(_ line: Int, _ words: String) -> Bool {
      file.problems.contains { $0.line == line && $0.text.contains(words) }
    }
    #expect(has(2, "unknown key 'colour'"), "\(lines)")
    #expect(has(3, "x is needed for typing"), "\(lines)")
    #expect(has(4, "seconds from 0.2 to 60"), "\(lines)")
    #expect(has(5, "no column 'nonsense'"), "\(lines)")
    #expect(has(5, "stands twice"), "\(lines)")
    #expect(has(8, "unknown question 'nothing'"), "\(lines)")
    #expect(has(12, "s is 'start' already (line 11)"), "\(lines)")
    #expect(has(13, "no action 'fly'"), "\(lines)")
    #expect(has(15, "no place 'nowhere'"), "\(lines)")
    #expect(file.configuration.theme == "nord")
    #expect(file.configuration.keys[.machines]?[.pause] == ["w"])
    let broken = read("theme = \"a\n[x")
    #expect(broken.problems.count == 1 && broken.configuration == Configuration())
  }

  @Test func aLostKeyIsToldOf() {
    let file = read("[keys.machines]\nstart = \"P\"\n")
    #expect(file.problems.count == 1)
    #expect(file.problems.first?.text.contains("only key of 'power-down'") ?? false)
    #expect(file.problems.first?.line == 2)
    // With a key of its own nothing is lost.
    let both = read("[keys.machines]\nstart = \"P\"\npower-down = \"Q\"\n")
    #expect(both.problems.isEmpty, "\(both.problems)")
  }

  @Test func keysAreBoundAnewEverywhere() {
    var configuration = Configuration()
    configuration.keys = [.machines: [.start: ["F9"], .pause: ["s"]]]
    let player = Player.withMachines(configuration: configuration)
    player.press("j", "F9")
    #expect(player.service.requests == [.start("old")])
    player.press("s")
    #expect(player.service.requests.last == .pause("old"))
    player.press("?")
    #expect(player.shows("F9"))
    player.press("Esc")
    // The key bar and help name the new key.
    player.press("s")
    #expect(
      !KeyTable(overrides: configuration.keys).bindings(in: .machines).contains {
        $0.action == .start && $0.keys.contains("s")
      })
  }

  @Test func everyActionHasANameAndAKeyOfItsOwn() {
    for action in Action.allCases {
      #expect(Action(configurationName: action.configurationName) == action)
    }
    for context in KeyContext.allCases {
      var owners: [Key: Action] = [:]
      for binding in KeyTable.standard where binding.context == context {
        for key in binding.keys {
          #expect(owners[key] == nil, "\(key) in \(context): \(binding.action)")
          owners[key] = binding.action
        }
      }
    }
  }

  @Test func settingOneKeyLeavesTheRestAsItIs() {
    let text = "# mine\ntheme = \"a\" # old\n\n[confirm]\nreset = false\n"
    let first = ConfigurationStore.setting("theme", to: "\"b\"", in: text)
    #expect(first.hasPrefix("# mine\ntheme = \"b\"\n"))
    #expect(first.hasSuffix("[confirm]\nreset = false\n"))
    let second = ConfigurationStore.setting("confirm.roll", to: "false", in: first)
    #expect(second.contains("[confirm]\nreset = false\nroll = false\n"))
    let third = ConfigurationStore.setting("keys.machines.start", to: "[\"F9\"]", in: second)
    let file = ConfigurationFile(file: "c", text: third)
    #expect(file.problems.isEmpty)
    #expect(file.configuration.keys[.machines]?[.start] == ["F9"])
    #expect(!file.configuration.questions.contains(.roll))
    let fresh = ConfigurationStore.setting("mouse", to: "false", in: "[confirm]\nroll = true\n")
    #expect(!ConfigurationFile(file: "c", text: fresh).configuration.usesMouse)
    let lists = "columns = [\n  \"name\",\n  \"cpu\",\n]\nsort = \"name\"\n"
    let replaced = ConfigurationStore.setting("columns", to: "[\"name\"]", in: lists)
    #expect(replaced == "columns = [\"name\"]\nsort = \"name\"\n")
  }

  @Test func theStoreWritesAndReads() throws {
    let folder = "/tmp/underjack-config-\(getpid())"
    let store = try #require(
      ConfigurationStore(files: .inventory) { $0 == "XDG_CONFIG_HOME" ? folder : nil })
    #expect(store.load().configuration == Configuration())
    try store.set("theme", to: "\"nord\"")
    try store.set("confirm.reset", to: "false")
    let loaded = store.load()
    #expect(loaded.problems.isEmpty)
    #expect(loaded.configuration.theme == "nord")
    #expect(!loaded.configuration.questions.contains(.reset))
    unlink(store.path)
  }

  @Test func theFirstAttachAsksForTheKey() {
    let player = Player.withMachines(asksForPrefix: true)
    player.press("G", "Enter")
    #expect(player.shows("How to leave a console"))
    player.press("a")
    #expect(player.shows("needed for typing"))
    player.press("F12")
    #expect(player.effects.contains(.save("prefix", "\"F12\"")))
    #expect(player.lines[0].contains("detach: F12 d"))
    player.press("F12", "d")
    #expect(player.message.contains("detached"))
    // It asks once.
    player.press("Enter")
    #expect(!player.shows("How to leave"))
  }

  @Test func theSecondPrefixDoesTheSame() {
    var configuration = Configuration()
    configuration.prefix = "C-]"
    configuration.secondPrefix = "C-a"
    let player = Player.withMachines(configuration: configuration, asksForPrefix: true)
    player.press("G", "Enter", "C-a", "C-a")
    #expect(player.service.sent == [1])
    player.press("C-a", "d")
    #expect(player.message.contains("detached"))
  }

  @Test func settingsCountAtOnceAndAreSaved() {
    let player = Player.withMachines(rows: 50)
    player.press("5")
    #expect(player.shows("Columns of the list"))
    // Down to the column of processors' use.
    while player.model.context == .settings, player.canvas.text.contains("▌  CPU ") == false,
      player.effects.count < 100
    {
      let before = player.screen
      player.press("j")
      if player.screen == before { break }
      if player.lines.contains(where: { $0.hasPrefix("▌  CPU ") }) { break }
    }
    player.press("Space")
    #expect(
      player.effects.contains { effect in
        if case .save("columns", let list) = effect { return !list.contains("processor\"") }
        return false
      })
    player.press("Esc")
    #expect(!player.lines[1].contains("CPU "))
    #expect(player.lines[1].contains("MEMORY"))
  }

  @Test func questionsCanBeSwitchedOff() {
    var configuration = Configuration()
    configuration.questions = []
    let player = Player.withMachines(configuration: configuration)
    player.press("G", "F")
    #expect(player.service.requests == [.forceStop("web")])
    player.press("D")
    #expect(player.shows("[ ] no"))
    player.press("Space", "Enter")
    #expect(player.service.requests.last == .delete("web"))
  }

  @Test func keysCanBeBoundByCommand() {
    let player = Player.withMachines()
    player.press(":")
    player.type("bind machines start F9")
    player.press("Enter", "j", "F9")
    #expect(player.service.requests == [.start("old")])
    #expect(player.effects.contains(.save("keys.machines.start", "[\"F9\"]")))
    player.press(":")
    player.type("bind machines pause F9")
    player.press("Enter")
    #expect(player.message.contains("'start' already"))
  }
}
