import DeviceFuzzing
import Devices
import Foundation
import Synchronization
import Testing

private typealias Pair = ProgrammableInterruptController

extension ProgrammableInterruptController {
  /// A PC's initialization: vectors 0x20 and 0x28, edges, all inputs open.
  fileprivate static func initialized(icw4: UInt8 = 1, icw1: UInt8 = 0x11) -> Self {
    var pair = Self()
    for (base, vector, wiring) in [(UInt64(0), UInt8(0x20), UInt8(4)), (0x80, 0x28, 2)] {
      pair.write(at: base, value: icw1)
      pair.write(at: base + 1, value: vector)
      pair.write(at: base + 1, value: wiring)
      pair.write(at: base + 1, value: icw4)
    }
    return pair
  }
  fileprivate mutating func pulse(_ input: Int) {
    setInput(input, true)
    setInput(input, false)
  }
  fileprivate mutating func serviced(_ base: UInt64 = 0) -> UInt8 {
    write(at: base, value: 0x0B)
    return read(at: base)
  }
  fileprivate mutating func requested(_ base: UInt64 = 0) -> UInt8 {
    write(at: base, value: 0x0A)
    return read(at: base)
  }
}

/// Intel 8259A data sheet, 231468-003.
@Suite struct InterruptsControllerTests {
  @Test func fixedPriorityAndEnd() {
    var pair = Pair.initialized()
    #expect(!pair.output)
    pair.pulse(4)
    pair.pulse(1)
    #expect(pair.output)
    #expect(pair.acknowledge() == 0x21)
    #expect(!pair.output, "4 waits for 1")
    pair.pulse(0)
    #expect(pair.acknowledge() == 0x20, "a higher input nests")
    #expect(pair.serviced() == 0x03)
    pair.write(at: 0, value: 0x20)
    #expect(pair.serviced() == 0x02, "a non-specific end is for the highest")
    pair.write(at: 0, value: 0x61)
    #expect(pair.output && pair.acknowledge() == 0x24)
    pair.write(at: 0, value: 0x20)
    #expect(pair.serviced() == 0 && !pair.output)
  }

  @Test func maskHoldsRequestsBack() {
    var pair = Pair.initialized()
    pair.write(at: 1, value: 0x10)
    pair.pulse(4)
    #expect(!pair.output && pair.requested() == 0x10)
    pair.write(at: 1, value: 0)
    #expect(pair.output && pair.read(at: 1) == 0)
  }

  @Test func slaveGoesThroughInput2() {
    var pair = Pair.initialized()
    pair.pulse(12)
    pair.pulse(3)
    #expect(pair.acknowledge() == 0x2C, "input 2 is above input 3")
    #expect(pair.serviced() == 0x04 && pair.serviced(0x80) == 0x10)
    pair.pulse(9)
    #expect(!pair.output, "not fully nested: the slave waits for the end on the master")
    pair.write(at: 0, value: 0x20)
    #expect(pair.output && pair.acknowledge() == 0x29)
    pair.write(at: 0x80, value: 0x20)
    pair.write(at: 0, value: 0x20)
    #expect(pair.acknowledge() == 0x23)
  }

  @Test func specialFullyNestedLetsTheSlaveNest() {
    var pair = Pair.initialized(icw4: 0x11)
    pair.pulse(12)
    #expect(pair.acknowledge() == 0x2C)
    pair.pulse(9)
    #expect(pair.output && pair.acknowledge() == 0x29)
  }

  @Test func rotation() {
    var pair = Pair.initialized()
    pair.pulse(3)
    #expect(pair.acknowledge() == 0x23)
    pair.write(at: 0, value: 0xA0)
    pair.pulse(3)
    pair.pulse(4)
    #expect(pair.acknowledge() == 0x24, "3 is now the lowest")
    pair.write(at: 0, value: 0x20)
    pair.write(at: 0, value: 0xC0 | 5)
    pair.pulse(5)
    pair.pulse(6)
    pair.pulse(0)
    #expect(pair.acknowledge() == 0x26, "set priority makes 6 the highest")
    pair.write(at: 0, value: 0xE0 | 6)
    #expect(pair.acknowledge() == 0x20, "7, then 0")
  }

