// INTA# to INTD# of every slot, through the four PIRQ lines of the PIIX3 to ISA interrupts (82371SB data sheet,
// PIRQRC; i440FX wiring of slots: device n's INTA# is PIRQ (n - 1) mod 4).

import Synchronization

/// Ors the level-triggered pins of all functions onto ISA lines.
public final class PCIInterruptRouter: Sendable {
  /// Lines that PIRQRC may name: the others are reserved.
  private static let routable: UInt16 = 0xDEF8

  private struct State {
    var asserted: (Int, Int, Int, Int) = (0, 0, 0, 0)
    var routes: UInt32 = 0x8080_8080
    /// Bit n: ISA line n is high.
    var levels: UInt16 = 0
  }

  private let sink: any InterruptSink
  private let state = Mutex(State())

  public init(sink: any InterruptSink) { self.sink = sink }

  /// The PIRQ that a pin is wired to: 0 to 3 for A to D.
  ///
  /// - Parameter pin: 1 to 4.
  public static func line(ofPin pin: UInt8, device: UInt8) -> Int {
    (Int(pin) - 1 + Int(device) - 1) & 3
  }

  /// One function changes its pin. The caller tells changes only.
  func change(line: Int, asserted: Bool) {
    state.withLock { state in
      let step = asserted ? 1 : -1
      switch line {
      case 0: state.asserted.0 += step
      case 1: state.asserted.1 += step
      case 2: state.asserted.2 += step
      default: state.asserted.3 += step
      }
      update(&state, everything: false)
    }
  }

  /// The four PIRQ route registers, PIRQA in the low byte. Bit 7 of each: not routed.
  func setRoutes(_ routes: UInt32) {
    state.withLock { state in
      state.routes = routes
      update(&state, everything: false)
    }
  }

  /// Tells the sink the level of every line that a PIRQ can reach, after a snapshot was restored.
  func announce() {
    state.withLock { state in update(&state, everything: true) }
  }

  private static func mask(of routes: UInt32) -> UInt16 {
    var mask: UInt16 = 0
    for index in 0..<4 { mask |= bit(of: routes, index) }
    return mask
  }

  private static func bit(of routes: UInt32, _ index: Int) -> UInt16 {
    let route = UInt8(truncatingIfNeeded: routes >> UInt32(8 * index))
    guard route & 0x80 == 0 else { return 0 }
    return 1 << UInt16(route & 0xF) & routable
  }

  private func update(_ state: inout State, everything: Bool) {
    var levels: UInt16 = 0
    if state.asserted.0 > 0 { levels |= Self.bit(of: state.routes, 0) }
    if state.asserted.1 > 0 { levels |= Self.bit(of: state.routes, 1) }
    if state.asserted.2 > 0 { levels |= Self.bit(of: state.routes, 2) }
    if state.asserted.3 > 0 { levels |= Self.bit(of: state.routes, 3) }
    var changed = levels ^ state.levels
    if everything { changed |= Self.mask(of: state.routes) }
    state.levels = levels
    // Inside the lock, so that two threads cannot deliver levels in the wrong order.
    while changed != 0 {
      let number = UInt32(changed.trailingZeroBitCount)
      changed &= changed &- 1
      sink.setLine(number, asserted: levels & (1 << UInt16(number)) != 0)
    }
  }
}

/// The interrupt pin of one function: its level, gated by the command register.
final class PCIInterruptPin: Sendable {
  private struct State {
    var level = false
    var disabled = false
    var delivered = false
    var router: PCIInterruptRouter?
    var line = 0
  }

  private let number: UInt8
  private let state = Mutex(State())

  init(number: UInt8) { self.number = number }

  func connect(_ router: PCIInterruptRouter, device: UInt8) {
    guard number != 0 else { return }
    state.withLock { state in
      state.router = router
      state.line = PCIInterruptRouter.line(ofPin: number, device: device)
    }
  }

  var isAsserted: Bool { state.withLock { $0.level } }

  func set(_ level: Bool) {
    state.withLock { state in
      state.level = level
      Self.deliver(&state)
    }
  }

  func setDisabled(_ disabled: Bool) {
    state.withLock { state in
      state.disabled = disabled
      Self.deliver(&state)
    }
  }

  private static func deliver(_ state: inout State) {
    let wanted = state.level && !state.disabled
    guard wanted != state.delivered, let router = state.router else { return }
    state.delivered = wanted
    router.change(line: state.line, asserted: wanted)
  }
}
