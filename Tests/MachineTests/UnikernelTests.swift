import Devices
import DiskImage
import Glibc
import Machine
import Networks
import Platform
import Synchronization
import TestGuests
import Testing

/// Unikernels for Solo5's hvt on the software processor: one of our own, and Solo5's where they were built.
@Suite(
  .serialized, .enabled(if: TestGuest.missingTool == nil, "\(TestGuest.missingTool ?? "")"))
struct UnikernelTests {
  private static let diskSize = 1 << 20

  private func configuration(_ line: String, folder: String) throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "test")
    configuration.accelerator = .soft
    configuration.memorySize = 64 << 20
    configuration.stopsOnReset = true
    configuration.boot = .kernel(
      path: try TestGuest.unikernel.path(), initrd: nil, commandLine: line)
    let disk = "\(folder)/storage.img"
    let file = try FileDescriptor.open(disk, O_RDWR | O_CREAT, mode: 0o600)
    try systemCall("ftruncate") { ftruncate(file.rawValue, off_t(Self.diskSize)) }
    configuration.disks = [DiskConfiguration(path: disk, format: .raw)]
    configuration.networks = [NetworkConfiguration()]
    return configuration
  }

  @Test("Every hypercall does what the ABI says, and the guest's status ends the run")
  func hypercalls() throws {
    let folder = try TestFolder.make("unikernel")
    let before = UInt64(time(nil))
    let conversation = try GuestConversation(try configuration("three cheers", folder: folder))
    let text = try conversation.expect("end\n")
    func number(_ name: String) throws -> UInt64 {
      let line = try #require(
        text.split(separator: "\n").first { $0.hasPrefix(name + " ") }, "no \(name) in \(text)")
      return try #require(UInt64(line.dropFirst(name.count + 1)))
    }
    #expect(text.hasPrefix("line 'three cheers'\n"))
    #expect(try number("memory") == 64 << 20)
    #expect((before...before + 60).contains(try number("seconds")))
    #expect(try number("idle set") == 0)
    #expect((29_000...2_000_000).contains(try number("waited")))
    #expect((999...1000).contains(try number("third")))
    #expect(try number("disk attached") == 1)
    #expect(try number("capacity") == UInt64(Self.diskSize))
    #expect(try number("write") == 0 && number("read") == 0 && number("same") == 1)
    // SOLO5_R_EINVAL
    #expect(try number("outside") == 2 && number("wild") == 2 && number("no disk") == 2)
    #expect(try number("network attached") == 1 && number("mtu") == 1500)
    // SOLO5_R_AGAIN
    #expect(try number("nothing yet") == 1 && number("sent") == 0)
    // The handle of the network, and the last byte of the one who answered.
    #expect(try number("ready") == 1 << 2 && number("answer of") == 2)
    #expect(try conversation.end() == .debugExit(status: 3))
    conversation.machine.stop()
    let disk = try FileDescriptor.open("\(folder)/storage.img", O_RDONLY)
    var sector = [UInt8](repeating: 0, count: 512)
    #expect(sector.withUnsafeMutableBytes { pread(disk.rawValue, $0.baseAddress, 512, 512) } == 512)
    #expect(sector == (0..<512).map { UInt8(truncatingIfNeeded: $0 * 7 + 1) })
  }

  @Test("What its segments do not allow, a unikernel cannot do") func protection() throws {
    let folder = try TestFolder.make("unikernel")
    let conversation = try GuestConversation(try configuration("write", folder: folder))
    // Without handlers a page fault becomes a triple fault.
    #expect(try conversation.end() == .reset)
    #expect(!conversation.output.contains("end\n"))
  }

  @Test("A unikernel that waits for ever can be paused, and stopped") func waiting() throws {
    let folder = try TestFolder.make("unikernel")
    let conversation = try GuestConversation(try configuration("wait", folder: folder))
    try conversation.expect("answer of")
    usleep(100_000)
    let start = MonotonicClock.now
    conversation.machine.pause()
    while conversation.machine.runState != .paused, MonotonicClock.now < start + 5_000_000_000 {
      pauseThread()
    }
    #expect(conversation.machine.runState == .paused)
    conversation.machine.resume()
    conversation.machine.stop()
    #expect(MonotonicClock.now - start < 5_000_000_000)
  }

  /// Takes what is printed slowly, and counts it.
  private final class SlowConsole: CharacterBackend {
    let count = Atomic<Int>(0)
    func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
      if bytes.count > 4096 { usleep(20_000) }
      count.add(bytes.count, ordering: .relaxed)
    }
    func guestCanReceive() {}
  }

  @Test("A pause comes in the middle of a long print, of which nothing is lost") func longPrint()
    throws
  {
    let folder = try TestFolder.make("unikernel")
    let console = SlowConsole()
    let machine = try Machine(
      try configuration("flood", folder: folder), serialBackends: [console]
    ) { _ in }
    defer { machine.stop() }
    try machine.start()
    func waitFor(_ condition: () -> Bool) -> Bool {
      let limit = MonotonicClock.now + 20_000_000_000
      while !condition(), MonotonicClock.now < limit { pauseThread() }
      return condition()
    }
    // 8 MiB in one call, which take seconds.
    try #require(waitFor { console.count.load(ordering: .relaxed) > 256 << 10 })
    machine.pause()
    #expect(waitFor { machine.runState == .paused })
    let before = console.count.load(ordering: .relaxed)
    #expect(before < 4 << 20)
    usleep(200_000)
    #expect(console.count.load(ordering: .relaxed) == before)
    machine.resume()
    #expect(waitFor { console.count.load(ordering: .relaxed) >= 8 << 20 })
  }

  @Test("A device that the definition lacks is named") func missingDevice() throws {
    let folder = try TestFolder.make("unikernel")
    var configuration = try configuration("", folder: folder)
    configuration.disks = []
    let error = #expect(throws: MachineError.self) { try GuestConversation(configuration) }
    #expect("\(try #require(error))".contains("the unikernel's device 'storage' needs a disk"))
    // The name is the file's: nothing of it moves the cursor or changes a colour.
    let source = try FileDescriptor.open(try TestGuest.unikernel.path(), O_RDONLY)
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let size = bytes.withUnsafeMutableBytes { pread(source.rawValue, $0.baseAddress, $0.count, 0) }
    bytes = Array(bytes.prefix(max(size, 0)))
    let name = Array("storage".utf8)
    let place = try #require(
      bytes.indices.first { bytes[$0...].starts(with: name) }, "the manifest has another name")
    let odd = Array("\u{1B}[31m\u{7}".utf8) + [0x9B]
    bytes.replaceSubrange(place..<place + name.count, with: odd)
    let path = "\(folder)/odd"
    let copy = try FileDescriptor.open(path, O_RDWR | O_CREAT, mode: 0o600)
    #expect(bytes.withUnsafeBytes { pwrite(copy.rawValue, $0.baseAddress, $0.count, 0) } == size)
    configuration.boot = .kernel(path: path, initrd: nil, commandLine: "")
    let other = #expect(throws: MachineError.self) { try GuestConversation(configuration) }
    #expect("\(try #require(other))".contains("device '?[31m??' needs a disk"))
  }

  /// Built from Solo5's sources, outside of this repository.
  private static let sources = getenv("UNDERJACK_SOLO5").map { String(cString: $0) }

  @Test(
    "Solo5's own unikernels print what its tests expect",
    .enabled(if: sources != nil, "UNDERJACK_SOLO5 names no folder with Solo5's sources, built"),
    arguments: [
      ("hello", "Hello_Solo5", "SUCCESS", MachineEnd.powerOff),
      ("quiet", "--solo5:quiet", "SUCCESS", .powerOff), ("globals", "", "SUCCESS", .powerOff),
      ("exception", "", "ABORT", .debugExit(status: 255)),
      ("zeropage", "", "ABORT", .debugExit(status: 255)),
      ("xnow", "", "ABORT", .debugExit(status: 255)),
      ("wnox", "", "ABORT", .debugExit(status: 255)),
      ("notls", "", "ABORT", .debugExit(status: 255)), ("tls", "", "SUCCESS", .powerOff),
      ("ssp", "", "ABORT", .debugExit(status: 255)), ("fpu", "", "SUCCESS", .powerOff),
      ("time", "", "SUCCESS", .powerOff), ("blk", "", "SUCCESS", .powerOff),
    ])
  func unikernelsOfSolo5(_ name: String, line: String, words: String, end: MachineEnd) throws {
    let folder = try TestFolder.make("unikernel")
    var configuration = try configuration(line, folder: folder)
    let path = "\(try #require(Self.sources))/tests/test_\(name)/test_\(name).hvt"
    configuration.boot = .kernel(path: path, initrd: nil, commandLine: line)
    let conversation = try GuestConversation(configuration)
    #expect(try conversation.end(seconds: 60) == end)
    #expect(conversation.output.contains(words), "\(conversation.output)")
  }
}
