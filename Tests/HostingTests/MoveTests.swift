import CLinux
import DiskImage
import Hosting
import Inventory
import Machine
import Networks
import Platform
import Processor
import StateFile
import Synchronization
import Testing

/// A machine's stream between a sender that is played here and a receiver with an inventory of its own. Hosts are shells;
/// real machines are moved by the system tests.
@Suite struct MoveTests {
  /// Two ends of a connection, and an inventory at one of them.
  private final class World: Sendable {
    let path: String
    let inventory: Inventory
    let ends: [Int32]

    init() throws {
      var template = Array("/tmp/uj-move-XXXXXX".utf8CString)
      path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
      inventory = Inventory(
        location: InventoryLocation(home: path + "/home", runtime: path + "/run"),
        images: DiskImageStore())
      var ends: [Int32] = [-1, -1]
      try systemCall("socketpair") {
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
      }
      self.ends = ends
      _ = linux_ignore_signal(SIGPIPE)
    }

    deinit {
      for end in ends { close(end) }
      try? FileChanges().removeTree(path)
    }

    /// A program that is a host as far as `HostProcess` can tell.
    func program(_ script: String) throws -> String {
      let file = path + "/uj"
      try FileChanges().write("#!/bin/sh\n\(script)\n", to: file, mode: 0o700)
      return file
    }

    /// What is in the folder of machines, also what no listing shows.
    var entries: [String] {
      get throws { try FileReading.entries(of: inventory.location.machines).sorted() }
    }
  }

  private static let memorySize: UInt64 = 4 << 20
  private static let diskSize: UInt64 = 1 << 20

  private func definition() -> MachineDefinition {
    var definition = MachineDefinition()
    definition.memory = Self.memorySize
    definition.accelerator = .soft
    definition.kernel = "/etc/passwd"
    definition.commandLine = "quiet"
    definition.owner = "root"
    definition.serialPorts = [.console, .file("/etc/motd")]
    definition.disks = [.init(name: "disk0", path: "/etc/shadow", format: .raw)]
    definition.uuid = .random()
    return definition
  }

  private func machine(
    _ definition: MachineDefinition, change: (inout MovingMachine) -> Void = { _ in }
  ) throws -> MovingMachine {
    let leaves: [CPUIDLeaf] = []
    var machine = MovingMachine(
      name: "m", definition: definition.text(name: try MachineName("m")),
      facts: [
        .init("memory", "\(Self.memorySize >> 20) MiB"), .init("the board", "version 1"),
        .init("the number of processors", "1 (1 x 1 x 1)"), .init("the processor model", "host"),
        .init("nested virtualization", "hidden"), .init("the interrupt chip", "split"),
        .init("the start", "a kernel"), .init("the display", "none"),
      ], leaves: try StateEncoder.encode(leaves), memorySize: Self.memorySize,
      disks: [.init(name: "disk0", size: Self.diskSize, isCopied: true)],
      files: [.init(file: .kernel, size: 6)], isAnswered: true)
    change(&machine)
    return machine
  }

  /// Receives on a thread of its own.
  private final class Receiver: Sendable {
    private let outcome = Monitor<Result<MachineName, any Error>?>(nil)

    init(_ world: World, program: String? = nil, _ options: MoveReceiver.Options = .init()) throws {
      let outcome = outcome
      var options = options
      options.program = program
      let settled = options
      _ = try PosixThread(name: "receiver") {
        let channel = MoveChannel(input: world.ends[1], output: world.ends[1])
        channel.patience = 20_000_000_000
        let result = Result { try MoveReceiver(world.inventory, settled, channel).run() }
        shutdown(world.ends[1], Int32(SHUT_RDWR))
        outcome.update { $0 = result }
      }
    }

    func result() throws -> Result<MachineName, any Error> {
      try #require(outcome.wait(until: MonotonicClock.now + 30_000_000_000) { $0 })
    }
    var line: String {
      get throws {
        switch try result() {
        case .success(let name): return "\(name) runs"
        case .failure(let error): return "\(error)"
        }
      }
    }
  }

  private func channel(_ world: World) -> MoveChannel {
    let channel = MoveChannel(input: world.ends[0], output: world.ends[0])
    channel.patience = 20_000_000_000
    return channel
  }

  /// The answer's kind and line.
  private func answer(_ channel: MoveChannel) throws -> (kind: MoveFrame.Kind, line: String) {
    let frame = try channel.receive()
    return (frame.kind, channel.line(of: frame))
  }

