import Hosting
import Machine
import Processor
import Testing

/// A machine of two processors that writes down what a debugger wants.
private final class FakeTarget: DebugTarget {
  var processorCount: Int { states.count }
  var states = [ProcessorState(), ProcessorState()]
  var memory: [UInt64: UInt8] = [:]
  var stops = 0
  var runs: [(run: DebugRun, breakpoints: [UInt64], watchpoints: [Watchpoint])] = []
  var firstStop: MachineStop?
  var failure: String?
  var hasEnded = false
  var isDetached = false
  var limit = 4

  init() {
    for index in states.indices {
      states[index].generalRegisters = (0..<16).map { UInt64($0) + 0x1111_0000 }
      states[index].instructionPointer = 0xFFFF_FFFF_8100_0000 + UInt64(index)
      states[index].extendedState = [UInt8](repeating: 0, count: 576)
      states[index].extendedState[512] = 3
    }
  }

  func stop() throws { stops += 1 }
  func resume(_ run: DebugRun, breakpoints: [UInt64], watchpoints: [Watchpoint]) throws {
    firstStop = nil
    runs.append((run, breakpoints, watchpoints))
  }
  func accepts(breakpoints: Int, watchpoints: [Watchpoint]) -> Bool {
    breakpoints + watchpoints.count <= limit
  }
  func state(of processor: Int) throws -> ProcessorState { states[processor] }
  func setState(_ state: ProcessorState, of processor: Int) throws { states[processor] = state }
  func read(_ linear: UInt64, count: Int, _ state: ProcessorState) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count, let byte = memory[linear &+ UInt64(bytes.count)] {
      bytes.append(byte)
    }
    return bytes
  }
  func write(_ bytes: [UInt8], at linear: UInt64, _ state: ProcessorState) -> Bool {
    guard memory[linear] != nil else { return false }
    for (offset, byte) in bytes.enumerated() { memory[linear &+ UInt64(offset)] = byte }
    return true
  }
  func detach() { isDetached = true }
}

