import CLinux
import Devices
import GuestMemory
import Testing

private enum Operation {
  static let request: UInt16 = 1
  static let response: UInt16 = 2
  static let reset: UInt16 = 3
  static let shutdown: UInt16 = 4
  static let data: UInt16 = 5
  static let creditUpdate: UInt16 = 6
  static let creditRequest: UInt16 = 7
}

@Suite struct VirtioSocketTests {
  private static let window = 128 << 10

  private static func noise(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
  }

  @Test("identity, address and the socket's mode") func identity() throws {
    let rig = try VirtioSocketDriver()
    #expect(rig.board.config(3, 0, .doubleword) == 0x1012_1AF4)
    #expect(rig.driver.deviceConfiguration(0, .doubleword) == 5)
    #expect(rig.driver.deviceConfiguration(4, .doubleword) == 0)
    #expect(rig.driver.offeredFeatures & 1 == 1)
    var information = stat()
    stat(rig.point.path, &information)
    let mode = information.st_mode & 0o777
    #expect(mode == 0o600)
    // Somebody listens there already.
    #expect(throws: (any Error).self) { try GuestSocketPoint(path: rig.point.path) }
    rig.point.close()
    #expect(access(rig.point.path, F_OK) != 0)
  }

  @Test("a program of the host connects to the guest") func fromHost() throws {
    let rig = try VirtioSocketDriver()
    // In pieces, and with bytes behind the line that are the guest's already.
    let client = rig.client("CONN")
    usleep(20_000)
    client.send(Array("ECT 1234\nearly".utf8))
    let request = try #require(try rig.receive())
    #expect(request.operation == Operation.request)
    #expect(request.guestPort == 1234)
    #expect(request.source == 2 && request.target == 5 && request.kind == 1)
    #expect(request.bufferSize == UInt32(Self.window))
    var packet = VirtioSocketDriver.Packet(
      hostPort: request.hostPort, guestPort: 1234, operation: Operation.response)
    #expect(try rig.send(packet))
    let answer = Array("OK \(request.hostPort)\n".utf8)
    #expect(client.read(answer.count) == answer)
    let early = try #require(try rig.receive())
    #expect(early.operation == Operation.data)
    #expect(early.data == Array("early".utf8))
    packet.operation = Operation.data
    packet.data = Self.noise(10_000)
    #expect(try rig.send(packet))
    #expect(client.read(10_000) == packet.data)
    // The program goes: the guest hears that nothing will be sent or taken.
    withExtendedLifetime(client) { _ = shutdown(client.number, Int32(SHUT_RDWR)) }
    let end = try #require(try rig.receive())
    #expect(end.operation == Operation.shutdown)
    #expect(end.flags & 2 == 2)
    #expect(rig.point.statistics.opened == 1)
    packet = .init(hostPort: request.hostPort, guestPort: 1234, operation: Operation.reset)
    #expect(try rig.send(packet))
    #expect(eventually { rig.point.statistics.connections == 0 })
  }

