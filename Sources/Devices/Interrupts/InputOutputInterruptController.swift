/// The I/O APIC with 24 pins (Intel 82093AA data sheet, 290566-001, May 1996), with the EOI register of version 0x20.
///
/// A pin becomes a `MessageInterrupt`. A level-triggered pin sets its remote IRR when a processor takes the message and
/// sends another when the EOI comes while the line is still up. An edge on a masked pin is lost, as the data sheet has
/// it. The polarity bit is kept and ignored: devices say whether they assert, not how.
///
/// Where the processor refuses an edge because the one before is still pending, the two become one, except on the
/// timer's pin: there up to `edgeLimit` are counted and sent again, one with each EOI.
package struct InputOutputInterruptController: Codable, Sendable, Equatable {
  package static let baseAddress: UInt64 = 0xFEC0_0000
  package static let size: UInt64 = 0x1000
  package static let pinCount = 24
  /// ISA IRQ 0 comes in here.
  package static let timerPin = 2
  package static let edgeLimit = 1024

  /// Offsets of the memory window.
  package enum Window {
    /// IOREGSEL
    package static let select: UInt64 = 0x00
    /// IOWIN
    package static let data: UInt64 = 0x10
    package static let endOfInterrupt: UInt64 = 0x40
  }

  /// Values of IOREGSEL.
  package enum Register {
    package static let identity: UInt8 = 0x00
    package static let version: UInt8 = 0x01
    package static let arbitration: UInt8 = 0x02
    /// Two for each pin, low half first.
    package static let redirection: UInt8 = 0x10
  }

  private static let versionValue: UInt32 = 0x20 | UInt32(pinCount - 1) << 16

  /// An entry of the redirection table.
  package struct Redirection: RawRepresentable, Hashable, Sendable, Codable {
    package var rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    package static let deliveryStatus: UInt64 = 1 << 12
    package static let polarity: UInt64 = 1 << 13
    package static let remoteIRR: UInt64 = 1 << 14
    package static let levelTriggered: UInt64 = 1 << 15
    package static let mask: UInt64 = 1 << 16
    static let readOnly: UInt64 = deliveryStatus | remoteIRR
    static let defined: UInt64 = 0xFF00_0000_0001_FFFF
    static let lowestPriority: UInt64 = 1

    package var vector: UInt8 { UInt8(truncatingIfNeeded: rawValue) }
    package var deliveryMode: UInt64 { rawValue >> 8 & 7 }
    package var isLogical: Bool { rawValue >> 11 & 1 != 0 }
    package var isLevelTriggered: Bool { rawValue & Self.levelTriggered != 0 }
    package var isMasked: Bool { rawValue & Self.mask != 0 }
    package var destination: UInt64 { rawValue >> 56 }

    /// The entry as a message to the local APICs (Intel SDM 3A, 11.11).
    package var message: MessageInterrupt {
      let redirectionHint: UInt64 = deliveryMode == Self.lowestPriority ? 1 << 3 : 0
      let address =
        0xFEE0_0000 | destination << 12 | redirectionHint | (isLogical ? UInt64(1) << 2 : 0)
      let level: UInt32 = isLevelTriggered ? 1 << 15 | 1 << 14 : 0
      return MessageInterrupt(
        address: address, data: UInt32(vector) | UInt32(deliveryMode) << 8 | level)
    }
  }

  private var select: UInt8 = 0
  private var identity: UInt32 = 0
  private var entries: [Redirection]
  private var levels: UInt32 = 0
  /// Pins with something to send.
  private var ready: UInt32 = 0
  /// Pins whose entries changed since `takeChangedPin`.
  private var changed: UInt32 = 0
  private var owedEdges = 0

  package init() {
    entries = Array(repeating: Redirection(rawValue: Redirection.mask), count: Self.pinCount)
  }

  package func entry(_ pin: Int) -> Redirection {
    entries.indices.contains(pin) ? entries[pin] : Redirection(rawValue: Redirection.mask)
  }

  // MARK: Pins

  package mutating func setPin(_ pin: Int, _ level: Bool) {
    guard entries.indices.contains(pin) else { return }
    let bit = UInt32(1) << UInt32(pin)
    let rose = level && levels & bit == 0
    if level { levels |= bit } else { levels &= ~bit }
    if entries[pin].isLevelTriggered {
      examineLevel(pin)
    } else if rose && !entries[pin].isMasked {
      ready |= bit
    }
  }

  private mutating func examineLevel(_ pin: Int) {
    let bit = UInt32(1) << UInt32(pin)
    let entry = entries[pin]
    let wanted =
      levels & bit != 0 && !entry.isMasked && entry.rawValue & Redirection.remoteIRR == 0
    if wanted { ready |= bit } else { ready &= ~bit }
  }

  /// The next pin to send a message for, if any. Follow with `sent`.
  package mutating func takeReadyPin() -> Int? {
    guard ready != 0 else { return nil }
    let pin = ready.trailingZeroBitCount
    ready &= ~(1 << UInt32(pin))
    return pin
  }

  /// - Parameter accepted: false where the vector was still pending, or no processor is there.
  package mutating func sent(_ pin: Int, accepted: Bool) {
    guard entries.indices.contains(pin) else { return }
    if entries[pin].isLevelTriggered {
      if accepted { entries[pin].rawValue |= Redirection.remoteIRR }
      // Otherwise the line is still up, and an EOI or a new entry tries again.
    } else if pin == Self.timerPin && !accepted && owedEdges < Self.edgeLimit {
      owedEdges += 1
    }
  }

  /// The processors' EOI for `vector`.
  package mutating func endOfInterrupt(vector: UInt8) {
    for pin in entries.indices where entries[pin].vector == vector {
      if entries[pin].isLevelTriggered {
        entries[pin].rawValue &= ~Redirection.remoteIRR
        examineLevel(pin)
      } else if pin == Self.timerPin && owedEdges > 0 && !entries[pin].isMasked {
        owedEdges -= 1
        ready |= 1 << UInt32(pin)
      }
    }
  }

  /// A pin whose entry was written, for processors that keep a copy.
  package mutating func takeChangedPin() -> Int? {
    guard changed != 0 else { return nil }
    let pin = changed.trailingZeroBitCount
    changed &= ~(1 << UInt32(pin))
    return pin
  }

  // MARK: Window

  package mutating func read(at offset: UInt64) -> UInt32 {
    switch offset {
    case Window.select: return UInt32(select)
    case Window.data: return readRegister()
    // Write-only and reserved parts of the window.
    default: return 0
    }
  }

  package mutating func write(at offset: UInt64, value: UInt32) {
    switch offset {
    case Window.select: select = UInt8(truncatingIfNeeded: value)
    case Window.data: writeRegister(value)
    case Window.endOfInterrupt: endOfInterrupt(vector: UInt8(truncatingIfNeeded: value))
    default: break
    }
  }

  private var selectedPin: Int? {
    guard select >= Register.redirection else { return nil }
    let pin = Int(select - Register.redirection) / 2
    return pin < Self.pinCount ? pin : nil
  }

  private func readRegister() -> UInt32 {
    if let pin = selectedPin {
      let entry = entries[pin].rawValue
      return UInt32(truncatingIfNeeded: select & 1 == 0 ? entry : entry >> 32)
    }
    switch select {
    case Register.identity, Register.arbitration: return identity
    case Register.version: return Self.versionValue
    default: return 0
    }
  }

  private mutating func writeRegister(_ value: UInt32) {
    if select == Register.identity { identity = value & 0x0F00_0000 }
    guard let pin = selectedPin else { return }
    let old = entries[pin].rawValue
    var new =
      select & 1 == 0
      ? old & 0xFFFF_FFFF_0000_0000 | UInt64(value) : old & 0xFFFF_FFFF | UInt64(value) << 32
    new = new & Redirection.defined & ~Redirection.readOnly | old & Redirection.readOnly
    // The remote IRR belongs to level triggering: leaving it clears the bit (system software relies on that).
    if new & Redirection.levelTriggered == 0 { new &= ~Redirection.remoteIRR }
    entries[pin].rawValue = new
    changed |= 1 << UInt32(pin)
    if entries[pin].isLevelTriggered {
      examineLevel(pin)
    } else if entries[pin].isMasked || old & Redirection.levelTriggered != 0 {
      ready &= ~(1 << UInt32(pin))
    }
    if pin == Self.timerPin && (entries[pin].isMasked || entries[pin].isLevelTriggered) {
      owedEdges = 0
    }
  }

  func check() throws(DeviceStateError) {
    var possible = self
    possible.normalize()
    possible.changed = changed
    try DeviceStateError.refuse(self, unlike: possible)
  }

  /// After decoding: the table gets its size back, and everything is sent to the processor's copy again.
  mutating func normalize() {
    let masked = Redirection(rawValue: Redirection.mask)
    let padded = entries + Array(repeating: masked, count: Self.pinCount)
    entries = padded.prefix(Self.pinCount).map {
      Redirection(rawValue: $0.rawValue & Redirection.defined)
    }
    let pins: UInt32 = 1 << UInt32(Self.pinCount) - 1
    levels &= pins
    ready &= pins
    changed = pins
    owedEdges = min(max(owedEdges, 0), Self.edgeLimit)
  }
}

