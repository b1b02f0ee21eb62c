import CLinux
import ConsoleService
import ConsoleUI
import Hosting
import Inventory
import Platform
import Testing

/// The service over a real inventory on disk, without host processes.
@Suite(.serialized) struct HostedServiceTests {
  /// An inventory in a folder of its own, with a service that is asked until it has said what is awaited.
  private final class World {
    let folder: String
    let service: HostedMachineService
    private(set) var machines: [MachineSummary] = []
    private(set) var snapshots: [SnapshotStatus] = []
    private(set) var ends: [RequestNumber: Result<Outcome, Problem>] = [:]
    private(set) var consoles: [ConsoleNumber: String] = [:]
    private(set) var printed: [UInt8] = []
    private var number = 0

    struct Problem: Error { var text: String }

    init() throws {
      folder = "/tmp/uj-service-\(getpid())-\(MonotonicClock.now)"
      let location = InventoryLocation(home: folder, runtime: folder + "/run")
      service = try HostedMachineService(
        inventory: Inventory(location: location, images: DiskImageStore()),
        accelerator: "none: a test")
    }

    deinit {
      _ = try? FileChanges().removeTree(folder)
    }

    /// Serves until the condition holds; false after 10 s.
    func wait(until isDone: () -> Bool) -> Bool {
      let deadline = MonotonicClock.now + 10_000_000_000
      while MonotonicClock.now < deadline {
        for event in service.process() { take(event) }
        if isDone() { return true }
        var polls = service.descriptors.map {
          pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0)
        }
        poll(&polls, nfds_t(polls.count), 100)
      }
      return false
    }

    private func take(_ event: ServiceEvent) {
      switch event {
      case .machines(let list): machines = list
      case .snapshots(_, let list): snapshots = list
      case .finished(let number, let outcome): ends[number] = .success(outcome)
      case .failed(let number, let text): ends[number] = .failure(Problem(text: text))
      case .consoleClosed(let console, let reason): consoles[console] = reason
      case .output(_, let bytes): printed += bytes
      default: break
      }
    }

    func carryOut(_ request: MachineRequest) throws -> Outcome {
      number += 1
      let number = RequestNumber(number)
      let begin = MonotonicClock.now
      service.perform(request, as: number)
      // The front end must never wait.
      #expect(MonotonicClock.now - begin < 100_000_000)
      guard wait(until: { self.ends[number] != nil }), let end = ends[number] else {
        throw Problem(text: "no answer to \(request)")
      }
      return try end.get()
    }

    func machine(_ name: String) -> MachineSummary? { machines.first { $0.name == name } }
  }

  private func specification(_ name: String) -> MachineRequest {
    var specification = MachineSpecification(name: name, processors: 2, memory: 64 << 20)
    specification.newDiskSize = 16 << 20
    return .create(specification)
  }

  @Test func makingCloningAndDeleting() throws {
    let world = try World()
    #expect(try world.carryOut(specification("base")).select == "base")
    let undo = try world.carryOut(.setTemplate("base", true)).undo
    #expect(undo == .setTemplate("base", false))
    _ = try world.carryOut(.createFromTemplate(template: "base", name: "one", start: false))
    #expect(world.wait { world.machines.count == 2 })
    #expect(world.machine("base")?.state == .template)
    let one = try #require(world.machine("one"))
    #expect(one.state == .stopped && one.parent == "base" && one.processors == 2)
    #expect(one.disks.first?.virtualSize == 16 << 20)
    #expect(throws: World.Problem.self) { try world.carryOut(.setTemplate("base", false)) }
    #expect(throws: World.Problem.self) { try world.carryOut(.delete("base")) }
    #expect(throws: World.Problem.self) { try world.carryOut(specification("../evil")) }
    _ = try world.carryOut(.rename("one", to: "two"))
    _ = try world.carryOut(.delete("two"))
    #expect(world.wait { world.machines.map(\.name) == ["base"] })
  }

  @Test func rollingBackAndForward() throws {
    let world = try World()
    _ = try world.carryOut(specification("m"))
    _ = try world.carryOut(.takeSnapshot("m", title: "first", memory: false))
    _ = try world.carryOut(.takeSnapshot("m", title: "", memory: false))
    _ = try world.carryOut(.listSnapshots("m"))
    #expect(world.wait { world.snapshots.count == 2 })
    #expect(world.snapshots.map(\.title) == ["first", "snapshot-2"])
    #expect(world.snapshots.map(\.isCurrent) == [false, true])
    _ = try world.carryOut(.rollBack("m", snapshot: world.snapshots[0].identifier))
    #expect(world.wait { world.snapshots.map(\.isCurrent) == [true, false] })
    #expect(world.snapshots[1].isNext)
    _ = try world.carryOut(.rollForward("m", snapshot: nil))
    #expect(world.wait { world.snapshots.map(\.isCurrent) == [false, true] })
    #expect(
      world.wait {
        let machine = world.machine("m")
        return machine?.snapshotCount == 2 && machine?.currentSnapshot == "snapshot-2"
      })
    #expect(throws: World.Problem.self) {
      try world.carryOut(.rollForward("m", snapshot: nil))
    }
  }

  @Test func brokenDefinitionsAreListedWithTheReason() throws {
    let world = try World()
    _ = try world.carryOut(specification("m"))
    let stream = try #require(fopen("\(world.folder)/machines/m/machine.toml", "w"))
    fputs("memroy = \"1G\"\n", stream)
    fclose(stream)
    #expect(world.wait { world.machine("m")?.state == .broken })
    #expect(world.machine("m")?.problem?.contains("memroy") == true)
  }

  @Test func theConsoleOfAMachineThatIsOffShowsItsLog() throws {
    let world = try World()
    _ = try world.carryOut(specification("m"))
    mkdir("\(world.folder)/machines/m/log", 0o700)
    let stream = try #require(fopen("\(world.folder)/machines/m/log/serial0.log", "w"))
    fputs("Welcome to GRUB!\r\n", stream)
    fclose(stream)
    world.service.attach("m", .serial(0), as: ConsoleNumber(1), size: Size(columns: 80, rows: 24))
    #expect(world.wait { world.consoles[ConsoleNumber(1)] != nil })
    #expect(String(decoding: world.printed, as: UTF8.self).contains("Welcome to GRUB!"))
    #expect(world.consoles[ConsoleNumber(1)]?.contains("opens when it starts") == true)
    world.service.attach(
      "../m", .serial(0), as: ConsoleNumber(2), size: Size(columns: 80, rows: 24))
    #expect(world.wait { world.consoles[ConsoleNumber(2)] != nil })
  }
}
