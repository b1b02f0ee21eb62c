import ConsoleUI
import Testing

/// The small languages: commands, filters, quantities.
@Suite struct LanguageTests {
  private func command(_ line: String) -> Command? {
    if case .success(let command) = CommandParser.parse(line) { return command }
    return nil
  }

  private func problem(_ line: String) -> String {
    if case .failure(let problem) = CommandParser.parse(line) { return problem.text }
    return ""
  }

  @Test func commands() {
    #expect(command("start web") == .requests([.start("web")]))
    #expect(
      command("start -t debian web")
        == .requests([.createFromTemplate(template: "debian", name: "web", start: true)]))
    #expect(
      command("start web -t debian")
        == .requests([.createFromTemplate(template: "debian", name: "web", start: true)]))
    #expect(command("stop web db") == .requests([.stop("web"), .stop("db")]))
    #expect(command("stop -f web") == .requests([.forceStop("web")]))
    #expect(command("stop -fa") == .stopAll(force: true))
    #expect(command("con web") == .attach("web"))
    #expect(command("attach web") == .attach("web"))
    #expect(
      command("sna take web before it breaks")
        == .requests([.takeSnapshot("web", title: "before it breaks", memory: false)]))
    #expect(command("snapshot forward web") == .requests([.rollForward("web", snapshot: nil)]))
    #expect(
      command("snapshot rollback web clean install")
        == .onSnapshot(.rollback, machine: "web", snapshot: "clean install"))
    var specification = MachineSpecification(name: "x", processors: 4, memory: 2 << 30)
    specification.newDiskSize = 8 << 30
    #expect(command("create x -m 2G -c 4 -s 8G") == .requests([.create(specification)]))
    #expect(command("sort colour") == nil)
    #expect(command("sort cpu") == .sort(.processor))
    #expect(command("start -B cdrom web") == .requests([.startFrom("web", device: "cdrom")]))
    #expect(command("start -B tape web") == nil)
    #expect(
      command("set web memory=2G notes=a b")
        == .requests([
          .change("web", [SettingChange("memory", "2G"), SettingChange("notes", "a b")])
        ]))
    #expect(command("cdrom web eject -f") == .requests([.ejectDisc("web", force: true)]))
    #expect(command("type web ls -l") == .type("web", "ls -l"))
    #expect(command("bind machines start F5") == .bind(.machines, .start, ["F5"]))
    #expect(command("bind machines fly F5") == nil)
    #expect(command("sort processor") == .sort(.processor))
    #expect(command("q") == .action(.quit))
  }

  @Test func commandErrorsSayWhatToDo() {
    #expect(problem("st web").contains("start, stop, status"))
    #expect(problem("frobnicate") == "no command 'frobnicate'; Tab shows them all")
    #expect(problem("start").hasPrefix("usage: start NAME"))
    #expect(problem("stop -x web").hasPrefix("usage: stop"))
    #expect(problem("create a b").hasPrefix("usage: create"))
    #expect(problem("create a -m zero").hasPrefix("usage: create"))
  }

  @Test func completion() {
    let completer = CommandCompleter(
      machines: ["db", "web1", "web2"], templates: ["debian"], themes: ["light", "nord"])
    #expect(completer.candidates(for: "sta") == ["start", "status"])
    #expect(completer.candidates(for: "start we") == ["web1", "web2"])
    #expect(completer.candidates(for: "start -t ") == ["debian"])
    #expect(completer.candidates(for: "theme n") == ["nord"])
    #expect(completer.candidates(for: "nonsense ").isEmpty)
    var line = CommandPrompt()
    line.field = TextField("start w")
    line.complete(1, with: completer)
    #expect(line.field.text == "start web1")
    line.complete(1, with: completer)
    #expect(line.field.text == "start web2")
    line.complete(-1, with: completer)
    #expect(line.field.text == "start web1")
  }

  @Test func filters() {
    var machine = MachineSummary(name: "Web-1", state: .running)
    machine.tags = ["prod"]
    machine.parent = "debian"
    for text in ["", "web", "eb 1", "state:run", "tag:prod", "template:deb", "!db", "web !tag:x"] {
      #expect(FilterQuery(text).matches(machine), "\(text)")
    }
    for text in ["db", "!web", "state:stop", "tag:dev", "web template:bsd"] {
      #expect(!FilterQuery(text).matches(machine), "\(text)")
    }
    #expect(FilterQuery("B-").match(in: "Web-1") == 2..<4)
    #expect(FilterQuery("a-name-that-is-longer").match(in: "a") == nil)
  }

  @Test func quantities() {
    #expect(Quantity.bytes("512M") == 512 << 20)
    #expect(Quantity.bytes("512") == 512 << 20)
    #expect(Quantity.bytes("1.5GiB") == 3 << 29)
    #expect(Quantity.bytes("8t") == 8 << 40)
    for bad in ["", "x", "0", "-1G", "1e30", "99999999T", "G", "nan", "inf", "0x10M"] {
      #expect(Quantity.bytes(bad) == nil, "\(bad)")
    }
    #expect(Quantity.short(0) == "0B")
    #expect(Quantity.short(512 << 20) == "512M")
    #expect(Quantity.short(3 << 29) == "1.5G")
    #expect(Quantity.short(1023 << 20) == "1G")
    #expect(Quantity.short(.max).count <= 5)
    #expect(Quantity.duration(59_999_999_999) == "59s")
    #expect(Quantity.duration(3_661_000_000_000) == "1h01m")
    #expect(Quantity.duration(.max).count <= 10)
    #expect(Quantity.percent(0.004) == "<1%")
    #expect(Quantity.percent(.nan) == "-")
    #expect(Quantity.age(of: .min, now: .max) == "just now")
    #expect(Quantity.age(of: 100, now: 7400) == "2 h ago")
  }

  @Test func keyTableHasNoConflicts() {
    for context in KeyContext.allCases {
      var seen: [Key: Action] = [:]
      for binding in KeyTable.standard where binding.context == context {
        for key in binding.keys {
          #expect(seen[key] == nil, "\(key) means two things in \(context)")
          seen[key] = binding.action
          #expect(key != Key(.character("\u{FFFD}")), "a misspelt key in \(context)")
        }
      }
    }
    // What cuts power or loses data is never a plain lower-case letter.
    for binding in KeyTable.standard
    where [.powerDown, .forceStop, .reset, .delete, .deleteSnapshot, .stopAll].contains(
      binding.action)
    {
      #expect(binding.keys[0].description.allSatisfy { $0.isUppercase || $0.isNumber })
    }
  }
}
