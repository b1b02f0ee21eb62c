// The display itself: registers and memory behind one lock, the processor's window, and the text window that is shown
// to the guest as memory of its own.

import GuestMemory
import Platform
import Processor
import Synchronization

/// What all ways to the display lead to: ports, window, base addresses, and the host's look at it.
final class DisplayCore: @unchecked Sendable {
  // @unchecked: `guarded` is a Mutex; display memory is shared with the guest as its RAM is.
  static let memorySize = 16 << 20
  static let textBase = GuestAddress(0xB_8000)
  static let textSize = 0x8000

  struct Guarded {
    var controller = VGAController()
    var bochs = BochsDisplayInterface(memorySize: memorySize)
    /// The registers make the text window plain memory.
    var textIsPlain = false
    /// The text window is the guest's memory at present: it and not the planes has what is shown.
    var textIsMapped = false
    var lastContent: DisplayContent?
    var generation: UInt64 = 0
  }

  let memory: PCIRegion
  /// What the guest sees at `textBase` while it is shown to it directly.
  let text: PCIRegion
  let guarded = Mutex(Guarded())
  private let clock: any MachineClock
  private let mapper: (any PCIRegionMapper)?

  var planes: VGAPlanes { VGAPlanes(memory.host) }

  init(clock: any MachineClock, mapper: (any PCIRegionMapper)?) throws(PlatformError) {
    self.clock = clock
    self.mapper = mapper
    memory = try PCIRegion(writableSize: Self.memorySize)
    text = try PCIRegion(writableSize: Self.textSize)
    clearText()
  }

  /// Blank, light grey on black, as a BIOS clears it.
  private func clearText() {
    for offset in stride(from: 0, to: Self.textSize, by: 2) { planes[offset] = 0x0720 }
  }

  // MARK: Life

  /// The display begins to work: the guest may be shown memory.
  func start() { guarded.withLock { mapTextWindow(&$0) } }

  /// Takes the text window back from the guest.
  func stop() {
    guarded.withLock { state in
      if state.textIsMapped { unmapTextWindow(&state) }
    }
  }

  /// Changes everything at once: reset, or a snapshot restored.
  func replaceState(_ body: (inout Guarded) -> Void) {
    guarded.withLock { state in
      if state.textIsMapped { unmapTextWindow(&state) }
      state.textIsPlain = false
      body(&state)
      mapTextWindow(&state)
    }
  }

  // MARK: Ports

  func readPort(_ port: UInt16, _ width: AccessWidth) -> UInt64 {
    let now = clock.now
    return guarded.withLock { state in
      var value: UInt64 = 0
      for index in 0..<UInt16(min(width.count, 4)) {
        let byte = state.controller.read(port: port &+ index, now: now)
        value |= UInt64(byte) << UInt64(8 * index)
      }
      return value
    }
  }

  func writePort(_ port: UInt16, _ width: AccessWidth, _ value: UInt64) {
    guarded.withLock { state in
      for index in 0..<UInt16(min(width.count, 4)) {
        let byte = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
        state.controller.write(port: port &+ index, value: byte)
      }
      mapTextWindow(&state)
    }
  }

  /// Words only, as the interface is defined.
  func readBochs(_ index: Int?) -> UInt64 {
    guarded.withLock { state in
      UInt64(state.bochs.read(index ?? Int(state.bochs.index)))
    }
  }

  func writeBochs(_ index: Int?, _ value: UInt16) {
    guarded.withLock { state in
      let effects = state.bochs.write(index ?? Int(state.bochs.index), value)
      state.controller.hasWidePalette = state.bochs.hasWidePalette
      mapTextWindow(&state)
      guard effects.contains(.clearMemory) else { return }
      let count = min(state.bochs.pitch * state.bochs.height, memory.size)
      memory.host.initializeMemory(
        as: UInt8.self, repeating: 0, count: state.bochs.isLinear ? count : VGAPlanes.size)
    }
  }

  func selectBochs(_ index: UInt16) { guarded.withLock { $0.bochs.select(index) } }

  var bochsIndex: UInt64 { guarded.withLock { UInt64($0.bochs.index) } }

  // MARK: The window

  func readWindow(_ offset: UInt64, _ width: AccessWidth) -> UInt64 {
    guarded.withLock { state in
      var value: UInt64 = 0
      for index in 0..<UInt64(width.count) {
        value |= UInt64(readByte(offset &+ index, &state)) << (8 * index)
      }
      return value
    }
  }

  private func readByte(_ offset: UInt64, _ state: inout Guarded) -> UInt8 {
    if state.bochs.isLinear {
      let place = Int(truncatingIfNeeded: offset) + state.bochs.bankOffset
      guard offset < 0x1_0000, place < memory.size else { return 0xFF }
      return memory.host.load(fromByteOffset: place, as: UInt8.self)
    }
    guard let address = state.controller.decode(window: offset) else { return 0xFF }
    if state.textIsMapped {
      return text.host.load(fromByteOffset: address % Self.textSize, as: UInt8.self)
    }
    return state.controller.readWindow(address, planes)
  }

  func writeWindow(_ offset: UInt64, _ width: AccessWidth, _ value: UInt64) {
    guarded.withLock { state in
      for index in 0..<UInt64(width.count) {
        let byte = UInt8(truncatingIfNeeded: value >> (8 * index))
        writeByte(offset &+ index, byte, &state)
      }
    }
  }

  private func writeByte(_ offset: UInt64, _ byte: UInt8, _ state: inout Guarded) {
    if state.bochs.isLinear {
      let place = Int(truncatingIfNeeded: offset) + state.bochs.bankOffset
      guard offset < 0x1_0000, place < memory.size else { return }
      memory.host.storeBytes(of: byte, toByteOffset: place, as: UInt8.self)
      return
    }
    guard let address = state.controller.decode(window: offset) else { return }
    if state.textIsMapped {
      // A processor that was on its way here when the window was shown to the guest.
      text.host.storeBytes(of: byte, toByteOffset: address % Self.textSize, as: UInt8.self)
      return
    }
    state.controller.writeWindow(address, byte, planes)
  }

  // MARK: The text window as the guest's own memory

  /// Shows the text window to the guest directly while it is plain memory, so that writing a character takes no exit.
  private func mapTextWindow(_ state: inout Guarded) {
    let isPlain = state.controller.windowIsPlainText && !state.bochs.isEnabled
    // Once a change: where there is no room for it, every access is an exit until the next.
    guard isPlain != state.textIsPlain, let mapper else { return }
    state.textIsPlain = isPlain
    guard isPlain else {
      if state.textIsMapped { unmapTextWindow(&state) }
      return
    }
    for offset in 0..<Self.textSize {
      let byte = planes[offset & ~1, offset & 1]
      text.host.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    }
    state.textIsMapped = mapper.mapRegion(text, at: Self.textBase)
  }

  private func unmapTextWindow(_ state: inout Guarded) {
    state.textIsPlain = false
    mapper?.unmapRegion(text, at: Self.textBase)
    state.textIsMapped = false
    storeText()
  }

  /// From the window to the planes.
  func storeText() {
    for offset in 0..<Self.textSize {
      planes[offset & ~1, offset & 1] = text.host.load(fromByteOffset: offset, as: UInt8.self)
    }
  }
}