  private func open(_ channel: MoveChannel, _ machine: MovingMachine) throws -> String {
    try channel.greet()
    try channel.send(.machine, machine.encoded)
    let (kind, line) = try answer(channel)
    return kind == .accepted ? "accepted" : line
  }

  private let manifest = StateManifest(created: 1, facts: [.init("memory", "4 MiB")])

  /// All that a machine has, up to its completeness.
  private func sendAll(_ channel: MoveChannel) throws {
    try channel.send(.file, part: MovingFile.kernel.rawValue, Array("kernel".utf8))
    try channel.send(.disk, place: 65536, Array(repeating: 9, count: 512))
    try channel.send(.diskZeros, place: 0, number: 65536)
    try channel.send(.memory, place: 8192, Array(repeating: 5, count: 4096))
    try channel.send(.synchronize, place: 77)
    let synchronized = try channel.receive()
    #expect(synchronized.kind == .synchronized)
    #expect(synchronized.place == 77)
    try channel.send(.manifest, manifest.encoded)
    try channel.send(.complete, place: UInt64(manifest.encoded.count))
  }

  @Test("A machine comes as a whole, runs, and has no path of the other host") func arrives() throws
  {
    let world = try World()
    let note = world.path + "/started"
    let program = try world.program("echo $* > \(note); echo ok >&3")
    let receiver = try Receiver(world, program: program)
    let channel = channel(world)
    #expect(try open(channel, try machine(definition())) == "accepted")
    try sendAll(channel)
    #expect(try answer(channel).kind == .ready)
    #expect(try world.inventory.names().isEmpty)
    try channel.send(.handOver)
    #expect(try answer(channel).kind == .runs)
    #expect(try receiver.line == "m runs")
    #expect(try FileReading.text(note) == "host --report --received m\n")
    #expect(try world.entries == ["m"])

    let name = try MachineName("m")
    let definition = try world.inventory.definition(name)
    let folder = world.inventory.location.machine(name)
    #expect(definition.kernel == folder + "/boot/kernel")
    #expect(try FileReading.text(folder + "/boot/kernel") == "kernel")
    #expect(definition.commandLine == "quiet")
    #expect(definition.owner == nil)
    #expect(definition.serialPorts == [.console, .console])
    #expect(definition.disks.map(\.path) == [nil])
    let state = try #require(try world.inventory.suspendedState(name))
    let reader = try StateFileReader(path: state)
    try reader.verifyMemory()
    #expect(reader.manifest == manifest)
    #expect(reader.pageCount == 1)
    let disk = try world.inventory.resolvedDisks(name)[0]
    let image = try DiskImage.open(disk.path, format: .qcow2, mode: .readOnly)
    defer { try? image.close() }
    var bytes = [UInt8](repeating: 0, count: 1024)
    try bytes.withUnsafeMutableBytes { try image.read(into: $0, at: 65536) }
    #expect(bytes[0] == 9)
    #expect(bytes[511] == 9)
    #expect(bytes[512] == 0)
  }

  @Test("The sender hears when the guest executes, and then when that lasts")
  func executes() throws {
    let world = try World()
    let (begun, go) = (world.path + "/begun", world.path + "/go")
    let program = try world.program(
      "touch \(begun); head -c 1 <&4 >/dev/null; echo executing >&3; "
        + "while [ ! -e \(go) ]; do sleep 0.05; done; echo ok >&3")
    let receiver = try Receiver(world, program: program)
    let channel = channel(world)
    #expect(try open(channel, try machine(definition())) == "accepted")
    try sendAll(channel)
    #expect(try answer(channel).kind == .ready)
    let limit = MonotonicClock.now + 10_000_000_000
    while access(begun, F_OK) != 0, MonotonicClock.now < limit { usleep(10_000) }
    #expect(access(begun, F_OK) == 0)
    #expect(try world.inventory.names().isEmpty)
    try channel.send(.handOver)
    #expect(try answer(channel).kind == .executes)
    #expect(try world.inventory.names().count == 1)
    #expect(!channel.isReadable)
    try FileChanges().write("", to: go)
    #expect(try answer(channel).kind == .runs)
    #expect(try receiver.line == "m runs")
  }