  @Test func automaticEnd() {
    var pair = Pair.initialized(icw4: 3)
    pair.pulse(4)
    #expect(pair.acknowledge() == 0x24 && pair.serviced() == 0)
    pair.write(at: 0, value: 0x80)
    pair.pulse(4)
    #expect(pair.acknowledge() == 0x24)
    pair.pulse(4)
    pair.pulse(5)
    #expect(pair.acknowledge() == 0x25, "rotates in automatic end mode")
  }

  @Test func specialMaskMode() {
    var pair = Pair.initialized()
    pair.pulse(1)
    #expect(pair.acknowledge() == 0x21)
    pair.pulse(4)
    #expect(!pair.output)
    pair.write(at: 1, value: 0x02)
    pair.write(at: 0, value: 0x68)
    #expect(
      pair.output && pair.acknowledge() == 0x24, "a masked input in service holds nobody back")
    pair.write(at: 0, value: 0x48)
    pair.pulse(5)
    #expect(!pair.output)
  }

  @Test func levelTriggeredFollowsItsLine() {
    var pair = Pair.initialized()
    pair.write(at: 0x4B0, value: 0xFF)
    pair.write(at: 0x4B1, value: 0xFF)
    #expect(pair.read(at: 0x4B0) == 0xF8 && pair.read(at: 0x4B1) == 0xDE)
    pair.write(at: 0x4B0, value: 0)
    pair.write(at: 0x4B1, value: 0x0C)
    pair.setInput(10, true)
    #expect(pair.acknowledge() == 0x2A)
    pair.write(at: 0x80, value: 0x20)
    pair.write(at: 0, value: 0x20)
    #expect(pair.output, "still up: again")
    #expect(pair.acknowledge() == 0x2A)
    pair.setInput(10, false)
    pair.write(at: 0x80, value: 0x20)
    pair.write(at: 0, value: 0x20)
    #expect(!pair.output)
  }

  @Test func spuriousInterruptsLeaveNoTrace() {
    var pair = Pair.initialized()
    pair.write(at: 0x4B0, value: 0x20)
    pair.write(at: 0x4B1, value: 0x08)
    pair.setInput(5, true)
    pair.setInput(5, false)
    #expect(pair.acknowledge() == 0x27 && pair.serviced() == 0)
    pair.setInput(11, true)
    pair.setInput(11, false)
    #expect(pair.acknowledge() == 0x2F)
    #expect(pair.serviced() == 0x04 && pair.serviced(0x80) == 0, "only the master is in service")
  }

  @Test func pollCommandAcknowledges() {
    var pair = Pair.initialized()
    pair.write(at: 0, value: 0x0C)
    #expect(pair.read(at: 0) == 0)
    pair.pulse(6)
    pair.write(at: 0, value: 0x0C)
    #expect(pair.read(at: 0) == 0x86)
    #expect(pair.serviced() == 0x40)
  }

  @Test func initializationForgetsEdges() {
    var pair = Pair.initialized()
    pair.setInput(4, true)
    pair = {
      var again = pair
      again.write(at: 0, value: 0x13)
      again.write(at: 1, value: 0x40)
      again.write(at: 1, value: 0x01)
      return again
    }()
    #expect(!pair.output, "an edge must come again")
    pair.setInput(4, false)
    pair.setInput(4, true)
    #expect(pair.acknowledge() == 0x44, "single mode has no ICW3")
  }

  @Test func timerEdgesAreNotLost() {
    var pair = Pair.initialized()
    for _ in 0..<5 { pair.pulse(0) }
    for _ in 0..<5 {
      #expect(pair.output && pair.acknowledge() == 0x20)
      pair.write(at: 0, value: 0x20)
    }
    #expect(!pair.output)
    pair.write(at: 1, value: 1)
    for _ in 0..<5 { pair.pulse(0) }
    pair.write(at: 1, value: 0)
    #expect(pair.acknowledge() == 0x20)
    pair.write(at: 0, value: 0x20)
    #expect(!pair.output, "a masked timer owes one at most")
    for _ in 0..<5 { pair.pulse(0) }
    pair.write(at: 1, value: 1)
    pair.write(at: 1, value: 0)
    #expect(pair.acknowledge() == 0x20)
    pair.write(at: 0, value: 0x20)
    #expect(!pair.output, "masking forgives what was owed")
    for _ in 0..<5000 { pair.pulse(0) }
    var count = 0
    while pair.output {
      _ = pair.acknowledge()
      pair.write(at: 0, value: 0x20)
      count += 1
    }
    #expect(count == Pair.edgeLimit + 1)
  }
}

