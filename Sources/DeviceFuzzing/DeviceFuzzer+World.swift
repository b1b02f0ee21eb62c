// What happens around the guest: time, input, ends of interrupts, resets and snapshots.

import Devices
import GuestMemory
import Processor

extension DeviceFuzzer {
  func passTime() {
    let step: UInt64 =
      switch random.below(64) {
      case 0: random.below(3_000_000_000)
      case 1...8: random.below(10_000_000)
      default: random.below(100_000)
      }
    board.clock.advance(nanoseconds: step)
  }

  func giveInput() {
    let bytes = (0..<random.below(24)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    switch random.below(11) {
    case 8: _ = board.display.snapshot()
    case 9...10: typeKeys(bytes)
    case 0...1: bytes.withUnsafeBytes { _ = random.pick(board.serialPorts).offer($0) }
    case 2: random.pick(board.serialPorts).sendBreak()
    case 3: bytes.withUnsafeBytes { _ = random.pick(board.console.ports).offer($0) }
    case 4:
      let (x, y) = (Int32(truncatingIfNeeded: value()), Int32(truncatingIfNeeded: value()))
      board.keyboard.withChip { chip, _ in chip.moveMouse(x: x, y: y, wheel: 1, buttons: []) }
    case 5: board.power.withChip { chip, _ in _ = chip.pressPowerButton() }
    case 6: if random.rarely(8) { board.drive.eject(force: random.rarely(2)) }
    default: board.drive.insert(board.medium)
    }
  }

  func typeKeys(_ bytes: [UInt8]) {
    let strokes = bytes.compactMap {
      KeyboardLayout.stroke(for: Character(Unicode.Scalar($0)))
        ?? KeyboardLayout.stroke(named: random.pick(KeyboardLayout.keyNames))
    }
    board.keyboard.withChip { chip, now in _ = chip.type(strokes, now: now) }
  }

  func endInterrupts() {
    if random.rarely(2) { _ = board.router.acknowledge() }
    if random.rarely(16) { setUpInterrupts() }
    if let vector = board.interrupts.end(from: UInt8(truncatingIfNeeded: random.next())) {
      board.router.endOfInterrupt(vector)
    }
  }

  /// As a system does at its start: the 8259As initialized, every pin of the I/O APIC open.
  func setUpInterrupts() {
    for (port, base, cascade): (UInt16, UInt64, UInt64) in [(0x20, 0x20, 4), (0xA0, 0x28, 2)] {
      board.ports.write(port: port, width: .byte, value: 0x11)
      for value in [base, cascade, 1, 0] {
        board.ports.write(port: port + 1, width: .byte, value: value)
      }
    }
    let window = InputOutputInterruptController.baseAddress
    for pin in 0..<UInt64(InputOutputInterruptController.pinCount) {
      let isLevel = random.below(2) << 15
      for (register, value) in [(0x11 + 2 * pin, 0), (0x10 + 2 * pin, 0x30 + pin | isLevel)] {
        board.memoryBus.write(at: GuestAddress(window), width: .doubleword, value: register)
        board.memoryBus.write(at: GuestAddress(window + 0x10), width: .doubleword, value: value)
      }
    }
  }

  /// Snapshots and resets in the middle of everything.
  func disturb() {
    let which = Int(random.below(UInt64(drivers.count)))
    switch random.below(32) {
    case 0...3:
      let transport = board.transports[which]
      transport.pause()
      transport.restoreState(transport.saveState())
      if let socket = transport.device as? VirtioSocket { socket.restoreState(socket.saveState()) }
      if let device = transport.device as? VirtioBalloon { device.restoreState(device.saveState()) }
      transport.resume()
    case 4...7: board.router.restoreState(board.router.saveState())
    case 8: board.host.reset()
    case 9: board.router.reset()
    case 10...13: board.keyboard.restoreState(board.keyboard.saveState())
    case 14...17: board.realTimeClock.restoreState(board.realTimeClock.saveState())
    case 18...21:
      let port = random.pick(board.serialPorts)
      port.restoreState(port.saveState())
    case 22...25:
      board.storage.pause()
      board.storage.restoreState(board.storage.saveState())
      board.storage.resume()
    case 26: board.display.restoreState(board.display.saveState())
    case 27...28:
      board.adapter.pause()
      board.adapter.restoreState(board.adapter.saveState())
      board.adapter.resume()
    case 29: board.adapter.setUp(random.rarely(2))
    case 30: _ = board.balloon.setTarget(random.below(2 * FuzzBoard.memorySize))
    default: break
    }
  }
}
