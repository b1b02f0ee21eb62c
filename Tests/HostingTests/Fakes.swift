import CLinux
import Devices
import Hosting
import Inventory
import Machine
import Platform
import Synchronization
import Testing

/// A machine that does what it is told and nothing else.
final class FakeMachine: HostedMachine {
  struct State {
    var run = MachineRunState.ready
    var presses = 0
    var resets = 0
    var breaks = 0
    var powersOffOnPress = false
    var stopDelay: UInt32 = 0
    var isOver = false
    var disc: String?
    var isDriveLocked = false
    var display: DisplaySnapshot?
    var keys: [String] = []
    /// Disks that got layers last.
    var layers: [Int] = []
  }
  final class Port: CharacterDevice {
    let owner: FakeMachine
    init(_ owner: FakeMachine) { self.owner = owner }
    func offer(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count }
    func sendBreak() { owner.state.withLock { $0.breaks += 1 } }
  }

  let state = Mutex(State())
  let events: @Sendable (MachineEvent) -> Void
  let ports: Int

  init(ports: Int, events: @escaping @Sendable (MachineEvent) -> Void) {
    self.ports = ports
    self.events = events
  }

  var acceleratorDescription: String { "fake, because this is a test" }
  var runState: MachineRunState { state.withLock { $0.run } }
  var serialDevices: [any CharacterDevice] { (0..<ports).map { _ in Port(self) } }

  func start() throws(MachineError) { change(.running) }
  func pause() { change(.paused) }
  func resume() { change(.running) }
  func reset() { state.withLock { $0.resets += 1 } }
  func pressPowerButton() {
    let isEnd = state.withLock { state in
      state.presses += 1
      return state.powersOffOnPress
    }
    if isEnd { end(.powerOff) }
  }
  func stop() {
    usleep(state.withLock { $0.stopDelay })
    end(.stopped)
  }
  func statistics() -> MachineStatistics {
    var statistics = MachineStatistics()
    statistics.uptime = 77
    statistics.residentMemory = 1 << 20
    return statistics
  }

  var disc: String? { state.withLock { $0.disc } }
  func changeDisc(path: String, file: SharedDescriptor?, force: Bool) throws(MachineError) {
    try change(force) { $0.disc = path }
  }
  func pushLayers(_ changes: [DiskLayerChange], commit: () throws -> Void) throws -> UInt64 {
    try commit()
    state.withLock { $0.layers = changes.map(\.disk) }
    return 1_000_000
  }
  func ejectDisc(force: Bool) throws(MachineError) {
    try change(force) { $0.disc = nil }
  }
  func displaySnapshot() -> DisplaySnapshot? { state.withLock { $0.display } }
  func sendKeys(_ names: [String]) throws(MachineError) {
    guard !names.contains("nokey") else { throw MachineError("no key \"nokey\"") }
    state.withLock { $0.keys += names }
  }
  func type(_ text: String) throws(MachineError) { state.withLock { $0.keys.append("'\(text)'") } }

  private func change(_ force: Bool, _ body: (inout State) -> Void) throws(MachineError) {
    let isDone = state.withLock { state in
      if state.isDriveLocked, !force { return false }
      body(&state)
      return true
    }
    if !isDone { throw MachineError("locked") }
  }

  func end(_ end: MachineEnd) {
    let isFirst = state.withLock { state in
      defer { state.isOver = true }
      state.run = .stopped
      return !state.isOver
    }
    if isFirst { events(.ended(end)) }
  }

  private func change(_ run: MachineRunState) {
    state.withLock { $0.run = run }
    events(.stateChanged(run))
  }
}

/// A port that greets its clients and remembers what they sent before.
final class FakeSerial: SerialMultiplexer, CharacterBackend {
  let clients = Mutex<[Int32]>([])
  var backend: any CharacterBackend { self }
  func connect(_ device: any CharacterDevice) {}
  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {}
  func guestCanReceive() {}
  func attach(_ descriptor: Int32, input: [UInt8], _ options: SerialAttachment) {
    clients.withLock { $0.append(descriptor) }
    let text =
      "read-only \(options.isReadOnly) replay \(options.replay) got \(String(decoding: input, as: UTF8.self))\n"
    _ = text.utf8CString.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count - 1) }
  }
  var clientCount: Int { clients.withLock { $0.count } }
  var devicePath: String? { nil }
  let refusal: String?
  init(refusal: String? = nil) { self.refusal = refusal }
  func close() {
    clients.withLock { clients in
      for client in clients { CLinux.close(client) }
      clients = []
    }
  }
}

