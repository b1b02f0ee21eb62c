import CLinux
import Devices
import Hosting
import Inventory
import Machine
import Platform
import Testing

/// Where serial ports and the debug port go, with real files and pseudo-terminals.
@Suite struct SerialPlaceTests {
  private func send(_ text: String, to backend: any CharacterBackend) {
    text.utf8CString.withUnsafeBytes {
      backend.guestDidSend(UnsafeRawBufferPointer(rebasing: $0.dropLast()))
    }
  }

  private func make(_ place: HostParts.SerialPlace) throws -> any SerialMultiplexer {
    try HostParts.standard.makeSerial(place)
  }

  @Test func fileIsMadeLateAndAddedTo() throws {
    let folder = TestFolder()
    let path = "\(folder.path)/out"
    let port = try make(.init(port: 0, target: .file(path)))
    #expect(!FileReading.exists(path), "a machine that cannot be built leaves no file")
    send("too early", to: port.backend)
    port.connect(SilentDevice())
    send("one\n", to: port.backend)
    port.close()
    let again = try make(.init(port: 0, target: .file(path)))
    again.connect(SilentDevice())
    send("two\n", to: again.backend)
    #expect(try FileReading.text(path) == "one\ntwo\n")
    #expect(again.refusal == "goes to the file \(path)")
    #expect(again.devicePath == nil)
  }

  @Test func fileThatCannotBeIsRefusedAtOnce() throws {
    let folder = TestFolder()
    #expect(refusal { _ = try FileBackend(folder.path) }.contains("is a folder"))
    let inner = "\(folder.path)/no/out"
    #expect(refusal { _ = try FileBackend(inner) }.hasPrefix("\(inner): cannot be made"))
    let pipe = "\(folder.path)/pipe"
    mkfifo(pipe, 0o600)
    #expect(refusal { _ = try FileBackend(pipe) }.contains("No such device"), "nobody reads it")
  }

  @Test func pipeWhoseReaderSleepsHoldsNobodyUp() throws {
    let folder = TestFolder()
    let pipe = "\(folder.path)/pipe"
    mkfifo(pipe, 0o600)
    let reader = try FileDescriptor.open(pipe, O_RDONLY | O_NONBLOCK)
    let backend = try FileBackend(pipe)
    let begin = MonotonicClock.now
    let text = String(repeating: "x", count: 50_000)
    for _ in 0..<20 { send(text, to: backend) }
    #expect(MonotonicClock.now - begin < 1_000_000_000)
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    let count = buffer.withUnsafeMutableBytes { read(reader.rawValue, $0.baseAddress, $0.count) }
    #expect(count >= 50_000)
    // It reads again: what comes now arrives.
    send("back", to: backend)
    let next = buffer.withUnsafeMutableBytes { read(reader.rawValue, $0.baseAddress, $0.count) }
    #expect(String(decoding: buffer[..<max(0, next)], as: UTF8.self).hasSuffix("back"))
  }

  @Test func pseudoTerminalWithoutALink() throws {
    let port = try make(.init(port: 0, target: .pty))
    defer { port.close() }
    let path = try #require(port.devicePath)
    let device = try FileDescriptor.open(path, O_RDWR | O_NOCTTY | O_NONBLOCK)
    send("to the pty", to: port.backend)
    #expect(talk(device.rawValue) { $0.contains("to the pty") }.contains("to the pty"))
    #expect(port.refusal == nil)
  }