  @Test("A departure that was only prepared counts after a power cut, and not before")
  func departure() throws {
    let world = try World()
    let name = try MachineName("m")
    try world.inventory.create(name, MachineDefinition())
    let path = world.inventory.location.departure(name)
    try world.inventory.prepareMoved(name, to: "server")
    #expect(world.inventory.movedPlace(name) == nil)
    #expect(try world.inventory.state(name).moved == nil)
    let text = try #require(try FileReading.text(path))
    // Another start of this computer.
    try FileChanges().write("# boot other" + text.drop { $0 != "\n" }, to: path)
    #expect(world.inventory.movedPlace(name) == "server")
    let line = refusal { _ = try HostPlan(name, world.inventory) }
    #expect(line.contains("was sent to server and may run there"))
    try world.inventory.markMoved(name, to: nil, authority: .command)
    #expect(world.inventory.movedPlace(name) == nil)
    #expect(access(path, F_OK) != 0)

    // Given away: at once for everybody.
    try world.inventory.prepareMoved(name, to: "server")
    try world.inventory.markMoved(name, to: "server")
    #expect(world.inventory.movedPlace(name) == "server")
    #expect(access(path, F_OK) != 0)
    try world.inventory.makeMovedLast(name)
    try world.inventory.markMoved(name, to: nil, authority: .command)
    // A host that was killed before it gave its machine away.
    try world.inventory.prepareMoved(name, to: "server")
    _ = try world.inventory.lock(name, .change)
    #expect(world.inventory.movedPlace(name) == nil)
    try world.inventory.forgetDeparture(name)
    #expect(access(path, F_OK) != 0)
  }

  @Test("What cannot start here is taken away again, and the sender hears why") func startFails()
    throws
  {
    let world = try World()
    let receiver = try Receiver(
      world, program: try world.program("echo 'error m: no room' >&3"))
    let channel = channel(world)
    #expect(try open(channel, try machine(definition())) == "accepted")
    try sendAll(channel)
    #expect(try answer(channel).kind == .ready)
    try channel.send(.handOver)
    let (kind, line) = try answer(channel)
    #expect(kind == .failed)
    #expect(line == "m: no room")
    #expect(try receiver.line == "m: no room")
    #expect(try world.entries.isEmpty)
  }

