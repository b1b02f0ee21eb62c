import CLinux
import Hosting
import Inventory
import Machine
import Platform
import Synchronization
import Testing

@Suite struct ControlTests {
  @Test func methodsReachTheMachine() throws {
    let test = try TestHost()
    let client = try test.client()
    let hello = try client.call("hello")
    #expect(hello["protocol"] == 1)
    #expect(hello["name"] == "m")
    #expect(hello["process"]?.integer == Int64(getpid()))
    let status = try client.status()
    #expect(status.state == .running)
    #expect(status.uptime == 77)
    #expect(status.accelerator == "fake, because this is a test")
    _ = try client.call("pause")
    #expect(try client.status().state == .paused)
    _ = try client.call("unpause")
    _ = try client.call("reset")
    _ = try client.call("powerButton")
    _ = try client.call("serial.break", ["port": 1])
    let state = test.machine.state.withLock { ($0.resets, $0.presses, $0.breaks) }
    #expect(state == (1, 1, 1))
    #expect(try client.status().state == .running)
    _ = try client.call("stop")
    #expect(try client.status().state == .stopping)
    let methods = try client.call("methods")
    #expect(methods["serial.attach"] != nil)
  }

  @Test func snapshotsOfARunningMachineAreItsHostsWork() throws {
    let test = try TestHost(disk: true)
    let commands = SnapshotCommands(test.inventory)
    let taken = try commands.take(test.name, title: "one")
    #expect(taken.name == "one")
    #expect(taken.heldMilliseconds == 1)
    #expect(test.machine.state.withLock { $0.layers } == [0])
    try commands.rename(test.name, "one", to: "first")
    #expect(try commands.take(test.name, title: nil).name == "snapshot-2")
    #expect(
      refusal { _ = try commands.take(test.name, title: "first") }.contains("already"))
    #expect(
      refusal { _ = try commands.roll(test.name, .back("first")) }.contains("say -f"))
    #expect(
      refusal { _ = try commands.roll(test.name, .back("none"), force: true) }
        .contains("no such snapshot"))
    #expect(test.machine.state.withLock { $0.run } == .running, "nothing was cut off")
    let branch = try MachineName("b")
    try commands.branch(test.name, "first", as: branch)
    #expect(test.inventory.exists(branch))
    #expect(try commands.delete(test.name, "snapshot-2") == "snapshot-2")
    #expect(try test.inventory.snapshots(test.name).snapshots.map(\.name) == ["first"])
  }

  @Test func whoMayConnect() {
    let alone = ControlAccess(user: 1000)
    #expect(alone.isPrivate)
    #expect(alone.admits(user: 1000, 1000))
    #expect(alone.admits(user: 0, 0))
    #expect(!alone.admits(user: 1001, 1000))
    let shared = ControlAccess(user: 1000, owner: 1001, group: 4_000_000)
    #expect(shared.admits(user: 1001, 1001))
    #expect(shared.admits(user: 77777, 4_000_000))
    #expect(!shared.admits(user: 77777, 77777))
    // Root is in its own group by the system's database.
    #expect(ControlAccess(user: 1000, group: 0).admits(user: 0, 5))
    #expect(shared.isOwn(user: 1000) && shared.isOwn(user: 0) && !shared.isOwn(user: 1001))
  }

  @Test func anUnknownOwnerIsNamed() {
    var definition = MachineDefinition()
    definition.owner = "nobody-of-this-name"
    #expect(
      refusal { _ = try ControlAccess("m", definition) }
        == "m: owner: there is no user nobody-of-this-name here")
  }

  @Test func errorsAreAnswers() throws {
    let test = try TestHost()
    let client = try test.client()
    #expect(refusal { _ = try client.call("fly") } == #"m: no method "fly""#)
    for port: JSONValue in [2, -1, 9_999_999_999, .number(1.5e300)] {
      #expect(
        refusal { _ = try client.call("serial.attach", ["port": port]) }
          == "m: m has serial ports 0 to 1 only")
    }
    #expect(try client.status().state == .running)
  }

  @Test func discsComeAndGo() throws {
    let test = try TestHost(drive: .empty)
    let client = try test.client()
    #expect(try client.status().cdrom == "empty")
    _ = try client.call("events.subscribe")
    _ = try client.call("cdrom.insert", ["path": "/a.iso"])
    #expect(try client.status().cdrom == "/a.iso")
    var notification = try client.nextNotification(timeout: 1)
    while let (_, parameters) = notification, parameters["cdrom"] != "/a.iso" {
      notification = try client.nextNotification(timeout: 1)
    }
    #expect(notification?.method == "state")
    test.machine.state.withLock { $0.isDriveLocked = true }
    #expect(refusal { _ = try client.call("cdrom.eject") } == "m: locked")
    #expect(try client.status().cdrom == "/a.iso")
    _ = try client.call("cdrom.eject", ["force": true])
    #expect(try client.status().cdrom == "empty")
    for path: JSONValue in [
      "", "a.iso", 7, .null, .string("/" + String(repeating: "x", count: 4096)),
    ] {
      #expect(
        refusal { _ = try client.call("cdrom.insert", ["path": path]) }.contains("absolute path"))
    }
  }

  @Test func noDriveNoDisc() throws {
    let test = try TestHost()
    let client = try test.client()
    #expect(try client.status().cdrom == nil)
    #expect(
      refusal { _ = try client.call("cdrom.insert", ["path": "/a.iso"]) }
        .contains("m has no CD-ROM drive; 'uj set m cdrom=empty'"))
    #expect(refusal { _ = try client.call("cdrom.eject") }.contains("no CD-ROM drive"))
  }

  @Test func portThatGoesNowhereTakesNobody() throws {
    let test = try TestHost(serial: [.console, .none])
    #expect(
      refusal { _ = try test.client().attach(port: 1) } == "m: serial port 1 of m goes nowhere")
    #expect(try test.client().status().clients == 0)
  }

  @Test func malformedLinesGetErrorsAndHarmNothing() throws {
    let test = try TestHost()
    let socket = try test.socket()
    for (line, code) in [
      ("nonsense", -32700), ("[]", -32600), ("{\"jsonrpc\":\"1.0\",\"method\":\"status\"}", -32600),
      ("{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"status\"}", -32600),
      ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\u0000\"}", -32601),
      (String(repeating: "[", count: 5000), -32700),
    ] {
      let answer = talk(socket.rawValue, line + "\n")
      #expect(answer.contains("\"code\":\(code)"), "\(line.prefix(40)): \(answer)")
    }
    // A notification is carried out and not answered; identifiers come back as they were.
    let answer = talk(
      socket.rawValue,
      "\n{\"jsonrpc\":\"2.0\",\"method\":\"reset\"}\n"
        + "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"hello\"}\n")
    #expect(answer.contains("\"id\":\"x\""))
    #expect(test.machine.state.withLock { $0.resets } == 1)
  }

  @Test func endlessLineIsCut() throws {
    let test = try TestHost()
    let socket = try test.socket()
    let answer = talk(socket.rawValue, String(repeating: "x", count: 300_000)) { _ in false }
    #expect(answer.contains("longer than 65536 bytes") || answer.hasSuffix("<end>"))
    #expect(answer.hasSuffix("<end>"))
    #expect(try test.client().status().state == .running)
  }

  @Test func requestsInPiecesAndInHeaps() throws {
    let test = try TestHost()
    let socket = try test.socket()
    let request = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n"
    for byte in request.utf8.dropLast() {
      var byte = byte
      #expect(linux_send(socket.rawValue, &byte, 1) == 1)
    }
    #expect(talk(socket.rawValue, "\n").contains("\"id\":1"))
    let heap = String(repeating: request, count: 2000)
    let answers = talk(socket.rawValue, heap) { $0.utf8.filter { $0 == 10 }.count == 2000 }
    #expect(answers.utf8.filter { $0 == 10 }.count == 2000)
  }

  @Test func clientThatNeverReadsIsHeldBackAndOthersAreServed() throws {
    let test = try TestHost()
    let deaf = try test.socket()
    let request = Array("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"methods\"}\n".utf8)
    var accepted = 0
    let deadline = MonotonicClock.now + 300_000_000
    while MonotonicClock.now < deadline, accepted < 50_000_000 {
      let count = request.withUnsafeBytes { linux_send(deaf.rawValue, $0.baseAddress, $0.count) }
      if count > 0 { accepted += count } else { usleep(1000) }
    }
    #expect(accepted < 4_000_000, "its requests wait in its own socket, not in our memory")
    let started = MonotonicClock.now
    #expect(try test.client().status().state == .running)
    #expect(MonotonicClock.now - started < 1_000_000_000)
    // Once it reads, it gets every answer.
    let requests = accepted / request.count
    let answers = talk(deaf.rawValue) { $0.utf8.count { $0 == 10 } >= requests }
    #expect(answers.utf8.count { $0 == 10 } == requests)
  }

  @Test func deafSubscriberIsCut() throws {
    let test = try TestHost()
    let deaf = try test.socket()
    _ = talk(
      deaf.rawValue, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.subscribe\"}\n")
    let text = String(repeating: "x", count: 60_000)
    for _ in 0..<40 { test.machine.events(.message(text)) }
    let client = try test.client()
    _ = try client.call("hello")
    let rest = talk(deaf.rawValue) { _ in false }
    #expect(rest.hasSuffix("<end>"))
    #expect(rest.utf8.count < 2_400_000)
    #expect(try client.status().state == .running)
  }

  @Test func sixtyFourClientsAndNoMore() throws {
    let test = try TestHost()
    var clients: [MachineClient] = []
    for _ in 0..<64 {
      let client = try test.client()
      _ = try client.call("hello")
      clients.append(client)
    }
    #expect(
      refusal { _ = try test.client().call("hello") } == "m: 64 clients are connected; close one"
    )
    clients.removeLast()
    usleep(50_000)
    _ = try test.client().call("hello")
  }

  @Test func notificationsCome() throws {
    let test = try TestHost()
    let client = try AsynchronousMachineClient(test.name, at: test.inventory.location)
    let first = client.call("events.subscribe")
    let second = client.call("statistics.subscribe")
    var messages: [AsynchronousMachineClient.Message] = []
    func wait(_ wanted: (AsynchronousMachineClient.Message) -> Bool) {
      let deadline = MonotonicClock.now + 5_000_000_000
      while !messages.contains(where: wanted), MonotonicClock.now < deadline {
        messages += client.process()
        usleep(1000)
      }
      let isThere = messages.contains(where: wanted)
      #expect(isThere)
    }
    wait { if case .result(second, _) = $0 { true } else { false } }
    #expect(messages.contains { if case .result(first, _) = $0 { true } else { false } })
    test.machine.pause()
    wait { message in
      if case .notification("state", let value) = message {
        value["state"] == "paused"
      } else {
        false
      }
    }
    wait { if case .notification("statistics", _) = $0 { true } else { false } }
    test.machine.end(.failed(report: "vcpu0: broken\nrip=0"))
    wait { $0 == .notification("ended", ["reason": "vcpu0: broken", "clean": false]) }
    wait { if case .closed = $0 { true } else { false } }
    #expect(client.process().isEmpty)
  }

  @Test func attachHandsTheConnectionOver() throws {
    let test = try TestHost()
    let socket = try test.socket()
    let answer = talk(
      socket.rawValue,
      "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"serial.attach\","
        + "\"params\":{\"port\":1,\"readOnly\":true,\"replay\":false}}\nkeys"
    ) { $0.contains("got") }
    #expect(answer.contains("\"id\":9"))
    #expect(answer.hasSuffix("read-only true replay nothing got keys\n"))
    #expect(try test.client().status().clients == 1)
    let (descriptor, received) = try test.client().attach(port: 0)
    let greeting =
      String(decoding: received, as: UTF8.self)
      + (received.isEmpty ? talk(descriptor) : "")
    #expect(greeting == "read-only false replay everything got \n")
    close(descriptor)
  }

  @Test func longPathsWork() throws {
    var template = Array("/tmp/uj-hosting-XXXXXX".utf8CString)
    let base = template.withUnsafeMutableBufferPointer {
      String(cString: mkdtemp($0.baseAddress!))
    }
    let deep = base + "/" + String(repeating: "d", count: 120)
    try FileChanges().makeFolder(deep)
    do {
      let test = try TestHost(name: String(repeating: "n", count: 63), folder: deep)
      #expect(test.inventory.location.controlSocket(test.name).utf8.count > 180)
      #expect(try test.client().status().state == .running)
    }
    try FileChanges().removeTree(base)
  }
}

