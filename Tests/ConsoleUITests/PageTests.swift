import ConsoleUI
import Testing

/// The views beside the list, the edit form, groups.
@Suite struct PageTests {
  @Test func eventsAreKept() {
    let player = Player.withMachines()
    player.press("G", "F", "y")
    player.service.machines.removeAll { $0.name == "old" }
    player.service.announce()
    player.pump()
    player.press("2")
    #expect(player.lines[1].contains("EVENTS"))
    #expect(player.shows("done  web is off"))
    #expect(player.shows("web is stopped"))
    #expect(player.shows("old is gone"))
    player.press("/")
    player.type("gone")
    player.press("Enter")
    #expect(player.shows("old is gone") && !player.shows("web is off"))
    player.press("Esc")
    #expect(player.shows("web is off"))
    player.press("Esc")
    #expect(player.lines[1].contains("NAME"))
  }

  @Test func logsAreFollowedAndCleaned() {
    let player = Player.withMachines()
    player.press("G", "l")
    #expect(player.service.requests.last == .watchLog(.console("web", port: 0)))
    #expect(player.lines[1].contains("CONSOLE COM1 OF web"))
    #expect(player.shows(" ok started"))
    #expect(player.shows("following"))
    let more = (1...100).map { "entry \($0)\n" }.joined()
    player.service.emit(.log(.console("web", port: 0), Array(more.utf8), restart: false))
    player.pump()
    #expect(player.shows("entry 100"))
    player.press("g")
    #expect(player.shows("booting") && !player.shows("following"))
    player.press("f")
    #expect(player.shows("entry 100"))
    player.press("Right")
    #expect(player.service.requests.last == .watchLog(.host("web")))
    player.press("q")
    #expect(player.service.requests.last == .watchLog(nil))
    #expect(player.lines[1].contains("NAME"))
  }

