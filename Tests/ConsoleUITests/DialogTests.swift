import ConsoleUI
import Testing

/// Dialogs: what they ask, what their defaults are, and what becomes of the answers.
@Suite struct DialogTests {
  @Test func cuttingPowerAsksAndCancelIsTheDefault() {
    let player = Player.withMachines()
    player.press("G", "F")
    #expect(player.shows("─ Force off web? ─"))
    #expect(player.shows("is lost"))
    #expect(player.shows("[ Cancel ]    Force off"))
    player.press("Enter")
    #expect(player.model.overlay == nil)
    #expect(player.service.requests.isEmpty)
    player.press("F", "Tab")
    #expect(player.shows("Cancel    [ Force off ]"))
    player.press("Enter")
    #expect(player.service.requests == [.forceStop("web")])
    #expect(player.message.contains("web is off"))
  }

  @Test func statesRefuseWhatMakesNoSense() {
    let player = Player.withMachines()
    player.press("s")
    #expect(player.message.contains("template and never runs"))
    player.press("j", "P")
    #expect(player.message.contains("old is stopped"))
    player.press("p")
    #expect(player.message.contains("only a running machine"))
    player.press("G", "s")
    #expect(player.message.contains("web is running already"))
    player.press("D")
    #expect(player.message.contains("stop it before"))
    #expect(player.service.requests.isEmpty)
    player.press("g", "D")
    #expect(player.message.contains("delete web first"))
  }

  @Test func deletingTakesTheTypedName() {
    let player = Player.withMachines()
    player.press("j", "D")
    #expect(player.shows("─ Delete old? ─"))
    #expect(player.shows("disk disk0, 300M in 2 layers"))
    player.press("Enter")
    #expect(player.shows("type: old"))
    player.type("oldd")
    player.press("Enter")
    #expect(player.service.requests.isEmpty)
    player.press("Backspace", "Enter")
    #expect(player.service.requests == [.delete("old")])
    #expect(!player.shows("  old "))
  }

  @Test func newFromTemplateInThreeKeys() {
    let player = Player.withMachines()
    player.press("t")
    #expect(player.shows("─ New machine from debian ─"))
    #expect(player.shows("debian-1"))
    // The first character replaces what was proposed.
    player.type("a")
    player.press("Enter")
    #expect(
      player.service.requests == [
        .createFromTemplate(template: "debian", name: "a", start: false)
      ])
    #expect(player.model.list.selection == "a")
    #expect(player.message.contains("a made from debian"))
    #expect(player.lines[2].hasPrefix("▌ a "))
  }

  @Test func namesAreChecked() {
    let player = Player.withMachines()
    for (text, problem) in [
      ("a/b", "only letters"), ("-a", "begins with"), ("web", "exists already"),
      (".x", "begins with"),
    ] {
      player.press("t")
      player.type(text)
      player.press("Enter")
      #expect(player.shows(problem), "\(text)")
      player.press("Esc")
    }
    player.press("t", "Backspace", "C-u", "Enter")
    #expect(player.shows("a name is needed"))
    #expect(player.service.requests.isEmpty)
  }

  @Test func newMachineForm() {
    let player = Player.withMachines()
    player.press("n")
    #expect(player.shows("─ New machine ─"))
    player.type("box")
    player.press("Tab")
    player.type("lots")
    player.press("Enter")
    #expect(player.shows("a size such as 512M or 2G"))
    player.press("C-u")
    player.type("2G")
    player.press("Tab")
    player.type("4")
    player.press("Tab")
    player.type("/tmp/grub.qcow2")
    player.press("Enter")
    var wanted = MachineSpecification(name: "box", processors: 4, memory: 2 << 30)
    wanted.image = "/tmp/grub.qcow2"
    #expect(player.service.requests == [.create(wanted)])
  }

  @Test func marksActTogether() {
    let player = Player.withMachines()
    player.service.machines.append(MachineSummary(name: "x1", state: .running))
    player.service.announce()
    player.pump()
    player.press("*", "P")
    #expect(player.shows("Power down 2 machines?"))
    #expect(player.shows("• web"))
    #expect(player.shows("• x1"))
    player.press("y")
    #expect(Set(player.service.requests) == [.stop("web"), .stop("x1")])
    #expect(player.model.list.marks.isEmpty)
  }

  @Test func aDialogOfADeletedMachineCloses() {
    let player = Player.withMachines()
    player.press("G", "F")
    player.service.machines.removeAll { $0.name == "web" }
    player.service.announce()
    player.pump()
    #expect(player.model.overlay == nil)
    #expect(player.message.contains("web was deleted meanwhile"))
  }

  @Test func commandLine() {
    let player = Player.withMachines()
    player.press(":")
    player.type("sto")
    #expect(player.message.hasPrefix(" :sto"))
    player.press("Tab")
    player.type("web")
    player.press("Enter")
    #expect(player.service.requests == [.stop("web")])
    player.press(":", "Up")
    #expect(player.message.hasPrefix(" :stop web"))
    player.press("Esc", ":")
    player.type("start nobody")
    player.press("Enter")
    #expect(player.message.contains("there is no machine 'nobody'"))
    player.press(":")
    player.type("delete old")
    player.press("Enter")
    #expect(player.shows("Type the machine's name"))
  }

  @Test func palettesFindActionsByWords() {
    let player = Player.withMachines()
    player.press("G", "C-p")
    player.type("cut power")
    #expect(player.shows("Force off: cut the power"))
    player.press("Enter")
    #expect(player.shows("─ Force off web? ─"))
  }

  @Test func themesAreSeenAtOnceAndGivenBack() {
    let player = Player.withMachines()
    player.press(",", "Enter", "Up")
    #expect(player.effects.last == .loadTheme("light"))
    player.press("Esc")
    #expect(player.effects.last == .loadTheme("underjack"))
    player.press("Enter", "Up", "Enter")
    #expect(player.effects.suffix(2) == [.save("theme", "\"light\""), .loadTheme("light")])
  }

  @Test func helpListsEveryKeyOfTheView() {
    let player = Player.withMachines(columns: 100, rows: 160)
    player.press("?")
    let text = player.lines.map { $0.split(separator: " ").joined(separator: " ") }
      .joined(separator: " ").filter { $0 != "│" }.split(separator: " ").joined(separator: " ")
    for binding in KeyTable.standard
    where [.machines, .everywhere, .console, .copy].contains(binding.context)
      && !binding.keys.isEmpty
    {
      #expect(text.contains(binding.help), "\(binding.help)")
    }
    player.press("?")
    #expect(player.model.overlay == nil)
  }

  @Test func longFailuresAreReadable() {
    let player = Player.withMachines()
    let text = String(repeating: "the disk of web is on fire; ", count: 5)
    player.service.emit(.failed(RequestNumber(99), text))
    player.pump()
    #expect(player.shows("That did not work"))
    #expect(player.shows("on fire"))
    player.press("Esc")
    #expect(player.model.overlay == nil)
  }
}