@Suite struct HostTests {
  @Test func gracefulStopEndsCleanly() throws {
    let test = try TestHost()
    test.machine.state.withLock { $0.powersOffOnPress = true }
    let client = try test.client()
    _ = try client.call("events.subscribe")
    _ = try client.call("stop")
    #expect(test.waitForEnd() == .init(reason: "the guest powered off", isClean: true))
    var last: String?
    while let (method, _) = try client.nextNotification(timeout: 2) { last = method }
    #expect(last == "ended")
    let record = try #require(try test.inventory.runRecord(test.name))
    #expect(record.isClean)
    #expect(record.reason == "the guest powered off")
    #expect(refusal { _ = try test.client() } == "m: is not running")
    #expect(!FileReading.exists(test.inventory.location.controlSocket(test.name)))
  }

  @Test func forcedStopDoesNotBlockOthers() throws {
    let test = try TestHost()
    test.machine.state.withLock { $0.stopDelay = 400_000 }
    let client = try test.client()
    _ = try client.call("stop", ["force": true])
    let started = MonotonicClock.now
    _ = try client.call("hello")
    _ = try client.call("stop", ["force": true])
    #expect(MonotonicClock.now - started < 300_000_000)
    #expect(test.waitForEnd() == .init(reason: "stopped", isClean: true))
  }