  @Test func consoleDoesWithoutAPseudoTerminal() throws {
    let folder = TestFolder()
    // No link can be made there, as none can where /dev/pts is missing.
    let link = "\(folder.path)/missing/serial0"
    let port = try make(.init(port: 0, linkPath: link))
    #expect(port.devicePath == nil)
    var ends: [Int32] = [-1, -1]
    socketpair(
      AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0,
      &ends)
    defer { close(ends[1]) }
    port.attach(ends[0], input: [], SerialAttachment())
    send("hello", to: port.backend)
    #expect(talk(ends[1]) { $0 == "hello" } == "hello")
    port.close()
    // Whoever wants nothing but the pseudo-terminal is told.
    #expect(throws: HostingError.self) {
      _ = try make(.init(port: 0, target: .pty, linkPath: link))
    }
  }

  @Test func consoleThatReadsSlowlyGetsEveryByte() throws {
    let port = try make(.init(port: 0))
    var ends: [Int32] = [-1, -1]
    socketpair(
      AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0,
      &ends)
    defer { close(ends[1]) }
    port.attach(ends[0], input: [], SerialAttachment(replay: .nothing))
    let line = String(repeating: "0123456789abcde\n", count: 4096)
    let lineCount = 160  // 10 MiB, more than the ring of 4 MiB holds
    let socket = ends[1]
    let received = Monitor(0)
    let reader = try PosixThread(name: "reader") {
      var buffer = [UInt8](repeating: 0, count: 65536)
      let deadline = MonotonicClock.now + 10_000_000_000
      while received.read({ $0 }) < line.utf8.count * lineCount, MonotonicClock.now < deadline {
        let count = buffer.withUnsafeMutableBytes { read(socket, $0.baseAddress, $0.count) }
        if count > 0 { received.update { $0 += count } }
        usleep(1000)
      }
    }
    for _ in 0..<lineCount { send(line, to: port.backend) }
    reader.join()
    #expect(received.read { $0 } == line.utf8.count * lineCount)
    port.close()
  }

  @Test func planOfADefinition() throws {
    let folder = TestFolder()
    let inventory = Inventory(location: folder.location, images: NoImages())
    let name = try MachineName("m")
    let disc = "\(folder.path)/a.iso"
    try FileChanges().write("x", to: disc)
    var definition = MachineDefinition()
    definition.serialPorts = [.console, .pty, .file("/out"), .none]
    definition.opticalDrive = .disc(disc)
    definition.bootOrder = [.cdrom, .disk]
    definition.topology = .init(sockets: 2, cores: 2, threads: 1)
    definition.interruptChip = .split
    definition.allowsNesting = true
    definition.processorModel = .v3
    try inventory.create(name, definition)
    do {
      let plan = try HostPlan(name, inventory)
      let configuration = plan.configuration
      #expect(configuration.opticalDrive == OpticalDriveConfiguration(path: disc))
      #expect(configuration.disks.isEmpty, "the disc is in a drive, and no disk")
      #expect(configuration.bootOrder == [.cdrom, .disk])
      #expect(configuration.topology == .init(sockets: 2, cores: 2, threads: 1))
      #expect(configuration.interruptChip == .split)
      #expect(configuration.allowsNesting)
      #expect(configuration.processorModel == .v3)
      let location = folder.location
      #expect(
        plan.serial.map(\.logPath) == [location.serialLog(name, port: 0), nil, nil, nil])
      let runtime = location.runtimeFolder(name)
      #expect(
        plan.serial.map(\.linkPath) == ["\(runtime)/serial0", "\(runtime)/serial1", nil, nil])
    }
    var overrides = DefinitionOverrides()
    overrides.bootOrder = [.cdrom]
    overrides.memory = 1 << 30
    let plan = try HostPlan(name, inventory, overrides: overrides)
    #expect(plan.configuration.bootOrder == [.cdrom])
    #expect(plan.configuration.memorySize == 1 << 30)
    #expect(try inventory.definition(name).memory == 256 << 20, "nothing of it lasts")
    overrides.opticalDrive = .disc("/nowhere.iso")
    #expect(
      refusal { _ = try HostPlan(name, inventory, overrides: overrides) }.contains("is running"))
    _ = plan
  }

  @Test func missingDiscIsNamed() throws {
    let folder = TestFolder()
    let inventory = Inventory(location: folder.location, images: NoImages())
    let name = try MachineName("m")
    try inventory.create(name, MachineDefinition())
    var overrides = DefinitionOverrides()
    overrides.opticalDrive = .disc("/nowhere.iso")
    #expect(
      refusal { _ = try HostPlan(name, inventory, overrides: overrides) }
        == "/nowhere.iso: disc image of m is not there")
  }
}

/// A guest's end that takes everything.
private final class SilentDevice: CharacterDevice {
  func offer(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count }
  func sendBreak() {}
}