private final class Processors: Sendable {
  struct Seen {
    var messages: [MessageInterrupt] = []
    var requests: [Bool] = []
    var changed: [Int] = []
    var accepts = true
  }
  let seen = Mutex(Seen())
  var vectors: [UInt8] {
    seen.withLock { $0.messages.map { UInt8(truncatingIfNeeded: $0.data) } }
  }
  func router() -> InterruptRouter {
    InterruptRouter(
      .init(
        interruptRequest: { level in self.seen.withLock { $0.requests.append(level) } },
        deliver: { message in
          self.seen.withLock {
            $0.messages.append(message)
            return $0.accepts
          }
        }, redirectionChanged: { pin, _ in self.seen.withLock { $0.changed.append(pin) } }))
  }
}

/// Intel 82093AA data sheet, 290566-001.
@Suite struct InterruptsRouterTests {
  private let processors = Processors()
  private let router: InterruptRouter
  private let window: any BusDevice

  init() {
    router = processors.router()
    window = router.memoryDevice
  }

  private func set(_ register: UInt64, _ value: UInt64) {
    window.write(at: 0, width: .doubleword, value: register)
    window.write(at: 0x10, width: .doubleword, value: value)
  }

  private func get(_ register: UInt64) -> UInt64 {
    window.write(at: 0, width: .doubleword, value: register)
    return window.read(at: 0x10, width: .doubleword)
  }

  @Test func registers() {
    #expect(get(1) == 0x0017_0020)
    set(0, 0xFFFF_FFFF)
    #expect(get(0) == 0x0F00_0000 && get(2) == 0x0F00_0000)
    #expect(get(0x10) == 0x1_0000 && get(0x3F) == 0)
    set(0x3E, 0xFFFF_FFFF)
    #expect(get(0x3E) == 0x1_AFFF, "status and remote IRR are read-only")
    set(0x3F, 0xFFFF_FFFF)
    #expect(get(0x3F) == 0xFF00_0000)
    #expect(get(0x40) == 0 && get(0xFF) == 0)
    #expect(processors.seen.withLock { $0.changed } == [23, 23])
  }

  @Test func edgesBecomeMessages() {
    set(0x11 + 8, 0x0300_0000)
    set(0x10 + 8, 0x0831)  // pin 4: vector 0x31, logical destination 3
    router.setLine(4, asserted: true)
    router.setLine(4, asserted: true)
    router.setLine(4, asserted: false)
    router.setLine(4, asserted: true)
    let expected = MessageInterrupt(address: 0xFEE0_3004, data: 0x31)
    #expect(processors.seen.withLock { $0.messages } == [expected, expected])
    set(0x10 + 8, 0x1_0831)
    router.setLine(4, asserted: false)
    router.setLine(4, asserted: true)
    set(0x10 + 8, 0x0831)
    #expect(processors.vectors.count == 2, "an edge on a masked pin is lost")
  }

  @Test func levelsAreDeliveredAgainAfterTheirEnd() {
    set(0x10 + 2 * 10, 0xA040)  // pin 10: level, active low, vector 0x40
    router.setLine(10, asserted: true)
    #expect(processors.vectors == [0x40])
    #expect(processors.seen.withLock { $0.messages[0].data } == 0xC040)
    #expect(get(0x10 + 20) & 0x4000 != 0, "remote IRR")
    router.setLine(10, asserted: false)
    router.setLine(10, asserted: true)
    #expect(processors.vectors.count == 1)
    router.endOfInterrupt(.init(0x41))
    #expect(processors.vectors.count == 1)
    router.endOfInterrupt(.init(0x40))
    #expect(processors.vectors.count == 2)
    router.setLine(10, asserted: false)
    window.write(at: 0x40, width: .doubleword, value: 0x40)
    #expect(processors.vectors.count == 2 && get(0x10 + 20) & 0x4000 == 0)
    set(0x10 + 20, 0x1_A040)
    router.setLine(10, asserted: true)
    #expect(processors.vectors.count == 2)
    set(0x10 + 20, 0xA040)
    #expect(processors.vectors.count == 3, "unmasking finds the level")
    set(0x10 + 20, 0x2040)
    #expect(get(0x10 + 20) & 0x4000 == 0, "edge mode clears the remote IRR")
  }

