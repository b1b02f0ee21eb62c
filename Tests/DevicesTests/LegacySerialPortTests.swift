import DeviceFuzzing
import Devices
import Foundation
import Testing

private typealias Register = UART16550.Register

/// PC16550D data sheet, section 8, and what Linux's 8250 driver does with it.
@Suite struct LegacySerialPortTests {
  let clock = HandClock()
  let lines = LineRecorder()
  let host = ByteRecorder()
  let port: SerialPort

  init() {
    port = SerialPort(line: InterruptLine(4, of: lines), clock: clock, backend: host)
  }

  @Test func resetValues() {
    #expect(port.read8(Register.interruptIdentification) == 0x01)
    #expect(port.read8(Register.lineStatus) == 0x60)
    #expect(port.read8(Register.modemStatus) == 0xB0)
    #expect(port.read8(Register.interruptEnable) == 0)
    #expect(port.read(at: 8, width: .byte) & 0xFF == 0xFF)
  }

  @Test func scratchAndReservedBits() {
    port.write8(Register.scratch, 0xA5)
    #expect(port.read8(Register.scratch) == 0xA5)
    port.write8(Register.interruptEnable, 0xFF)
    #expect(port.read8(Register.interruptEnable) == 0x0F)
    port.write8(Register.modemControl, 0xFF)
    #expect(port.read8(Register.modemControl) == 0x1F)
  }

  @Test func divisorLatchHidesDataAndEnable() {
    port.write8(Register.lineControl, 0x83)
    port.write8(Register.data, 0x34)
    port.write8(Register.interruptEnable, 0x12)
    #expect(port.read8(Register.data) == 0x34)
    #expect(port.read8(Register.interruptEnable) == 0x12)
    port.write8(Register.lineControl, 0x03)
    #expect(port.read8(Register.interruptEnable) == 0)
    port.flush()
    #expect(host.bytes.isEmpty)
  }

  /// Linux autoconfig: IER holds 4 bits, loopback maps outputs to inputs, FCR shows a 16550A.
  @Test func linuxAutoconfiguration() {
    port.write8(Register.interruptEnable, 0)
    #expect(port.read8(Register.interruptEnable) & 0x0F == 0)
    port.write8(Register.interruptEnable, 0x0F)
    #expect(port.read8(Register.interruptEnable) & 0x0F == 0x0F)
    port.write8(Register.interruptEnable, 0)
    port.write8(Register.modemControl, 0x10 | 0x0A)
    #expect(port.read8(Register.modemStatus) & 0xF0 == 0x90)
    port.write8(Register.modemControl, 0x08)
    port.write8(Register.interruptIdentification, 0x01)
    #expect(port.read8(Register.interruptIdentification) >> 6 == 3)
    port.write8(Register.lineControl, 0x80)
    #expect(port.read8(Register.interruptIdentification) != 0)
    port.write8(Register.lineControl, 0x03)
  }

  /// The start-up test for a missing THRE interrupt: enabling ETBEI again must raise it again.
  @Test func transmitterInterruptRearms() {
    port.write8(Register.interruptEnable, 0x02)
    #expect(lines.level(4))
    #expect(port.read8(Register.interruptIdentification) == 0x02)
    #expect(!lines.level(4))
    #expect(port.read8(Register.interruptIdentification) == 0x01)
    port.write8(Register.interruptEnable, 0)
    port.write8(Register.interruptEnable, 0x02)
    #expect(port.read8(Register.interruptIdentification) == 0x02)
    port.write8(Register.data, 0x41)
    #expect(lines.level(4))
    #expect(port.read8(Register.interruptIdentification) == 0x02)
  }

  /// A driver that does not read IIR between two bytes still gets an edge for each.
  @Test func everyTransmittedByteMakesAnEdge() {
    port.write8(Register.interruptEnable, 0x02)
    let before = lines.rises(4)
    for _ in 0..<5 { port.write8(Register.data, 0x41) }
    #expect(lines.rises(4) == before + 5)
  }

  @Test func output2GatesTheLine() {
    port.write8(Register.modemControl, 0)
    port.write8(Register.interruptEnable, 0x02)
    #expect(!lines.level(4))
    port.write8(Register.modemControl, 0x08)
    #expect(lines.level(4))
    port.write8(Register.modemControl, 0x18)
    #expect(!lines.level(4))
  }