  @Test("Broken off at any point before it is handed over, nothing of it stays", arguments: 0...3)
  func brokenOff(step: Int) throws {
    let world = try World()
    let receiver = try Receiver(world, program: try world.program("echo ok >&3"))
    let channel = channel(world)
    if step > 0 { #expect(try open(channel, try machine(definition())) == "accepted") }
    if step > 1 { try sendAll(channel) }
    if step > 2 { #expect(try answer(channel).kind == .ready) }
    shutdown(world.ends[0], Int32(SHUT_RDWR))
    #expect(try receiver.line == "the connection has ended")
    #expect(try world.entries.isEmpty)
  }

  @Test("What does not fit here is refused before anything comes") func refused() throws {
    func refusal(
      of machine: MovingMachine, in world: World? = nil, _ options: MoveReceiver.Options = .init()
    ) throws -> String {
      let world = try world ?? World()
      let before = try world.entries
      let receiver = try Receiver(world, options)
      let line = try open(channel(world), machine)
      _ = try receiver.result()
      #expect(try world.entries == before)
      return line
    }
    let taken = try World()
    try taken.inventory.create(try MachineName("m"), MachineDefinition())
    #expect(
      try refusal(of: try machine(definition()), in: taken).contains(
        "there is a machine of that name already"))
    let leaf = CPUIDLeaf(function: 7, index: 0, ebx: 1 << 16)
    let encoded = try StateEncoder.encode([leaf])
    #expect(
      try refusal(of: try machine(definition()) { $0.leaves = encoded }).contains(
        "leaf 7 EBX bit 16"))
    #expect(
      try refusal(of: try machine(definition()) { $0.facts[$0.facts.count - 1].value = "vga" })
        .contains("the display was vga and is none now"))
    #expect(
      try refusal(of: try machine(definition()) { $0.files = [] }).contains("without its kernel"))
    #expect(
      try refusal(of: try machine(definition()) { $0.disks[0].isCopied = false }).contains(
        "uj receive --disk disk0=FILE"))
    #expect(
      try refusal(of: try machine(definition()) { $0.memorySize += 1 << 20 }).contains(
        "its memory is not as large"))
    #expect(
      try refusal(of: try machine(definition()) { $0.disks[0].size = 1 << 60 }).contains(
        "what is said of its disks cannot be"))
    #expect(
      try refusal(of: try machine(definition()) { $0.name = "../../etc" }).contains(
        "a name consists of"))
    var large = definition()
    large.memory = 16 << 40
    #expect(
      try refusal(of: try machine(large) { $0.memorySize = 16 << 40 }).contains("and this host"))
    var bridged = definition()
    bridged.networks = [try .init(text: "bridge:br0")]
    #expect(try refusal(of: try machine(bridged)).contains("uj receive --net"))
  }

  @Test("Frames that cannot be are refused, and nothing of the machine stays") func hostile() throws
  {
    let frames: [(MoveFrame.Kind, UInt8, UInt64, [UInt8])] = [
      (.memory, 0, Self.memorySize, Array(repeating: 1, count: 4096)),
      (.memory, 0, 100, Array(repeating: 1, count: 4096)),
      (.memory, 0, 0, [1]),
      (.memory, 0, .max - 4095, Array(repeating: 1, count: 4096)),
      (.memoryZeros, 0, 0, [1, 2]),
      (.memoryZeros, 0, 4096, Array(repeating: 0xFF, count: 8)),
      (.disk, 0, Self.diskSize, [1]),
      (.disk, 0, .max, [1]),
      (.disk, 200, 0, [1]),
      (.diskZeros, 0, 0, Array(repeating: 0xFF, count: 8)),
      (.file, MovingFile.kernel.rawValue, 6, [1]),
      (.file, MovingFile.kernel.rawValue, .max, [1]),
      (.file, MovingFile.disc.rawValue, 0, [1]),
      (.file, 99, 0, [1]),
      (.manifest, 0, 5, [1]),
      (.complete, 0, 9, []),
      (.complete, 0, 0, []),
      (.handOver, 0, 0, []),
      (.runs, 0, 0, []),
      (.withdrawn, 0, 0, Array("changed my mind".utf8)),
    ]
    for (kind, part, place, content) in frames {
      let world = try World()
      let receiver = try Receiver(world)
      let channel = channel(world)
      #expect(try open(channel, try machine(definition())) == "accepted")
      try channel.send(kind, part: part, place: place, content)
      let (answered, line) = try answer(channel)
      #expect(answered == .failed, "\(kind) \(part) \(place)")
      #expect(!line.isEmpty)
      if case .success = try receiver.result() { Issue.record("\(kind) was taken") }
      #expect(try world.entries.isEmpty, "\(kind) \(part) \(place)")
    }
  }

  @Test("A machine that comes back takes the place of what it left; it is not started meanwhile")
  func comesBack() throws {
    let world = try World()
    let name = try MachineName("m")
    var own = definition()
    own.kernel = nil
    own.commandLine = ""
    own.disks = []
    try world.inventory.create(name, own)
    try world.inventory.markMoved(name, to: "server", authority: .command)
    #expect(world.inventory.movedPlace(name) == "server")
    let line = refusal { _ = try HostPlan(name, world.inventory) }
    #expect(line.contains("was sent to server and may run there"))
    var status = try #require(try StatusSurvey(world.inventory).statuses().first)
    #expect(status.problem == "was sent to server, and is not started here")

    var other = definition()
    other.uuid = .random()
    let stranger = try Receiver(world)
    let taken = try open(channel(world), try machine(other))
    #expect(taken.contains("with what it left here"))
    _ = try stranger.result()

    let again = try World()
    try again.inventory.create(name, own)
    try again.inventory.markMoved(name, to: "server", authority: .command)
    var back = definition()
    back.uuid = own.uuid
    let receiver = try Receiver(again, program: try again.program("echo ok >&3"))
    let channel = channel(again)
    #expect(try open(channel, try machine(back)) == "accepted")
    try sendAll(channel)
    #expect(try answer(channel).kind == .ready)
    #expect(again.inventory.movedPlace(name) == "server")
    try channel.send(.handOver)
    #expect(try answer(channel).kind == .runs)
    #expect(try receiver.line == "m runs")
    #expect(again.inventory.movedPlace(name) == nil)
    #expect(try again.inventory.definition(name).disks.count == 1)
    status = try #require(try StatusSurvey(again.inventory).statuses().first)
    #expect(status.state == .suspended)
    #expect(try again.entries == ["m"])
  }
}