  @Test("a refusal, and lines that are none") func refusals() throws {
    let rig = try VirtioSocketDriver()
    let client = rig.client("connect 7\r\n")
    let request = try #require(try rig.receive())
    #expect(
      try rig.send(
        .init(hostPort: request.hostPort, guestPort: 7, operation: Operation.reset)))
    #expect(client.isAtEnd())
    for line in ["CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n", "HELLO 1\n", "\n"] {
      #expect(rig.client(line).isAtEnd(), "\(line)")
    }
    #expect(rig.client(String(repeating: "C", count: 100)).isAtEnd())
    // Nobody listens for the guest.
    #expect(try rig.send(.init(hostPort: 80, guestPort: 9, operation: Operation.request)))
    let reset = try #require(try rig.receive())
    #expect(reset.operation == Operation.reset && reset.hostPort == 80 && reset.guestPort == 9)
    #expect(rig.point.statistics.refused == 2)
    // One that asks and goes before the guest answers.
    var hasty: TestSocket? = rig.client("CONNECT 8\n")
    #expect(try rig.receive()?.operation == Operation.request)
    hasty = nil
    #expect(try rig.receive()?.operation == Operation.reset)
    #expect(hasty == nil)
  }

  @Test("the guest connects to a program of the host; each side ends on its own")
  func fromGuest() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    let program = try #require(try rig.connected(to: server))
    // The guest ends its side, and still receives.
    var packet = VirtioSocketDriver.Packet(
      hostPort: 80, guestPort: 1000, operation: Operation.data, data: Array("question".utf8))
    #expect(try rig.send(packet))
    packet = .init(hostPort: 80, guestPort: 1000, operation: Operation.shutdown, flags: 2)
    #expect(try rig.send(packet))
    #expect(program.read(8) == Array("question".utf8))
    #expect(program.isAtEnd())
    program.send(Array("answer".utf8))
    let answer = try #require(try rig.receive())
    #expect(answer.data == Array("answer".utf8))
    _ = shutdown(program.number, Int32(SHUT_WR))
    let end = try #require(try rig.receive())
    #expect(end.operation == Operation.shutdown)
    packet.flags = 3
    #expect(try rig.send(packet))
    #expect(try rig.receive()?.operation == Operation.reset)
    #expect(program.isAtEnd())
    #expect(rig.point.statistics.connections == 0)
  }

  @Test("the host's program ends its side, and still receives") func halfClosedByHost() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    let program = try #require(try rig.connected(to: server))
    program.send(Array("last words".utf8))
    _ = shutdown(program.number, Int32(SHUT_WR))
    #expect(try rig.receive()?.data == Array("last words".utf8))
    let end = try #require(try rig.receive())
    #expect(end.operation == Operation.shutdown && end.flags == 2)
    #expect(
      try rig.send(
        .init(
          hostPort: 80, guestPort: 1000, operation: Operation.data, data: Self.noise(3000))))
    #expect(program.read(3000) == Self.noise(3000))
  }

  @Test("credit stops the host's program, and an update lets it go on") func creditOfGuest() throws
  {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    _ = try rig.send(
      .init(hostPort: 80, guestPort: 1000, operation: Operation.request, bufferSize: 1000))
    #expect(try rig.receive()?.operation == Operation.response)
    let program = try #require(server.accept())
    let bytes = Self.noise(2500)
    program.send(bytes)
    var received: [UInt8] = []
    while received.count < 1000, let packet = try rig.receive(), packet.operation == Operation.data
    { received += packet.data }
    #expect(received.count == 1000)
    // It says that it waits, once.
    #expect(try rig.receive()?.operation == Operation.creditRequest)
    #expect(try rig.receive(seconds: 0.2) == nil)
    #expect(
      try rig.send(
        .init(
          hostPort: 80, guestPort: 1000, operation: Operation.creditUpdate, bufferSize: 1000,
          forwarded: 1000)))
    while received.count < 2000, let packet = try rig.receive(), packet.operation == Operation.data
    { received += packet.data }
    let areFirst = received == Array(bytes[..<2000])
    #expect(areFirst)
    // Room that is less than what is under way is none.
    #expect(try rig.receive()?.operation == Operation.creditRequest)
    #expect(
      try rig.send(
        .init(
          hostPort: 80, guestPort: 1000, operation: Operation.creditUpdate, bufferSize: 10,
          forwarded: 4_000_000_000)))
    #expect(try rig.receive(seconds: 0.2) == nil)
  }

  @Test("a program that does not read stops the guest; nothing is lost") func slowProgram() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    let program = try #require(try rig.connected(to: server))
    // As much as credit allows.
    var sent: [UInt8] = []
    var forwarded: UInt32 = 0
    func drain() throws {
      while let packet = try rig.receive(seconds: 0.05) {
        #expect(packet.operation == Operation.creditUpdate)
        forwarded = packet.forwarded
      }
    }
    for round in 0..<1000 {
      try drain()
      let room = Self.window - (sent.count - Int(forwarded))
      if room == 0 { break }
      let piece = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: min(room, 32 << 10))
      #expect(
        try rig.send(
          .init(hostPort: 80, guestPort: 1000, operation: Operation.data, data: piece)))
      sent += piece
    }
    #expect(sent.count - Int(forwarded) == Self.window)
    #expect(rig.point.statistics.connections == 1)
    // It ends its side: what waits still arrives, and then the end.
    #expect(
      try rig.send(
        .init(hostPort: 80, guestPort: 1000, operation: Operation.shutdown, flags: 3)))
    let arrived = program.read(sent.count, seconds: 10)
    let isSame = arrived == sent
    #expect(isSame)
    #expect(program.isAtEnd())
    var last: UInt16?
    while let packet = try rig.receive(seconds: 1), last != Operation.reset {
      last = packet.operation
    }
    #expect(last == Operation.reset)
  }

  @Test("more than was allowed, unknown operations and types end the connection")
  func violations() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    func expectReset(_ packet: VirtioSocketDriver.Packet) throws {
      let program = try #require(try rig.connected(to: server))
      #expect(try rig.send(packet))
      #expect(try rig.receive()?.operation == Operation.reset, "\(packet.operation)")
      if packet.kind == 1, packet.guestPort == 1000 { #expect(program.isAtEnd()) }
      _ = try rig.send(.init(hostPort: 80, guestPort: 1000, operation: Operation.reset))
    }
    let base = VirtioSocketDriver.Packet(hostPort: 80, guestPort: 1000, operation: Operation.data)
    var packet = base
    packet.data = [UInt8](repeating: 1, count: Self.window + 1)
    try expectReset(packet)
    for operation: UInt16 in [0, 1, 2, 8, 0xFFFF] {
      packet = base
      packet.operation = operation
      try expectReset(packet)
    }
    packet = base
    packet.kind = 2
    try expectReset(packet)
    packet = base
    packet.guestPort = 1
    try expectReset(packet)
    // Of these nobody hears anything, and the device goes on.
    for change: (inout VirtioSocketDriver.Packet) -> Void in [
      { $0.length = 1 << 20 }, { $0.length = .max }, { $0.source = 6 }, { $0.target = 3 },
      { $0.source = .max },
    ] {
      packet = base
      change(&packet)
      #expect(try rig.send(packet))
    }
    #expect(try rig.send(bytes: [1, 2, 3]))
    #expect(try rig.receive(seconds: 0.2) == nil)
    #expect(!rig.transport.needsReset)
    #expect(rig.point.statistics.malformed >= 13)
    #expect(try rig.connected(to: server, guestPort: 77) != nil)
  }

  @Test("connections have a limit, which is counted") func manyConnections() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    var programs: [TestSocket] = []
    var responses = 0
    var resets = 0
    for port in 0..<600 as Range<UInt32> {
      #expect(try rig.send(.init(hostPort: 80, guestPort: port, operation: Operation.request)))
      switch try rig.receive()?.operation {
      case Operation.response:
        responses += 1
        if let program = server.accept() { programs.append(program) }
      case Operation.reset: resets += 1
      default: Issue.record("port \(port)")
      }
    }
    #expect(responses == 512)
    #expect(resets == 88)
    #expect(rig.point.statistics.connections == 512)
    #expect(rig.point.statistics.refused == 88)
    // Without buffers of the guest, answers have a limit too, and the guest waits.
    rig.driver.status = 0
    #expect(eventually { rig.point.statistics.connections == 0 })
    let areClosed = programs.allSatisfy { $0.isAtEnd(seconds: 1) }
    #expect(areClosed)
  }

  @Test("without buffers the guest's packets wait at last, and go on") func noBuffers() throws {
    let rig = try VirtioSocketDriver()
    var answered = 0
    // Each of them costs a reset, and no buffer is given back.
    for port in 0..<UInt32(VirtioSocketDriver.bufferCount) {
      #expect(try rig.send(.init(hostPort: 80, guestPort: port, operation: Operation.request)))
      if try rig.receive(keeps: true)?.operation == Operation.reset { answered += 1 }
    }
    #expect(answered == VirtioSocketDriver.bufferCount)
    var taken = 0
    while taken < 1000 {
      let packet = VirtioSocketDriver.Packet(
        hostPort: 80, guestPort: 5000, operation: Operation.request)
      try rig.board.memory.write(
        VirtioSocketDriver.bytes(packet), at: GuestAddress(rig.driver.bufferBase))
      rig.driver.chain(1, [.init(address: rig.driver.bufferBase, length: 44)])
      rig.driver.offer(1, head: 0)
      rig.driver.kick(1)
      guard rig.driver.waitUsed(1, seconds: 0.3) != nil else { break }
      taken += 1
    }
    #expect((200..<400).contains(taken), "\(taken)")
  }

  @Test("after a restore the guest is told that its connections are gone") func restored() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    let program = try #require(try rig.connected(to: server))
    let event = rig.driver.bufferBase + 0x8000
    rig.board.memory.store(UInt32(77), at: GuestAddress(event))
    rig.driver.chain(2, [.init(address: event, length: 8, isWritable: true)])
    rig.driver.offer(2, head: 0)
    rig.driver.kick(2)
    #expect(rig.driver.waitUsed(2, seconds: 0.2) == nil)
    rig.transport.pause()
    let states = (rig.transport.saveState(), rig.device.saveState())
    rig.transport.restoreState(states.0)
    rig.device.restoreState(states.1)
    rig.transport.resume()
    #expect(rig.driver.waitUsed(2) == 4)
    let told: UInt32? = rig.board.memory.load(at: GuestAddress(event))
    #expect(told == 0)
    #expect(program.isAtEnd())
    #expect(rig.point.statistics.connections == 0)
    #expect(try rig.connected(to: server, guestPort: 1001) != nil)
  }

  @Test("a pause keeps connections") func paused() throws {
    let rig = try VirtioSocketDriver()
    let server = rig.server(port: 80)
    let program = try #require(try rig.connected(to: server))
    rig.transport.pause()
    program.send(Array("later".utf8))
    #expect(try rig.receive(seconds: 0.2) == nil)
    rig.transport.resume()
    #expect(try rig.receive()?.data == Array("later".utf8))
  }
}