  @Test(arguments: [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
  func triggerLevels(bits: Int, level: Int) {
    port.write8(Register.interruptIdentification, UInt8(bits) | 1)
    port.write8(Register.interruptEnable, 0x01)
    for index in 0..<(level - 1) { #expect(port.offer([UInt8(index)]) == 1) }
    #expect(!lines.level(4))
    #expect(port.offer([0x55]) == 1)
    #expect(lines.level(4))
    #expect(port.read8(Register.interruptIdentification) == 0xC4)
    _ = port.read8(Register.data)
    #expect(port.read8(Register.interruptIdentification) == 0xC1)
  }

  @Test func receiveTimeoutAfterFourCharacters() {
    port.write8(Register.lineControl, 0x83)
    port.write8(Register.data, 1)  // 115200 baud
    port.write8(Register.interruptEnable, 0)
    port.write8(Register.lineControl, 0x03)
    port.write8(Register.interruptIdentification, 0xC1)
    port.write8(Register.interruptEnable, 0x01)
    #expect(port.offer([1, 2]) == 2)
    let character: UInt64 = 10 * 1_000_000_000 / 115_200
    clock.advance(nanoseconds: 4 * character - 1000)
    #expect(!lines.level(4))
    clock.advance(nanoseconds: 2000)
    #expect(lines.level(4))
    #expect(port.read8(Register.interruptIdentification) == 0xCC)
    #expect(port.read8(Register.data) == 1)
    #expect(!lines.level(4), "reading a byte starts the time-out again")
    clock.advance(nanoseconds: 5 * character)
    #expect(port.read8(Register.interruptIdentification) == 0xCC)
    #expect(port.read8(Register.data) == 2)
    #expect(port.read8(Register.interruptIdentification) == 0xC1)
    #expect(!clock.hasDeadline)
  }

  @Test func prioritiesOfCauses() {
    port.write8(Register.interruptIdentification, 0x01)
    port.write8(Register.interruptEnable, 0x0F)
    port.setModemInputs([.clearToSend])
    port.sendBreak()
    #expect(port.read8(Register.interruptIdentification) == 0xC6)
    let status = port.read8(Register.lineStatus)
    #expect(status & 0x99 == 0x99, "break, framing, data ready and error in FIFO")
    #expect(port.read8(Register.lineStatus) == 0x61)
    #expect(port.read8(Register.interruptIdentification) == 0xC4)
    #expect(port.read8(Register.data) == 0)
    #expect(port.read8(Register.interruptIdentification) == 0xC2)
    #expect(port.read8(Register.interruptIdentification) == 0xC0)
    #expect(port.read8(Register.modemStatus) == 0x1A)
    #expect(port.read8(Register.interruptIdentification) == 0xC1)
  }

  /// An error is reported when its byte comes to the top of the FIFO, not before.
  @Test func breakWaitsForItsTurn() {
    port.write8(Register.interruptIdentification, 0x01)
    #expect(port.offer([0x41]) == 1)
    port.sendBreak()
    #expect(port.offer([0x42]) == 1)
    #expect(port.read8(Register.lineStatus) == 0xE1)
    #expect(port.read8(Register.data) == 0x41)
    #expect(port.read8(Register.lineStatus) == 0xF9)
    #expect(port.read8(Register.data) == 0)
    #expect(port.read8(Register.lineStatus) == 0x61)
    #expect(port.read8(Register.data) == 0x42)
    #expect(port.read8(Register.lineStatus) == 0x60)
  }

  @Test func loopbackCarriesDataAndOverruns() {
    var uart = UART16550()
    uart.write8(Register.modemControl, 0x10)
    uart.write8(Register.data, 0x5A)
    #expect(uart.takeTransmitted() == nil)
    #expect(uart.read8(Register.lineStatus) & 1 == 1)
    #expect(uart.read8(Register.data) == 0x5A)
    uart.write8(Register.data, 1)
    uart.write8(Register.data, 2)
    #expect(uart.read8(Register.lineStatus) & 2 == 2)
    #expect(uart.read8(Register.data) == 2, "without FIFOs the new byte replaces the old")
    uart.write8(Register.interruptIdentification, 1)
    for value in 0..<UInt8(20) { uart.write8(Register.data, value) }
    #expect(uart.read8(Register.lineStatus) & 2 == 2)
    for value in 0..<UInt8(16) { #expect(uart.read8(Register.data) == value) }
    #expect(uart.read8(Register.lineStatus) & 1 == 0)
    uart.write8(Register.lineControl, 0x43)
    #expect(uart.read8(Register.lineStatus) & 0x10 == 0x10, "break loops back")
  }

  @Test func hostInputIsBoundedAndNothingIsLost() {
    let input = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
    var taken = port.offer(input)
    #expect(taken == SerialPort.pendingLimit)
    #expect(port.offer([1]) == 1, "one byte went to the receiver")
    #expect(port.offer([1]) == 0)
    var output: [UInt8] = []
    while port.read8(Register.lineStatus) & 1 != 0 {
      output.append(port.read8(Register.data))
      if host.invitations == 1 && taken < input.count {
        taken += port.offer(Array(input[taken...]))
      }
    }
    #expect(host.invitations == 1)
    #expect(taken == 5000)
    #expect(output.count == 5001)
    #expect(Array(output[0..<4096]) == Array(input[0..<4096]))
    #expect(Array(output[4097...]) == Array(input[4096...]))
  }

  @Test func batchesGoOutByCountAndByTime() {
    for value in 0..<UInt8(64) { port.write8(Register.data, value) }
    #expect(host.bytes.count == 64 && host.batches == 1)
    port.write8(Register.data, 64)
    #expect(host.bytes.count == 64)
    clock.advance(nanoseconds: SerialPort.batchDelay + 1)
    #expect(host.bytes == Array(0...64))
    port.write8(Register.data, 65)
    clock.advance(nanoseconds: SerialPort.batchDelay + 1)
    #expect(host.bytes == Array(0...65))
    #expect(!clock.hasDeadline)
  }

  /// A terminal answers a query from inside the delivery: must not deadlock.
  @Test func backendMayAnswerFromInside() {
    host.onBatch = { [port] in #expect(port.offer([0x1B]) == 1) }
    port.write8(Register.data, 5)
    port.flush()
    #expect(port.read8(Register.data) == 0x1B)
  }

  @Test func rateLimitHoldsBackTheTransmitter() {
    port.limitRate(bytesPerSecond: 1000)
    port.write8(Register.interruptEnable, 0x02)
    var sent = 0
    while port.read8(Register.lineStatus) & 0x20 != 0 && sent < 10_000 {
      port.write8(Register.data, 0x2E)
      sent += 1
    }
    #expect((4096...4098).contains(sent))
    #expect(!lines.level(4))
    for _ in 0..<1000 { port.write8(Register.data, 0x2E) }
    port.flush()
    #expect(host.bytes.count < sent + 20, "a guest that ignores THRE loses bytes")
    clock.advance(nanoseconds: 1_000_000_000)
    #expect(lines.level(4), "THRE comes back by itself")
    #expect(port.read8(Register.lineStatus) & 0x60 == 0x60)
  }

  @Test func breakReachesTheHost() {
    final class Breaks: @unchecked Sendable { var list: [Bool] = [] }
    let breaks = Breaks()
    let port = SerialPort(line: InterruptLine(4, of: lines), clock: clock) {
      breaks.list.append($0)
    }
    port.write8(Register.lineControl, 0x43)
    port.write8(Register.lineControl, 0x03)
    #expect(breaks.list == [true, false])
  }

  @Test func restoreRaisesThePendingInterrupt() throws {
    port.write8(Register.interruptEnable, 0x02)
    #expect(port.offer([1, 2, 3]) == 3)
    let data = try JSONEncoder().encode(port.saveState())
    let lines = LineRecorder()
    let other = SerialPort(line: InterruptLine(4, of: lines), clock: clock, backend: host)
    other.restoreState(try JSONDecoder().decode(SerialPort.State.self, from: data))
    #expect(lines.level(4))
    #expect(other.read8(Register.interruptIdentification) == 0x02)
    #expect((0..<3).map { _ in other.read8(Register.data) } == [1, 2, 3])
  }

  @Test func fuzzed() throws {
    try fuzz(UART16550(), offsets: 0...9, seed: 1) { uart, random, now in
      uart.receive(
        UInt8(truncatingIfNeeded: random.next()),
        errors: .init(rawValue: UInt8(truncatingIfNeeded: random.next())), now: now)
      uart.setModemInputs(.init(rawValue: UInt8(truncatingIfNeeded: random.next())))
      _ = uart.takeTransmitted()
    }
  }
}