extension InputOutputInterruptController {
  /// From and into struct kvm_ioapic_state (Linux, arch/x86/include/uapi/asm/kvm.h): base address (64 bits), IOREGSEL,
  /// number, requests, nothing (32 bits each), and the table.
  private static let kernelTable = 24
  private static let kernelSize = kernelTable + pinCount * 8

  /// - Parameter present: ours after the devices were restored: it knows the lines, which the kernel's does not say.
  init(kernel bytes: [UInt8], present: Self) throws(DeviceStateError) {
    guard bytes.count >= Self.kernelSize else {
      throw DeviceStateError("a kernel's I/O APIC is none")
    }
    self.init()
    select = UInt8(truncatingIfNeeded: bytes.number(at: 8, count: 4))
    identity = UInt32(truncatingIfNeeded: bytes.number(at: 12, count: 4) << 24) & 0x0F00_0000
    let requests = UInt32(truncatingIfNeeded: bytes.number(at: 16, count: 4))
    for pin in entries.indices {
      let entry = bytes.number(at: Self.kernelTable + pin * 8, count: 8) & Redirection.defined
      entries[pin] = Redirection(rawValue: entry & ~Redirection.deliveryStatus)
    }
    levels = present.levels
    for pin in entries.indices {
      let bit = UInt32(1) << UInt32(pin)
      if entries[pin].isLevelTriggered {
        if requests & bit != 0 { levels |= bit }
        examineLevel(pin)
      } else if requests & bit != 0, !entries[pin].isMasked {
        ready |= bit
      }
    }
  }

  /// The kernel delivers at once what it finds requested there: levels that are up, and edges that were not sent yet.
  var kernelBytes: [UInt8] {
    var requests: UInt32 = 0
    for pin in entries.indices {
      let bit = UInt32(1) << UInt32(pin)
      let isOwed = ready & bit != 0 || pin == Self.timerPin && owedEdges > 0
      if entries[pin].isLevelTriggered ? levels & bit != 0 : isOwed { requests |= bit }
    }
    var bytes: [UInt8] = []
    bytes.append(number: Self.baseAddress, count: 8)
    bytes.append(number: UInt64(select), count: 4)
    bytes.append(number: UInt64(identity >> 24), count: 4)
    bytes.append(number: UInt64(requests), count: 4)
    bytes.append(number: 0, count: 4)
    for entry in entries { bytes.append(number: entry.rawValue, count: 8) }
    return bytes
  }
}