@Suite struct GDBSessionTests {
  private func ask(_ session: GDBSession, _ text: String) -> String {
    let answer = session.handle(Array(text.utf8))
    return answer.packets.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "|")
  }

  // MARK: Packets

  private func items(_ bytes: [UInt8]) -> [GDBPacketReader.Item] {
    var reader = GDBPacketReader()
    return bytes.compactMap { reader.take($0) }
  }

  @Test func packetsAreCutAndEscaped() {
    let found = items(Array("+$OK#9a-\u{3}junk$m0,4#fd".utf8))
    #expect(
      found == [
        .acknowledged, .packet(Array("OK".utf8)), .refused, .interrupt,
        .packet(Array("m0,4".utf8)),
      ])
    let odd: [UInt8] = [0x23, 0x24, 0x7D, 0x2A, 0, 0xFF, 0x61]
    let framed = items(GDBPacket.framed(odd))
    #expect(framed == [.packet(odd)])
    let every = (0...255 as ClosedRange<UInt8>).map { $0 }
    let all = items(GDBPacket.framed(every))
    #expect(all == [.packet(every)])
  }

  @Test func damagedPacketsAreToldAndBounded() {
    for text in ["$OK#00", "$OK#zz", "$}#7d"] {
      let found = items(Array(text.utf8))
      #expect(found == [.damaged], "\(text)")
    }
    let last = items(Array("$lost$OK#9a".utf8))
    #expect(last == [.packet(Array("OK".utf8))])
    var reader = GDBPacketReader()
    _ = reader.take(UInt8(ascii: "$"))
    var sum: UInt8 = 0
    for _ in 0..<100_000 {
      #expect(reader.take(0x61) == nil)
      sum &+= 0x61
    }
    let tail = [UInt8(ascii: "#")] + GDBPacket.hexBytes([sum])
    let end = tail.compactMap { reader.take($0) }
    #expect(end == [.damaged])
    #expect(GDBPacket.bytes(ofHex: Array("0aFf".utf8)) == [0x0A, 0xFF])
    #expect(GDBPacket.bytes(ofHex: Array("0aF".utf8)) == nil)
    #expect(GDBPacket.number(Array("ffffffff81000000".utf8)) == 0xFFFF_FFFF_8100_0000)
    #expect(GDBPacket.number(Array("1ffffffff81000000".utf8)) == nil)
    #expect(GDBPacket.number(Array("".utf8)) == nil)
  }

  @Test func anythingAtAllIsAnswered() {
    let target = FakeTarget()
    let session = GDBSession(target)
    var random: UInt64 = 7
    func next() -> UInt64 {
      random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return random >> 33
    }
    let starts = [
      "g", "G", "p", "P", "m", "M", "X", "Z0,", "z1,", "Z2,", "c", "C05;", "s", "Hg", "Hc", "T",
      "qXfer:features:read:target.xml:", "qThreadExtraInfo,", "qRcmd,", "vCont;", "vCont;r",
      "vCont;s:", "q", "v", "", "?", "QStartNoAckMode", "qSupported:",
    ]
    let letters = Array("0123456789abcdefFxg,;:=-+pcsrt\u{0}\u{7f}".utf8) + [0xFF, 0x80]
    for _ in 0..<20_000 {
      var packet = Array(starts[Int(next()) % starts.count].utf8)
      for _ in 0..<next() % 24 { packet.append(letters[Int(next()) % letters.count]) }
      let answer = session.handle(packet)
      #expect(!answer.ends)
      if session.isRunning { _ = session.interrupt() }
    }
  }

  // MARK: Conversations

  @Test func aDebuggerThatConnectsFindsWhatItAsksFor() {
    let target = FakeTarget()
    let session = GDBSession(target)
    #expect(ask(session, "qSupported:multiprocess+;swbreak+;hwbreak+").contains("PacketSize=4000"))
    #expect(session.acknowledges)
    #expect(ask(session, "QStartNoAckMode") == "OK")
    #expect(!session.acknowledges)
    #expect(ask(session, "vMustReplyEmpty") == "")
    #expect(ask(session, "qfThreadInfo") == "m1,2")
    #expect(ask(session, "qsThreadInfo") == "l")
    #expect(ask(session, "qAttached") == "1")
    #expect(ask(session, "?") == "T05thread:1;")
    #expect(ask(session, "Hg2") == "OK")
    #expect(ask(session, "qC") == "QC2")
    #expect(ask(session, "Hg3") == "E16")
    #expect(ask(session, "T2") == "OK")
    #expect(ask(session, "T3") == "E01")
    // The description comes in parts, and names what the packets have.
    var description = ""
    while true {
      let part = ask(
        session,
        "qXfer:features:read:target.xml:\(String(description.utf8.count, radix: 16)),200")
      description += part.dropFirst()
      if part.hasPrefix("l") { break }
      #expect(part.hasPrefix("m"))
      guard part.hasPrefix("m"), part.count > 1 else { break }
    }
    #expect(description.hasSuffix("</target>\n"))
    let registers = description.occurrences(of: "<reg ")
    #expect(registers == 16 + 2 + 6 + 8 + 8 + 16 + 1 + 2 + 1 + 5 + 1 + 3)
  }

  @Test func registersAreReadAndWritten() {
    let target = FakeTarget()
    let session = GDBSession(target)
    let all = ask(session, "g")
    // RAX, RBX: the encoding's third.
    #expect(all.hasPrefix("00001111000000000300111100000000"))
    #expect(ask(session, "p10") == "00000081ffffffff")
    #expect(ask(session, "P0=efbeadde00000000") == "OK")
    #expect(target.states[0].generalRegisters[0] == 0xDEAD_BEEF)
    #expect(ask(session, "P10=0000000000000000") == "OK")
    #expect(target.states[0].instructionPointer == 0)
    // Selectors and CR0 decide on more than themselves.
    #expect(ask(session, "P12=08000000") == "E01")
    #expect(ask(session, "p12") == "00f00000")
    #expect(ask(session, "P0=00") == "E01")
    #expect(ask(session, "pff") == "E16")
    #expect(ask(session, "G00") == "E16")
    let changed = "1" + ask(session, "g").dropFirst()
    #expect(ask(session, "G" + changed) == "OK")
    #expect(ask(session, "g") == changed)
    #expect(ask(session, "Hg2") == "OK")
    #expect(ask(session, "p10") == "01000081ffffffff")
  }

  @Test func memoryIsReadAndWritten() {
    let target = FakeTarget()
    let session = GDBSession(target)
    for offset in 0..<16 as Range<UInt64> { target.memory[0x1000 + offset] = UInt8(offset) }
    #expect(ask(session, "m1000,4") == "00010203")
    #expect(ask(session, "m100e,8") == "0e0f")
    #expect(ask(session, "m2000,4") == "E0e")
    #expect(ask(session, "m1000,0") == "")
    #expect(ask(session, "m1000") == "E16")
    #expect(ask(session, "mffffffffffffffff,ffffffffffffffff") == "E0e")
    #expect(ask(session, "M1000,2:a5a6") == "OK")
    #expect(target.memory[0x1001] == 0xA6)
    #expect(ask(session, "M1000,2:a5") == "E16")
    #expect(ask(session, "M2000,1:a5") == "E0e")
    let binary = session.handle(Array("X1002,2:".utf8) + [0x2C, 0x3A])
    #expect(binary == GDBSession.Answer("OK"))
    #expect(target.memory[0x1003] == 0x3A)
    #expect(ask(session, "X1000,0:") == "OK")
  }

  @Test func breakpointsGoWithTheNextRun() {
    let target = FakeTarget()
    let session = GDBSession(target)
    _ = ask(session, "qSupported:swbreak+")
    #expect(ask(session, "Z0,ffffffff81000100,1") == "OK")
    #expect(ask(session, "Z0,ffffffff81000100,1") == "OK")
    #expect(ask(session, "Z1,2000,1") == "OK")
    #expect(ask(session, "Z2,3000,8") == "OK")
    #expect(ask(session, "Z4,4000,4") == "OK")
    #expect(ask(session, "Z3,5000,4") == "E1c")
    #expect(ask(session, "Z2,5000,0") == "E16")
    #expect(ask(session, "Z9,5000,4") == "")
    #expect(ask(session, "vCont;c") == "")
    #expect(session.isRunning)
    #expect(target.runs.last?.breakpoints == [0x2000, 0xFFFF_FFFF_8100_0100])
    #expect(target.runs.last?.run == DebugRun())
    let watched = target.runs.last?.watchpoints
    #expect(
      watched == [
        Watchpoint(address: 0x3000, count: 8, kind: .write),
        Watchpoint(address: 0x4000, count: 4, kind: .access),
      ])
    #expect(session.poll() == nil)
    func stopped(_ reason: DebugStop.Reason, _ address: UInt64, by processor: Int) -> String {
      target.firstStop = MachineStop(
        processor: processor, stop: DebugStop(reason: reason, address: address))
      let text = session.poll()?.packets.map { String(decoding: $0, as: UTF8.self) }
      _ = session.handle(Array("vCont;c".utf8))
      return text?.joined() ?? "nothing"
    }
    let before = target.stops
    #expect(
      stopped(.breakpoint, 0xFFFF_FFFF_8100_0100, by: 1) == "T05swbreak:;thread:2;")
    #expect(target.stops == before + 1)
    #expect(stopped(.breakpoint, 0x2000, by: 0) == "T05hwbreak:;thread:1;")
    #expect(stopped(.watchpoint(0x4000), 7, by: 0) == "T05awatch:4000;thread:1;")
    #expect(stopped(.watchpoint(0x3000), 7, by: 0) == "T05watch:3000;thread:1;")
    #expect(stopped(.step, 7, by: 0) == "T05thread:1;")
    _ = session.interrupt()
    #expect(ask(session, "z0,ffffffff81000100,1") == "OK")
    #expect(ask(session, "z2,3000,8") == "OK")
    _ = ask(session, "c")
    #expect(target.runs.last?.breakpoints == [0x2000])
    #expect(target.runs.last?.watchpoints.count == 1)
  }

  @Test func processorsStepAndRestAsTheyAreTold() {
    let target = FakeTarget()
    let session = GDBSession(target)
    func run(_ text: String) -> DebugRun? {
      let answer = ask(session, text)
      defer { _ = session.interrupt() }
      return answer.isEmpty ? target.runs.last?.run : nil
    }
    let onlySecond = run("vCont;s:2")
    #expect(onlySecond?.stepping == [1: 0..<0])
    #expect(onlySecond?.resting == [0])
    let both = run("vCont;s:1;c")
    #expect(both?.stepping == [0: 0..<0])
    #expect(both?.resting == [])
    let range = run("vCont;r1000,1010:1;c:-1")
    #expect(range?.stepping == [0: 0x1000..<0x1010])
    #expect(run("vCont;r1010,1000:1") == nil)
    #expect(run("vCont;s:3") == nil)
    #expect(run("vCont;") == nil)
    #expect(run("vCont;t") == nil)
    _ = ask(session, "Hc2")
    #expect(run("s")?.stepping == [1: 0..<0])
    #expect(run("s1234")?.resting == [0])
    #expect(run("C05")?.stepping == [:])
  }

  @Test func whoInterruptsOrLeavesIsHeard() {
    let target = FakeTarget()
    let session = GDBSession(target)
    #expect(session.interrupt() == nil)
    _ = ask(session, "c")
    #expect(ask(session, "g") == "E16")
    let interrupted = session.interrupt()
    #expect(interrupted == GDBSession.Answer("T02thread:1;"))
    _ = ask(session, "c")
    target.failure = "too many"
    let told = session.poll()?.packets.map { String(decoding: $0, as: UTF8.self) } ?? []
    #expect(told.count == 2)
    #expect(told.first == "O746f6f206d616e790a")
    target.failure = nil
    _ = ask(session, "c")
    target.hasEnded = true
    let end = session.poll()
    #expect(end?.ends == true)
    #expect(end?.packets == [Array("W00".utf8)])
    let leaving = GDBSession(target)
    let answer = leaving.handle(Array("D".utf8))
    #expect(answer.ends)
    #expect(answer.packets == [Array("OK".utf8)])
    #expect(target.isDetached)
  }

  @Test func monitorDumpShowsTheProcessor() {
    let session = GDBSession(FakeTarget())
    let text = ask(session, "qRcmd," + "dump".utf8.map { String($0, radix: 16) }.joined())
    #expect(text.hasPrefix("O") && text.hasSuffix("|OK"))
    #expect(ask(session, "qRcmd,6") == "E16")
  }
}

extension String {
  /// How often a text is in this one.
  fileprivate func occurrences(of text: String) -> Int {
    let (all, wanted) = (Array(utf8), Array(text.utf8))
    guard all.count >= wanted.count else { return 0 }
    return (0...all.count - wanted.count).filter {
      all[$0..<$0 + wanted.count].elementsEqual(wanted)
    }.count
  }
}
