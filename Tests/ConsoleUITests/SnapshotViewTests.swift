import ConsoleUI
import Testing

/// The tree of snapshots: drawing and rolling.
@Suite struct SnapshotViewTests {
  private func player(machine: String = "old") -> Player {
    let player = Player.withMachines()
    player.service.snapshots[machine] = [
      SnapshotStatus(identifier: "a1", title: "clean", parent: nil, time: 1_699_000_000),
      SnapshotStatus(identifier: "b2", title: "set up", parent: "a1", time: 1_699_900_000),
      SnapshotStatus(
        identifier: "c3", title: "upgraded", parent: "b2", time: 1_700_000_000,
        size: 12 << 20, isCurrent: true),
      SnapshotStatus(
        identifier: "d4", title: "before rollback", parent: "b2", time: 1_700_000_050,
        isAutomatic: true),
    ]
    player.press("j")
    return player
  }

  @Test func theTreeShowsForksAndWhereOneStands() {
    let player = player()
    player.press("m")
    #expect(player.lines[1].hasPrefix("  SNAPSHOTS OF old"))
    #expect(player.lines[2].hasPrefix("  ○ clean"))
    #expect(player.lines[3].hasPrefix("  ○ set up"))
    #expect(player.lines[4].hasPrefix("▌ ├─● upgraded  ◀ you are here"))
    #expect(player.lines[5].hasPrefix("  └─○ before rollback"))
    #expect(player.lines[4].hasSuffix("12M          disk"))
    player.press("Esc")
    #expect(player.lines[1].contains("NAME"))
  }

  @Test func rollingBackForwardAndUndo() {
    let player = player()
    player.press("m", "k", "R")
    #expect(player.service.requests.last == .rollBack("old", snapshot: "b2"))
    #expect(player.lines[3].contains("set up  ◀ you are here"))
    #expect(player.message.contains("u takes it back"))
    // Two ways forward: it asks.
    player.press("]")
    #expect(player.shows("Roll forward to which snapshot?"))
    player.press("Enter")
    #expect(player.service.requests.last == .rollForward("old", snapshot: "c3"))
    player.press("u")
    #expect(player.service.requests.last == .rollBack("old", snapshot: "b2"))
    player.press("[")
    #expect(player.service.requests.last == .rollBack("old", snapshot: "a1"))
    player.press("[")
    #expect(player.message.contains("nothing comes before"))
  }

  @Test func theNextSnapshotIsTakenWithoutAsking() {
    let player = player()
    player.service.snapshots["old"]?[3].isNext = true
    player.press("m", "]")
    #expect(player.service.requests.last == .rollForward("old", snapshot: "d4"))
  }

  @Test func fromTheListRollingForwardNeedsNoTree() {
    let player = player()
    player.press("]")
    #expect(player.service.requests == [.rollForward("old", snapshot: nil)])
  }

  @Test func takingASnapshotTakesTwoKeys() {
    let player = player()
    player.press("S", "Enter")
    #expect(player.service.requests == [.takeSnapshot("old", title: "", memory: false)])
    player.press("S")
    player.type("named")
    player.press("Enter")
    #expect(player.service.requests.last == .takeSnapshot("old", title: "named", memory: false))
  }

  @Test func aRunningMachineIsRolledOnlyAfterAQuestion() {
    let player = player(machine: "web")
    player.press("G", "m", "g", "R")
    #expect(player.shows("Cut the power of web"))
    #expect(player.shows("[ Cancel ]"))
    player.press("Enter")
    #expect(player.service.requests == [.listSnapshots("web")])
    player.press("R", "y")
    #expect(
      player.service.requests.suffix(2) == [.forceStop("web"), .rollBack("web", snapshot: "a1")])
  }

  @Test func whatTheServiceCanNotIsNotOffered() {
    let player = Player(capabilities: [])
    player.service.machines = [MachineSummary(name: "web", state: .running)]
    player.service.announce()
    player.pump()
    player.press("S")
    #expect(player.message.contains("stop it to take a snapshot"))
    player.press("m")
    #expect(!player.screen.contains("Branch"))
    player.press("b")
    #expect(player.message.contains("no meaning"))
  }

  @Test func branchingAsksForAName() {
    let player = player()
    player.press("m", "b")
    #expect(player.shows("─ New machine from 'upgraded' ─"))
    player.press("Enter")
    #expect(player.service.requests.last == .branch("old", snapshot: "c3", name: "old-1"))
  }

  @Test func damagedTreesAreDrawn() {
    var outline = SnapshotOutline(machine: "x")
    outline.replace([
      SnapshotStatus(identifier: "a", title: "a", parent: "b", time: 1),
      SnapshotStatus(identifier: "b", title: "b", parent: "a", time: 2),
      SnapshotStatus(identifier: "c", title: "c", parent: "c", time: 3),
      SnapshotStatus(identifier: "d", title: "d", parent: "gone", time: 4),
    ])
    #expect(outline.rows.map(\.snapshot.identifier) == ["c", "d"])
    var chain = SnapshotOutline(machine: "x")
    chain.replace(
      (0..<5000).map {
        SnapshotStatus(
          identifier: "\($0)", title: "s", parent: $0 == 0 ? nil : "\($0 - 1)", time: Int64($0))
      })
    #expect(chain.rows.count == 5000)
    #expect(chain.rows.allSatisfy { $0.rails.isEmpty })
  }
}
