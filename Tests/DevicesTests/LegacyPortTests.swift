import Devices
import Synchronization
import Testing

final class Calls<Value: Sendable>: Sendable {
  private let list = Mutex<[Value]>([])
  var all: [Value] { list.withLock { $0 } }
  func add(_ value: Value) { list.withLock { $0.append(value) } }
}

@Suite struct LegacyPortTests {
  @Test func debugConsoleDeliversLines() {
    let host = ByteRecorder()
    let console = DebugConsole(backend: host)
    #expect(console.read8(0) == 0xE9)
    for byte in "SeaBIOS\nab".utf8 { console.write8(0, byte) }
    #expect(host.bytes == Array("SeaBIOS\n".utf8) && host.batches == 1)
    console.flush()
    #expect(host.bytes == Array("SeaBIOS\nab".utf8))
    for _ in 0..<DebugConsole.lineLimit { console.write8(0, 0x2E) }
    #expect(host.batches == 3, "a line without end is cut")
  }

  @Test func postCodeAndExit() {
    let code = PostCodePort()
    code.write(at: 0, width: .word, value: 0x1234)
    #expect(code.lastCode == 0x34 && code.read8(0) == 0x34)
    let exits = Calls<UInt8>()
    let exit = DebugExitPort { exits.add($0) }
    exit.write8(0, 0x10)
    exit.write(at: 0, width: .doubleword, value: 0xFFFF_FFFF)
    #expect(exits.all == [0x21, 0xFF])
    #expect(exit.read8(0) == 0xFF)
  }

  @Test func fastResetAndAddressLine20() {
    let calls = Calls<BoardRequests>()
    let port = ChipDevice(SystemControlPort(), clock: HandClock()) { calls.add($0) }
    #expect(port.read8(0) == 2)
    port.write8(0, 0)
    port.write8(0, 2)
    port.write8(0, 3)
    port.write8(0, 3)
    #expect(calls.all == [.disableAddressLine20, .enableAddressLine20, .reset])
  }

  @Test func nonMaskableInterruptStatus() {
    let clock = HandClock()
    let gates = Calls<Bool>()
    let output = Atomic(false)
    let port = SystemControlPortB(clock: clock) {
      gates.add($0)
    } output: {
      output.load(ordering: .relaxed)
    }
    port.write8(0, 0xFF)
    #expect(port.read8(0) & 0xEF == 0x0F)
    output.store(true, ordering: .relaxed)
    #expect(port.read8(0) & 0x20 == 0x20)
    #expect(!port.reportSystemError() && !port.reportChannelCheck())
    port.write8(0, 0x00)
    #expect(gates.all == [true, false])
    #expect(port.reportSystemError() && port.reportChannelCheck())
    #expect(port.read8(0) & 0xC0 == 0xC0)
    port.write8(0, 0x08)
    #expect(port.read8(0) & 0xC0 == 0x80)
    let first = port.read8(0) & 0x10
    clock.advance(nanoseconds: SystemControlPortB.refreshPeriod)
    #expect(port.read8(0) & 0x10 != first)
  }

  @Test func queueIsBoundedAndKeepsItsOrder() {
    var queue = BoundedQueue<UInt8>(capacity: 3)
    #expect((1...4).map { queue.append($0) } == [true, true, true, false])
    #expect(queue.popFirst() == 1 && queue.append(5) && queue.isFull)
    #expect((0..<4).map { queue[$0] } == [2, 3, 5, 0])
    #expect(BoundedQueue(capacity: 2, contentsOf: queue).count == 2)
    #expect(
      [queue.popFirst(), queue.popFirst(), queue.popFirst(), queue.popFirst()] == [2, 3, 5, nil])
  }
}
