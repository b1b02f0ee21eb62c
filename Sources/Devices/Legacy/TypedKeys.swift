// Key strokes of the host on their way to the keyboard.

/// A key pressed and released while others are held.
package struct KeyStroke: Sendable, Hashable {
  package var key: KeyCode
  /// Pressed before it and released after it, in reverse.
  package var held: [KeyCode]

  package init(_ key: KeyCode, holding held: [KeyCode] = []) {
    self.key = key
    self.held = held
  }

  /// What the keyboard sees.
  package var events: [(key: KeyCode, isPressed: Bool)] {
    held.map { ($0, true) } + [(key, true), (key, false)] + held.reversed().map { ($0, false) }
  }
}

/// A bounded queue of key events with a pace.
struct TypedKeys: Codable, Sendable, Equatable {
  /// Events, of which a character takes two to four.
  static let limit = 4096
  /// Between two events. A BIOS or boot loader polls its small buffer many times meanwhile, also on a slow processor.
  static let interval: UInt64 = 5_000_000
  /// When the guest does not take what the keyboard has, the next try.
  private static let patience: UInt64 = 20_000_000
  private static let pressed: UInt32 = 1 << 16

  /// Bit 16: pressed; below it the key.
  private var events = BoundedQueue<UInt32>(capacity: limit)
  private var nextTime = MachineTime(nanoseconds: 0)

  var count: Int { events.count }
  var deadline: MachineTime? { events.isEmpty ? nil : nextTime }

  /// All strokes or none.
  mutating func append(_ strokes: [KeyStroke]) -> Bool {
    var codes: [UInt32] = []
    for stroke in strokes {
      for event in stroke.events {
        codes.append(UInt32(event.key.rawValue) | (event.isPressed ? Self.pressed : 0))
      }
      guard codes.count <= events.space else { return false }
    }
    for code in codes { events.append(code) }
    return true
  }

  /// Presses or releases the next key if it is time. Returns whether the keyboard has something new.
  mutating func next(_ keyboard: inout PS2Keyboard, now: MachineTime) -> Bool {
    guard let code = events.first, now >= nextTime else { return false }
    let key = KeyCode(rawValue: UInt16(truncatingIfNeeded: code))
    guard keyboard.key(key, pressed: code & Self.pressed != 0) else {
      nextTime = now.advanced(nanoseconds: Self.patience)
      return false
    }
    _ = events.popFirst()
    nextTime = now.advanced(nanoseconds: Self.interval)
    return true
  }

  mutating func normalize() {
    events = BoundedQueue(capacity: Self.limit, contentsOf: events)
  }
}