  @Test func failureIsShownAsCrashed() throws {
    let test = try TestHost()
    test.machine.end(.failed(report: "vcpu0: cannot go on\nregisters"))
    #expect(test.waitForEnd()?.isClean == false)
    usleep(10_000)
    let inventory = test.inventory
    let name = test.name
    withExtendedLifetime(test.host) {
      #expect(inventory.crashReason(name) == "vcpu0: cannot go on")
    }
  }

  @Test func secondHostIsRefused() throws {
    let test = try TestHost()
    let line = refusal { _ = try HostPlan(test.name, test.inventory) }
    #expect(line == "m: is running (host process \(getpid())); stop it first")
  }

  @Test func surveySeesAll() throws {
    let test = try TestHost()
    let stopped = try MachineName("stopped")
    try test.inventory.create(stopped, MachineDefinition())
    let template = try MachineName("template")
    try test.inventory.create(template, MachineDefinition())
    try test.inventory.saveDefinition("template = true\n", of: template)
    let broken = try MachineName("broken")
    try test.inventory.create(broken, MachineDefinition())
    try FileChanges().write("x = 1", to: test.inventory.location.definition(broken))
    let crashed = try MachineName("crashed")
    try test.inventory.create(crashed, MachineDefinition())
    try test.inventory.write(RunRecord(process: 1), crashed)
    let statuses = try StatusSurvey(test.inventory).statuses()
    #expect(
      statuses.map { "\($0.name) \($0.state.rawValue)" } == [
        "broken broken", "crashed crashed", "m running", "stopped stopped", "template template",
      ])
    #expect(statuses[0].problem?.contains("machine.toml:1:") == true)
    #expect(statuses[1].problem?.contains("died") == true)
    #expect(statuses[2].process == getpid())
  }

  @Test func deafHostIsUnresponsive() throws {
    let test = try TestHost()
    let deaf = try MachineName("deaf")
    try test.inventory.create(deaf, MachineDefinition())
    let lock = try test.inventory.lock(deaf, .host)
    _ = try test.inventory.location.prepareRuntimeFolder(deaf)
    let path = test.inventory.location.controlSocket(deaf)
    let listener = FileDescriptor(owning: linux_unix_socket())
    #expect(linux_unix_bind(listener.rawValue, path) == 0)
    #expect(listen(listener.rawValue, 4) == 0)
    let started = MonotonicClock.now
    let statuses = try StatusSurvey(test.inventory).statuses(timeout: 0.2)
    #expect(MonotonicClock.now - started < 1_000_000_000)
    #expect(statuses.map(\.state) == [.unresponsive, .running])
    _ = consume lock
  }
}
