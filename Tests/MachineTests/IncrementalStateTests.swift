import DeviceFuzzing
import Glibc
import GuestMemory
import Machine
import Platform
import StateFile
import TestGuests
import Testing

/// Saved states that rest on earlier ones, full disks, and states that somebody has forged.
@Suite(
  .serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct IncrementalStateTests {
  private func configuration() throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .soft
    configuration.memorySize = 64 << 20
    configuration.boot = .kernel(
      path: try TestGuest.multiboot32.path(), initrd: nil, commandLine: "hello")
    return configuration
  }

  private func state(_ folder: String, _ name: String) -> String {
    mkdir("\(folder)/\(name)", 0o700)
    return "\(folder)/\(name)/memory.state"
  }

  @Test("States of one run rest on each other, also after going on from one of them")
  func increments() throws {
    var configuration = try configuration()
    let folder = try TestFolder.make("state")
    let first = try GuestConversation(configuration)
    try first.expect("> ")
    first.send("u")
    try first.expect("waiting")
    var before: String?
    for round in 0..<4 {
      first.send("\(round)")
      usleep(50_000)
      let path = state(folder, "s\(round)")
      _ = try first.machine.saveState(to: path, SaveOptions(isLive: true, base: before)) {}
      let files = try #require(StateFilePages.files(of: path))
      #expect(files.isEmpty == (round == 0))
      before = path
    }
    // One that rests on nothing of this run.
    let other = state(folder, "whole")
    _ = try first.machine.saveState(
      to: other, SaveOptions(isLive: true, base: state(folder, "s1"))
    ) {}
    #expect(StateFilePages.files(of: other) == [])
    first.machine.stop()

    for round in [3, 1, 0, 2] {
      configuration.savedState = state(folder, "s\(round)")
      let next = try GuestConversation(configuration)
      next.send("x")
      usleep(50_000)
      // Alive or not, it rests on what it came from.
      let path = state(folder, "after\(round)")
      _ = try next.machine.saveState(
        to: path, SaveOptions(isLive: round % 2 == 0, ends: true, base: configuration.savedState)
      ) {}
      // Not always on that one's own pages: it has few, and all of them may have been written again.
      #expect(StateFilePages.files(of: path)?.isEmpty == false)
      #expect(try next.end() == .suspended)
      configuration.savedState = path
      let last = try GuestConversation(configuration)
      last.send(".")
      try last.expect("got \((0...round).map { "\($0)" }.joined())x.")
    }
  }

  @Test("Where the disk is full in the middle, the guest goes on and nothing is left") func full()
    throws
  {
    let folder = try TestFolder.make("state")
    let conversation = try GuestConversation(try configuration())
    try conversation.expect("> ")
    conversation.send("u")
    try conversation.expect("waiting")
    let path = state(folder, "s")
    signal(SIGXFSZ, SIG_IGN)
    var usual = rlimit()
    getrlimit(__rlimit_resource_t(UInt32(RLIMIT_FSIZE.rawValue)), &usual)
    for limit: rlim_t in [0, 4096, 1 << 20, 3 << 20, 64 << 20] {
      var tight = rlimit(rlim_cur: limit, rlim_max: usual.rlim_max)
      setrlimit(__rlimit_resource_t(UInt32(RLIMIT_FSIZE.rawValue)), &tight)
      defer { setrlimit(__rlimit_resource_t(UInt32(RLIMIT_FSIZE.rawValue)), &usual) }
      let error = #expect(throws: (any Error).self) {
        try conversation.machine.saveState(
          to: path, SaveOptions(isLive: limit % 8192 == 0, ends: limit == 0)
        ) {}
      }
      #expect(error.map { "\($0)".contains("\n") } == false)
      #expect(access(path, F_OK) != 0 && access(path + ".part", F_OK) != 0)
    }
    conversation.send("on.")
    try conversation.expect("got on.")
    _ = try conversation.machine.saveState(to: path, SaveOptions(isLive: true)) {}
    #expect(StateFilePages.files(of: path) == [])
  }

  @Test("Forged states with right checksums are refused with a line, or run; nothing falls over")
  func forged() throws {
    let isLong = getenv("UNDERJACK_LONG_TESTS") != nil
    var configuration = try configuration()
    configuration.memorySize = 8 << 20
    configuration.display = .vga
    configuration.consolePorts = 0
    configuration.opticalDrive = .init(path: nil)
    let folder = try TestFolder.make("state")
    let path = "\(folder)/true.state"
    let machine = try GuestConversation(configuration)
    try machine.expect("> ")
    _ = try machine.machine.saveState(to: path, SaveOptions(ends: true)) {}
    let reader = try StateFileReader(path: path)
    let memory = try reader.makeMemory(hugePages: .system)
    var random = SeededGenerator(seed: 1)
    configuration.savedState = "\(folder)/forged.state"
    var refused = 0
    let count = isLong ? 10_000 : 150
    for _ in 0..<count {
      var manifest = reader.manifest
      for _ in 0...Int(random.next() % 3) {
        let index = Int(random.next() % UInt64(manifest.sections.count))
        _ = StateForge.alter(&manifest.sections[index].state, &random)
      }
      let writer = try StateFileWriter(
        path: "\(folder)/forged.state", memorySize: reader.memorySize)
      try writer.write(memory)
      try writer.finish(manifest)
      try writer.commit()
      do {
        let forged = try GuestConversation(configuration)
        usleep(1000)
        forged.machine.stop()
      } catch {
        refused += 1
        #expect(!"\(error)".contains("\n"))
      }
    }
    #expect(refused > count / 10)
    #expect(refused < count)
  }
}