struct NoImages: ImageStore {
  func create(_ path: String, size: UInt64) throws(InventoryError) {
    try FileChanges().write("x", to: path)
  }
  func createOverlay(
    _ path: String, backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) {}
  func copy(
    _ source: String, format: MachineDefinition.DiskFormat, to path: String
  ) throws(InventoryError) {}
  func size(_ path: String, format: MachineDefinition.DiskFormat) throws(InventoryError) -> UInt64 {
    1
  }
  func backing(of path: String) throws(InventoryError) -> [String] { [] }
  func isPristine(_ path: String) throws(InventoryError) -> Bool { true }
  func stream(
    _ path: String, base: String?, baseFormat: MachineDefinition.DiskFormat, allowed: [String],
    progress: LayerProgress
  ) throws(InventoryError) {}
  func commit(
    _ path: String, allowed: [String], progress: LayerProgress
  ) throws(InventoryError) {}
  func setBacking(
    of path: String, to backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) {}
  func allocatedSize(_ path: String) -> UInt64 { 0 }
  func difference(
    _ one: ResolvedDisk, _ other: ResolvedDisk, progress: LayerProgress
  ) throws(InventoryError) -> [Range<UInt64>] { [] }
}

/// A host in a thread of this process, in a home of its own.
final class TestHost: Sendable {
  let path: String
  let inventory: Inventory
  let name: MachineName
  let machine: FakeMachine
  let host: MachineHost
  private let thread: PosixThread
  private let outcome = Monitor<MachineHost.End?>(nil)

  init(
    name: String = "m", serial: [MachineDefinition.SerialTarget] = [.console, .console],
    drive: MachineDefinition.OpticalDrive? = nil, folder: String? = nil, disk: Bool = false,
    buttonInterval: UInt64 = 10_000_000_000
  ) throws {
    var template = Array("/tmp/uj-hosting-XXXXXX".utf8CString)
    path =
      folder
      ?? template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    inventory = Inventory(
      location: InventoryLocation(home: path + "/home", runtime: path + "/run"), images: NoImages())
    self.name = try MachineName(name)
    if !inventory.exists(self.name) {
      var definition = MachineDefinition()
      definition.serialPorts = serial
      definition.opticalDrive = drive
      if disk { definition.disks = [.init(name: "disk0")] }
      try inventory.create(self.name, definition, sources: ["disk0": .empty(size: 1 << 20)])
    }
    let made = Mutex<FakeMachine?>(nil)
    let parts = HostParts(
      makeMachine: { (configuration, serial, _, events) throws(MachineError) in
        let machine = FakeMachine(ports: serial.count, events: events)
        made.withLock { $0 = machine }
        return machine
      },
      makeSerial: { (place) throws(HostingError) in
        FakeSerial(refusal: place.target.takesClients ? nil : "goes nowhere")
      })
    var plan = try HostPlan(self.name, inventory)
    plan.buttonInterval = buttonInterval
    let host = try MachineHost(plan, parts: parts)
    self.host = host
    machine = try #require(made.withLock { $0 })
    let outcome = outcome
    thread = try PosixThread(name: "host") {
      let end = host.run()
      outcome.update { $0 = end }
    }
  }

  func waitForEnd() -> MachineHost.End? {
    outcome.wait(until: MonotonicClock.now + 5_000_000_000) { $0 }
  }

  func client() throws -> MachineClient { try MachineClient(name, at: inventory.location) }

  /// A bare connection, to say what no client would.
  func socket() throws -> FileDescriptor {
    let socket = FileDescriptor(owning: linux_unix_socket())
    try systemCall("connect") {
      linux_unix_connect(socket.rawValue, inventory.location.controlSocket(name))
    }
    return socket
  }

  deinit {
    host.requestStop()
    thread.join()
    try? FileChanges().removeTree(path)
  }
}

/// Sends all and reads until a predicate is true, the end, or five seconds.
func talk(
  _ descriptor: Int32, _ text: String = "", until: (String) -> Bool = { $0.hasSuffix("\n") }
) -> String {
  var bytes = Array(text.utf8)[...]
  let deadline = MonotonicClock.now + 5_000_000_000
  var received: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 65536)
  while MonotonicClock.now < deadline {
    if !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { linux_send(descriptor, $0.baseAddress, $0.count) }
      if count > 0 { bytes = bytes.dropFirst(count) }
      if count < 0, linux_error_number() != EAGAIN { bytes = [] }
    }
    let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    if count > 0 {
      received += chunk[..<count]
      if until(String(decoding: received, as: UTF8.self)) { break }
    } else if count == 0 || linux_error_number() != EAGAIN {
      return String(decoding: received, as: UTF8.self) + "<end>"
    } else {
      usleep(1000)
    }
  }
  return String(decoding: received, as: UTF8.self)
}

func refusal(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "nothing was refused"
  } catch {
    return "\(error)"
  }
}
