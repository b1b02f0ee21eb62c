/// A PS/2 mouse with wheel and five buttons behind its cable (IBM PS/2 Hardware Interface Technical Reference,
/// "Auxiliary device"; the IntelliMouse and Explorer packets after Microsoft's sequences of sample rates).
///
/// Movement that does not fit into the queue is added up and sent when the guest has read what is there.
package struct PS2Mouse: Codable, Sendable, Equatable {
  package enum Command {
    package static let scaling1To1: UInt8 = 0xE6
    package static let scaling2To1: UInt8 = 0xE7
    package static let setResolution: UInt8 = 0xE8
    package static let statusRequest: UInt8 = 0xE9
    package static let setStreamMode: UInt8 = 0xEA
    package static let readData: UInt8 = 0xEB
    package static let resetWrapMode: UInt8 = 0xEC
    package static let setWrapMode: UInt8 = 0xEE
    package static let setRemoteMode: UInt8 = 0xF0
    package static let readIdentity: UInt8 = 0xF2
    package static let setSampleRate: UInt8 = 0xF3
    package static let enable: UInt8 = 0xF4
    package static let disable: UInt8 = 0xF5
    package static let setDefault: UInt8 = 0xF6
    package static let resend: UInt8 = 0xFE
    package static let reset: UInt8 = 0xFF
  }

  package struct Buttons: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let left = Self(rawValue: 1 << 0)
    package static let right = Self(rawValue: 1 << 1)
    package static let middle = Self(rawValue: 1 << 2)
    package static let side = Self(rawValue: 1 << 3)
    package static let extra = Self(rawValue: 1 << 4)
  }

  private enum Identity {
    static let standard: UInt8 = 0
    /// A fourth byte with the wheel.
    static let wheel: UInt8 = 3
    /// The fourth byte carries two more buttons too.
    static let explorer: UInt8 = 4
  }

  private enum Reply {
    static let acknowledge: UInt8 = 0xFA
    static let error: UInt8 = 0xFC
    static let resend: UInt8 = 0xFE
    static let testPassed: UInt8 = 0xAA
  }

  /// Bytes of packets that wait for the guest.
  package static let packetLimit = 32
  private static let replyLimit = 16
  /// Counts that are kept while the guest does not read.
  private static let movementLimit: Int32 = 1 << 20

  private var packets = BoundedQueue<UInt8>(capacity: packetLimit)
  private var replies = BoundedQueue<UInt8>(capacity: replyLimit)
  private var isEnabled = false
  private var isRemote = false
  private var isWrapping = false
  private var doublesMovement = false
  private var resolution: UInt8 = 2
  private var sampleRate: UInt8 = 100
  private var earlierRates: [UInt8] = [0, 0]
  private var identity = Identity.standard
  private var awaiting: UInt8?
  private var lastSent: UInt8 = Reply.testPassed
  private var x: Int32 = 0
  private var y: Int32 = 0
  private var wheel: Int32 = 0
  private var buttons: Buttons = []
  private var sentButtons: Buttons = []

  package init() {}

  /// Moves the mouse by counts to the right and down, and the wheel towards the user; `buttons` are those held now.
  package mutating func move(x: Int32, y: Int32, wheel: Int32, buttons: Buttons) {
    func add(_ sum: Int32, _ part: Int32) -> Int32 {
      let (total, overflow) = sum.addingReportingOverflow(part)
      return overflow ? sum : min(max(total, -Self.movementLimit), Self.movementLimit)
    }
    self.buttons = buttons
    guard isEnabled || isRemote else { return }
    self.x = add(self.x, x)
    self.y = add(self.y, y)
    self.wheel = add(self.wheel, wheel)
    stream()
  }

  /// The next byte on the cable.
  package mutating func nextByte() -> UInt8? {
    guard let byte = replies.popFirst() ?? packets.popFirst() else { return nil }
    lastSent = byte
    stream()
    return byte
  }

  // MARK: Packets

  private var packetSize: Int { identity == Identity.standard ? 3 : 4 }

  private mutating func stream() {
    while isEnabled && !isRemote && !isWrapping && packets.space >= packetSize
      && (x != 0 || y != 0 || (wheel != 0 && identity != Identity.standard)
        || buttons != sentButtons)
    {
      for byte in takePacket() { packets.append(byte) }
    }
  }

  /// Bytes of one packet; what does not fit into nine bits stays for the next.
  private mutating func takePacket() -> [UInt8] {
    let moved = (x: min(max(x, -255), 255), y: min(max(y, -255), 255))
    x -= moved.x
    y -= moved.y
    sentButtons = buttons
    let right = scaled(moved.x)
    // The screen's y runs down, the mouse's up.
    let up = scaled(-moved.y)
    var flags: UInt8 = 0x08 | buttons.rawValue & 7
    if right < 0 { flags |= 0x10 }
    if up < 0 { flags |= 0x20 }
    if !(-256...255).contains(right) { flags |= 0x40 }
    if !(-256...255).contains(up) { flags |= 0x80 }
    var packet = [flags, UInt8(truncatingIfNeeded: right), UInt8(truncatingIfNeeded: up)]
    if identity == Identity.standard {
      wheel = 0
    } else {
      let turned = min(max(wheel, -8), 7)
      wheel -= turned
      let low = UInt8(truncatingIfNeeded: turned)
      let more = (buttons.rawValue >> 3 & 3) << 4
      packet.append(identity == Identity.explorer ? low & 0x0F | more : low)
    }
    return packet
  }

  private func scaled(_ count: Int32) -> Int32 {
    guard doublesMovement && !isRemote else { return count }
    let small: [Int32] = [0, 1, 1, 3, 6, 9]
    let magnitude = Int(abs(count))
    let result = magnitude < small.count ? small[magnitude] : Int32(magnitude) * 2
    return count < 0 ? -result : result
  }

  // MARK: Commands

  /// A byte from the controller.
  package mutating func receive(_ byte: UInt8) {
    if isWrapping && byte != Command.resetWrapMode && byte != Command.reset {
      reply(byte)
      return
    }
    if let command = awaiting {
      awaiting = nil
      parameter(byte, of: command)
      return
    }
    // A command ends what was being sent.
    packets.removeAll()
    switch byte {
    case Command.resend: reply(lastSent)
    case Command.scaling1To1, Command.scaling2To1:
      doublesMovement = byte == Command.scaling2To1
      reply(Reply.acknowledge)
    case Command.setResolution, Command.setSampleRate:
      awaiting = byte
      reply(Reply.acknowledge)
    case Command.statusRequest: replyStatus()
    case Command.setStreamMode, Command.setRemoteMode:
      isRemote = byte == Command.setRemoteMode
      reply(Reply.acknowledge)
    case Command.resetWrapMode, Command.setWrapMode:
      isWrapping = byte == Command.setWrapMode
      reply(Reply.acknowledge)
    case Command.readData:
      reply(Reply.acknowledge)
      for byte in takePacket() { reply(byte) }
    case Command.readIdentity:
      reply(Reply.acknowledge)
      reply(identity)
    case Command.enable, Command.disable:
      isEnabled = byte == Command.enable
      (x, y, wheel) = (0, 0, 0)
      reply(Reply.acknowledge)
    case Command.setDefault:
      setDefaults()
      reply(Reply.acknowledge)
    case Command.reset:
      let held = buttons
      self = PS2Mouse()
      buttons = held
      sentButtons = held
      for byte in [Reply.acknowledge, Reply.testPassed, Identity.standard] { reply(byte) }
    default: reply(Reply.resend)
    }
  }

  private mutating func parameter(_ byte: UInt8, of command: UInt8) {
    if command == Command.setResolution {
      guard byte <= 3 else {
        reply(Reply.error)
        return
      }
      resolution = byte
    } else {
      sampleRate = byte
      switch (earlierRates, byte) {
      case ([200, 100], 80): identity = Identity.wheel
      case ([200, 200], 80) where identity == Identity.wheel: identity = Identity.explorer
      default: break
      }
      earlierRates = [earlierRates[1], byte]
    }
    reply(Reply.acknowledge)
  }

  private mutating func replyStatus() {
    var status: UInt8 = 0
    if isRemote { status |= 0x40 }
    if isEnabled { status |= 0x20 }
    if doublesMovement { status |= 0x10 }
    if buttons.contains(.left) { status |= 0x04 }
    if buttons.contains(.middle) { status |= 0x02 }
    if buttons.contains(.right) { status |= 0x01 }
    for byte in [Reply.acknowledge, status, resolution, sampleRate] { reply(byte) }
  }

  private mutating func setDefaults() {
    isEnabled = false
    isRemote = false
    doublesMovement = false
    resolution = 2
    sampleRate = 100
    (x, y, wheel) = (0, 0, 0)
  }

  private mutating func reply(_ byte: UInt8) { replies.append(byte) }

  /// After decoding: queues get their sizes back, values their ranges.
  mutating func normalize() {
    packets = BoundedQueue(capacity: Self.packetLimit, contentsOf: packets)
    replies = BoundedQueue(capacity: Self.replyLimit, contentsOf: replies)
    if earlierRates.count != 2 { earlierRates = [0, 0] }
    let limit = -Self.movementLimit...Self.movementLimit
    if !limit.contains(x) || !limit.contains(y) || !limit.contains(wheel) {
      (x, y, wheel) = (0, 0, 0)
    }
    resolution = min(resolution, 3)
    if identity != Identity.wheel && identity != Identity.explorer { identity = Identity.standard }
  }
}