  @Test func logTextLeavesSequencesOut() {
    var text = LogText()
    text.feed(
      Array("a\u{1B}[1;31mb\u{1B}]0;title\u{07}c\r\nd\te\u{8}f\u{0}\n\n\n\nx\u{1B}[5;1Hy".utf8))
    text.feed([0x7A, 0xC3, 0x28, 0xFF])
    #expect(text.all.prefix(4) == ["abc", "d       f", "", "x"])
    #expect(text.all.last?.hasPrefix("yz") ?? false)
    for line in text.all {
      #expect(
        line.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) })
    }
  }

  @Test func images() {
    let player = Player.withMachines()
    var busy = ImageStatus(
      path: "/i/base.qcow2", format: "qcow2", virtualSize: 8 << 30, allocatedSize: 1 << 30,
      users: ["web"])
    busy.isBusy = true
    var layer = ImageStatus(path: "/m/web/disks/disk0/abc.qcow2", format: "qcow2", users: ["web"])
    layer.isLayer = true
    var bad = ImageStatus(path: "/i/bad.qcow2")
    bad.problem = "is no qcow2 image"
    player.service.images = [
      busy, bad, ImageStatus(path: "/i/plain.raw", format: "raw", virtualSize: 1 << 20), layer,
    ]
    player.press("3")
    #expect(player.shows("base.qcow2") && player.shows("web: disk0"))
    #expect(player.shows("is no qcow2 image"))
    player.press("e")
    #expect(player.message.contains("web runs; stop it first"))
    player.press("c")
    #expect(player.service.requests.last == .checkImage("/i/base.qcow2"))
    player.press("D")
    #expect(player.message.contains("would lose its disk"))
    player.press("j", "j", "c")
    #expect(player.message.contains("nothing to check"))
    player.press("e")
    player.type("512K")
    player.press("Enter")
    #expect(player.shows("smaller than it is"))
    player.press("C-u")
    player.type("+1M")
    player.press("Enter")
    #expect(
      player.service.requests.last == .resizeImage("/i/plain.raw", size: 2 << 20, shrink: false))
    player.press("C", "Enter")
    #expect(
      player.service.requests.last
        == .convertImage("/i/plain.raw", to: "/i/plain.qcow2", compress: false))
    player.press("D", "y")
    #expect(player.service.requests.last == .deleteImage("/i/plain.raw"))
    player.press("j", "D")
    #expect(player.message.contains("is a layer of web"))
  }

  @Test func hostAndCharts() {
    let player = Player.withMachines(columns: 120, rows: 40)
    player.press("4")
    #expect(player.shows("Machines run with") && player.shows("Not affected"))
    #expect(player.shows("─ All processors ─"))
    player.press("1", "G", "M")
    #expect(player.shows("CHARTS OF web") && player.shows("─ Disk written ─"))
    player.press("k")
    #expect(player.shows("old is stopped: there is nothing to measure"))
    player.press("q")
    #expect(player.lines[1].contains("NAME"))
  }

  @Test func seriesMeasureRates() {
    let player = Player.withMachines(columns: 120, rows: 40)
    for step in 1...5 {
      for index in player.service.machines.indices
      where player.service.machines[index].name == "web" {
        player.service.machines[index].counters.exits = UInt64(step) * 5000
        player.service.machines[index].counters.diskRead = UInt64(step) << 20
        player.service.machines[index].processorShares = [0.25, 1]
      }
      player.service.announce()
      player.pump()
    }
    let series = player.model.list.series["web"]
    #expect(abs((series?.exits.last ?? 0) - 5000) < 1)
    #expect(abs((series?.diskRead.last ?? 0) - 1_048_576) < 1)
    player.press("G")
    #expect(player.shows("5.0k/s") && player.shows("1M/s"))
    #expect(player.lines.contains { $0.contains("1  [■■■") && $0.contains("100%") })
  }

  @Test func theSampleRingKeepsOrder() {
    var series = SampleSeries()
    for value in 0..<500 { series.add(Double(value)) }
    #expect(series.values.count == 240)
    #expect(series.values.first == 260 && series.values.last == 499 && series.last == 499)
  }

  @Test func editing() {
    let player = Player.withMachines()
    player.press("j", "e")
    #expect(player.shows("─ Edit old ─"))
    player.press("Enter")
    #expect(player.shows("nothing was changed"))
    player.press("C-u")
    player.type("2G")
    player.press("Tab", "Tab", "Tab", "Tab", "Right", "Enter")
    #expect(
      player.service.requests.last
        == .change(
          "old", [SettingChange("memory", "2G"), SettingChange("boot.order", "cdrom,disk")]))
    player.press("E")
    #expect(player.effects.last == .editDefinition("old"))
  }

  @Test func brokenDefinitionsAreOpenedInAnEditor() {
    let player = Player()
    var machine = MachineSummary(name: "m", state: .broken)
    machine.problem = "machine.toml:3: bad key"
    player.service.machines = [machine]
    player.service.announce()
    player.pump()
    #expect(player.lines[2].contains("! broken") && player.lines[2].contains("bad key"))
    #expect(player.lines[23].contains("e Mend"))
    player.press("e")
    #expect(player.effects.last == .editDefinition("m"))
    player.press("s")
    #expect(player.message.contains("machine.toml:3: bad key"))
  }

  @Test func bootDeviceAndDisc() {
    let player = Player.withMachines()
    player.press("j", "b")
    #expect(player.shows("Start old once from") && player.shows("as usual"))
    player.press("j", "Down", "Enter")
    #expect(player.service.requests.isEmpty, "j narrows the list to nothing")
    player.press("b", "Down", "Enter")
    #expect(player.service.requests == [.startFrom("old", device: "cdrom")])
    player.press("k", "j", "x")
    #expect(player.shows("Insert a disc into old"))
    player.type("/tmp/a.iso")
    player.press("Enter")
    #expect(
      player.service.requests.last == .insertDisc("old", path: "/tmp/a.iso", force: false))
    player.press("G", "x")
    #expect(player.message.contains("web has no CD drive"))
    if let index = player.service.machines.firstIndex(where: { $0.name == "web" }) {
      player.service.machines[index].disc = "/iso/debian.iso"
    }
    player.service.announce()
    player.pump()
    player.press("x")
    #expect(player.shows("debian.iso"))
    player.press("Enter")
    #expect(player.service.requests.last == .ejectDisc("web", force: false))
  }

  @Test func pathsAreCompleted() {
    let player = Player.withMachines()
    player.model.completePath = { text in
      ["/iso/debian.iso", "/iso/debug.iso"].filter { $0.hasPrefix(text) }
    }
    player.press("j", "x")
    player.type("/i")
    player.press("Tab")
    #expect(player.shows("/iso/deb"))
    player.type("i")
    player.press("Tab", "Enter")
    #expect(
      player.service.requests.last == .insertDisc("old", path: "/iso/debian.iso", force: false))
    player.press(":")
    player.type("cdrom old /iso/debu")
    player.press("Tab", "Enter")
    #expect(
      player.service.requests.last == .insertDisc("old", path: "/iso/debug.iso", force: false))
  }

  @Test func groupsAndFolding() {
    let player = Player.withMachines()
    player.press("a")
    #expect(player.message.contains("grouped by template"))
    #expect(player.lines[2].contains("debian") && player.lines[3].contains("└─web"))
    player.press("g", "-")
    #expect(player.lines[2].contains("debian ▸1") && !player.shows("└─web"))
    player.press("-")
    #expect(player.shows("└─web"))
    for (name, tag) in [("web", "prod"), ("old", "prod")] {
      if let index = player.service.machines.firstIndex(where: { $0.name == name }) {
        player.service.machines[index].tags = [tag]
      }
    }
    player.press("a")
    player.service.announce()
    player.pump()
    #expect(player.lines[1].hasPrefix("  TAGS"))
    #expect(player.lines[2].contains("prod") && player.lines[2].contains("old"))
    #expect(!player.lines[3].contains("prod") && player.lines[3].contains("web"))
    #expect(player.lines[4].contains("no tag"))
    #expect(player.effects.contains(.save("group", "\"tag\"")))
  }

  @Test func rangesOfMarks() {
    let player = Player.withMachines()
    player.press("Space", "G", "v")
    #expect(player.model.list.marks == ["debian", "old", "web"])
    player.press("y")
    #expect(player.model.copyBuffer == "debian old web")
  }

  @Test func theTimeLineWalksByTime() {
    let player = Player.withMachines()
    player.service.snapshots["old"] = [
      SnapshotStatus(identifier: "a", title: "first", parent: nil, time: 1_699_000_000),
      SnapshotStatus(identifier: "b", title: "third", parent: "a", time: 1_699_500_000),
      SnapshotStatus(
        identifier: "c", title: "second", parent: "a", time: 1_699_200_000, isCurrent: true),
    ]
    player.press("j", "m")
    #expect(player.shows("TIME"))
    #expect(player.lines.contains { $0.contains("○") && $0.contains("[●]") && $0.contains("───") })
    player.press("Left")
    guard case .snapshots(let tree) = player.model.mainView else { return }
    #expect(tree.selected?.title == "first")
    player.press("Right", "Right", "Right")
    guard case .snapshots(let end) = player.model.mainView else { return }
    #expect(end.selected?.title == "third")
  }
}
