import Glibc
import Machine
import Platform
import StateFile
import Synchronization
import TestGuests
import Testing

/// Machines that are given away while they run. The other side is a state file here, from which another machine goes on.
@Suite(
  .serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct MovingTests {
  /// Keeps what is sent, and ends as it is told.
  private final class Target: MovingTarget, @unchecked Sendable {
    // @unchecked: one thread at a time, see `MovingTarget`.
    enum End { case takes, refuses, saysNothing }
    let path: String
    let end: End
    let writer: StateFileWriter
    private(set) var synchronizations = 0
    private(set) var standstills = 0
    private(set) var preparations = 0
    private(set) var executionTime: UInt64?
    /// Nanoseconds between the guest's first instruction there and the word that it lasts.
    var delay: UInt64 = 0
    private(set) var disk: [UInt64: Int] = [:]

    init(_ path: String, memorySize: UInt64, _ end: End) throws {
      self.path = path
      self.end = end
      writer = try StateFileWriter(path: path, memorySize: memorySize)
    }

    func sendMemory(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
      try writer.write(bytes, atMemory: offset)
    }
    func sendMemoryZeros(count: UInt64, at offset: UInt64) throws {
      try writer.writeZeros(count: count, atMemory: offset)
    }
    func sendDisk(_ disk: Int, _ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
      self.disk[offset] = bytes.count
    }
    func sendDiskZeros(_ disk: Int, count: UInt64, at offset: UInt64) throws {}
    func synchronize() throws { synchronizations += 1 }
    func prepareHandOver() throws {
      // What is written down before the stand-still is not written down in it.
      #expect(standstills == 0)
      preparations += 1
    }
    func beginStandstill(until deadline: UInt64) throws {
      standstills += 1
      #expect(deadline > MonotonicClock.now)
    }
    func handOver(_ manifest: StateManifest) throws -> HandOver {
      try writer.finish(try StateManifest(decoding: manifest.encoded))
      try writer.commit(isLasting: false)
      switch end {
      case .takes:
        executionTime = MonotonicClock.now
        usleep(UInt32(delay / 1000))
        return .done
      case .refuses: throw MachineError("no room")
      case .saysNothing: return .uncertain
      }
    }
  }

  private func configuration() throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .soft
    configuration.memorySize = 64 << 20
    configuration.boot = .kernel(
      path: try TestGuest.multiboot32.path(), initrd: nil, commandLine: "hello")
    return configuration
  }

  /// A guest that has taken some of what it was typed.
  private func begin(_ configuration: MachineConfiguration) throws -> GuestConversation {
    let conversation = try GuestConversation(configuration)
    try conversation.expect("> ")
    conversation.send("u")
    try conversation.expect("waiting")
    conversation.send("The quick")
    usleep(50_000)
    return conversation
  }

  @Test("What was typed is there in the machine that goes on, and the first has ended")
  func moves() throws {
    var configuration = try configuration()
    let first = try begin(configuration)
    let path = try TestFolder.make("move") + "/memory.state"
    let target = try Target(path, memorySize: configuration.memorySize, .takes)
    target.delay = 700_000_000
    let progress = MovingProgress()
    let outcome = try first.machine.move(to: target, MovingOptions(), progress)
    #expect(outcome == .done)
    #expect(try first.end() == .moved)
    #expect(target.synchronizations > 1)
    #expect(target.standstills == 1)
    let state = progress.state
    #expect(target.preparations == 1)
    #expect(state.standstill > 0)
    // The guest executes there meanwhile.
    #expect(state.standstill < target.delay)
    #expect(state.sent > 0)
    #expect(state.sent < configuration.memorySize)

    configuration.savedState = path
    let next = try GuestConversation(configuration)
    next.send(" brown fox.")
    try next.expect("got The quick brown fox.")
    next.send("p")
    #expect(try next.end() == .powerOff)
  }

  @Test("Refused at the last moment, the guest goes on as if nothing had happened") func refused()
    throws
  {
    let configuration = try configuration()
    let conversation = try begin(configuration)
    let folder = try TestFolder.make("move")
    for number in 0..<2 {
      let target = try Target(
        "\(folder)/\(number)", memorySize: configuration.memorySize, .refuses)
      let error = #expect(throws: MachineError.self) {
        try conversation.machine.move(to: target, MovingOptions(), MovingProgress())
      }
      #expect(error?.description == "no room")
    }
    conversation.send(" brown fox.")
    try conversation.expect("got The quick brown fox.")
    // Live states can be taken still.
    _ = try conversation.machine.saveState(to: "\(folder)/state", SaveOptions(isLive: true)) {}
  }

  @Test("With an uncertain end it stands still until it is taken back") func uncertain() throws {
    let configuration = try configuration()
    let conversation = try begin(configuration)
    let path = try TestFolder.make("move") + "/memory.state"
    let target = try Target(path, memorySize: configuration.memorySize, .saysNothing)
    let outcome = try conversation.machine.move(to: target, MovingOptions(), MovingProgress())
    #expect(outcome == .uncertain)
    #expect(conversation.machine.runState == .paused)
    #expect(throws: MachineError.self) {
      try conversation.machine.move(to: target, MovingOptions(), MovingProgress())
    }
    try conversation.machine.takeBack([])
    conversation.send(" brown fox.")
    try conversation.expect("got The quick brown fox.")
  }

  @Test("A machine that has ended is not moved") func ended() throws {
    let configuration = try configuration()
    let conversation = try begin(configuration)
    conversation.machine.stop()
    let path = try TestFolder.make("move") + "/memory.state"
    let target = try Target(path, memorySize: configuration.memorySize, .takes)
    #expect(throws: MachineError.self) {
      try conversation.machine.move(to: target, MovingOptions(), MovingProgress())
    }
  }

  @Test("What the processors here lack, or the board is otherwise, is said before anything comes")
  func arrival() throws {
    let configuration = try configuration()
    let conversation = try begin(configuration)
    let description = try conversation.machine.movingDescription()
    try Machine.checkArrival(
      configuration, facts: description.facts, leaves: description.leaves, serialPortCount: 1)
    var other = configuration
    other.memorySize *= 2
    let error = #expect(throws: MachineError.self) {
      try Machine.checkArrival(
        other, facts: description.facts, leaves: description.leaves, serialPortCount: 1)
    }
    #expect(error?.description.contains("memory was 64 MiB and is 128 MiB now") == true)
    #expect(throws: MachineError.self) {
      try Machine.checkArrival(
        configuration, facts: description.facts, leaves: .text("nonsense"), serialPortCount: 1)
    }
  }
}