  @Test func timerIsPin2AndItsRefusedEdgesAreSentAgain() {
    set(0x10 + 4, 0x30)
    processors.seen.withLock { $0.accepts = false }
    for _ in 0..<3 {
      router.setLine(0, asserted: true)
      router.setLine(0, asserted: false)
    }
    #expect(processors.vectors == [0x30, 0x30, 0x30])
    processors.seen.withLock { $0.accepts = true }
    for _ in 0..<5 { router.endOfInterrupt(.init(0x30)) }
    #expect(processors.vectors.count == 6, "three refused, three sent again, no more")
  }

  @Test func pinsBeyondIsaAndUnknownLines() {
    set(0x10 + 2 * 20, 0x55)
    router.setLine(20, asserted: true)
    for line: UInt32 in [2, 24, 99, .max] { router.setLine(line, asserted: true) }
    #expect(processors.vectors == [0x55])
    router.deliver(MessageInterrupt(address: 0xFEE0_0000, data: 0x77))
    #expect(processors.vectors == [0x55, 0x77])
  }

  @Test func interruptRequestFollowsThe8259() {
    let ports = router.portDevice
    for (offset, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1)] as [(UInt64, UInt8)] {
      ports.write8(offset, value)
    }
    #expect(processors.seen.withLock { $0.requests } == [])
    router.setLine(1, asserted: true)
    #expect(router.isInterruptRequested)
    #expect(router.acknowledge().rawValue == 0x21)
    #expect(processors.seen.withLock { $0.requests } == [true, false])
    set(0x10, 0x700)  // pin 0: ExtINT
    ports.write8(0, 0x20)
    router.setLine(3, asserted: true)
    #expect(processors.seen.withLock { $0.messages.last?.data } == 0x700)
  }

  @Test func legacyReplacementCutsOffTheTimer() {
    set(0x10 + 4, 0x30)
    set(0x10 + 16, 0x38)
    router.setLine(InterruptRouter.Line.replacedTimer, asserted: true)
    #expect(processors.vectors == [])
    router.setLine(InterruptRouter.Line.replacedTimer, asserted: false)
    router.setLine(InterruptRouter.Line.legacyReplacement, asserted: true)
    router.setLine(0, asserted: true)
    router.setLine(8, asserted: true)
    #expect(processors.vectors == [])
    router.setLine(InterruptRouter.Line.replacedTimer, asserted: true)
    router.setLine(InterruptRouter.Line.replacedClock, asserted: true)
    #expect(processors.vectors == [0x30, 0x38])
  }

  /// Random lines, accesses and ends; a router restored from a snapshot must go on the same.
  @Test func fuzzed() throws {
    var random = SeededGenerator(seed: 5)
    let ports = router.portDevice
    let other = Processors()
    let twin = other.router()
    let (twinPorts, twinWindow) = (twin.portDevice, twin.memoryDevice)
    var restored = false
    for index in 0..<100_000 {
      if index % 10_000 == 5000 {
        let data = try JSONEncoder().encode(router.saveState())
        let state = try JSONDecoder().decode(InterruptRouter.State.self, from: data)
        router.restoreState(state)
        twin.restoreState(state)
        for side in [processors, other] {
          side.seen.withLock {
            $0.messages = []
            $0.requests = []
          }
        }
        restored = true
      }
      let width = AccessWidth.allCases.randomElement(using: &random)!
      let value = random.next() & width.mask
      let port = [0, 1, 0x80, 0x81, 0x4B0, 0x4B1, random.next()].randomElement(using: &random)!
      let offset = [0, 0x10, 0x10, 0x40, random.next() % 0x1000].randomElement(using: &random)!
      let action = random.next() % 8
      func act(_ router: InterruptRouter, _ ports: any BusDevice, _ window: any BusDevice) -> UInt64
      {
        switch action {
        case 0: return ports.read(at: port, width: width)
        case 1: ports.write(at: port, width: width, value: value)
        case 2: return window.read(at: offset, width: width)
        case 3: window.write(at: offset, width: width, value: value)
        case 4: return UInt64(router.acknowledge().rawValue)
        case 5: router.endOfInterrupt(.init(UInt8(truncatingIfNeeded: value)))
        default: router.setLine(UInt32(value % 28), asserted: value >> 7 & 1 != 0)
        }
        return 0
      }
      let first = act(router, ports, window)
      if restored {
        try #require(first == act(twin, twinPorts, twinWindow), "access \(index)")
      }
    }
    #expect(processors.vectors == other.vectors)
    #expect(router.saveState() == twin.saveState())
  }
}
