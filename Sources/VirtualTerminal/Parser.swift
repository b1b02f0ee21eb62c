// Splits what a guest sends into characters, controls and sequences: the state machine that Paul Williams drew for DEC's
// terminals (vt100.net/emu/dec_ansi_parser), with UTF-8 in the ground state and colon sub-parameters. It keeps what it
// has seen of an unfinished sequence, so that input may be cut anywhere.

/// The byte level of a terminal.
struct Parser: Sendable, Equatable, Codable {
  enum State: UInt8, Sendable, Codable {
    case ground
    case escape, escapeIntermediate
    case csiEntry, csiParameter, csiIntermediate, csiIgnore
    case dcsEntry, dcsParameter, dcsIntermediate, dcsPassthrough, dcsIgnore
    case oscString
    /// SOS, PM and APC: read to their end and thrown away.
    case ignoredString
  }

  /// What a byte completed.
  enum Action: Equatable {
    case none
    case print(UInt32)
    /// A malformed character ended before this byte, which has to be offered again.
    case replaceAndRetry
    case execute(UInt8)
    case escape(final: UInt8)
    case controlSequence(final: UInt8)
    case operatingSystemCommand
    case deviceControl
  }

  static let maximumParameters = 32
  /// The longest string of an OSC; OSC 52 carries a clipboard.
  static let maximumString = 128 * 1024
  static let maximumDeviceControlString = 4096

  var state = State.ground
  /// UTF-8 in the ground state; off after ESC % @, then C1 controls and Latin-1 are single bytes.
  var decodesUTF8 = true
  /// Parameters of the sequence; absent ones are 0. At least one while a sequence is dispatched.
  private(set) var parameters: [UInt16] = []
  /// Bit n: parameter n was joined to the one before it by a colon.
  private(set) var colons: UInt32 = 0
  /// `<`, `=`, `>` or `?` right after the introducer, else 0.
  private(set) var prefix: UInt8 = 0
  /// Intermediate bytes 0x20...0x2F: the last in the low byte, the one before in the high byte.
  private(set) var intermediates: UInt16 = 0
  /// The final byte of a DCS introducer and the intermediates before it.
  private(set) var deviceControlFinal: UInt8 = 0
  private(set) var deviceControlIntermediates: UInt16 = 0
  /// The text of an OSC or DCS.
  private(set) var string: [UInt8] = []
  private(set) var stringOverflowed = false

  private(set) var utf8Needed: UInt8 = 0
  private var utf8Scalar: UInt32 = 0
  private var utf8Lowest: UInt8 = 0x80
  private var utf8Highest: UInt8 = 0xBF

  /// Whether a plain character may be taken without looking at the state machine.
  @inline(__always)
  var isIdle: Bool { state == .ground && utf8Needed == 0 }

  mutating func reset() { self = Parser() }

  mutating func beginEscape() {
    clearSequence()
    state = .escape
  }

  private mutating func clearSequence() {
    parameters.removeAll(keepingCapacity: true)
    colons = 0
    prefix = 0
    intermediates = 0
  }

  /// Takes one byte.
  mutating func advance(_ byte: UInt8) -> Action {
    if utf8Needed > 0 { return continueCharacter(byte) }
    // These act in every state (the drawing's "anywhere").
    switch byte {
    case 0x18, 0x1A:
      state = .ground
      return .execute(byte)
    case 0x1B:
      let action = endOfString()
      beginEscape()
      return action
    default: break
    }
    if byte >= 0x80, state != .oscString, state != .dcsPassthrough, state != .dcsIgnore,
      state != .ignoredString
    {
      return highByte(byte)
    }
    switch state {
    case .ground: return byte < 0x20 || byte == 0x7F ? .execute(byte) : .print(UInt32(byte))
    case .escape, .escapeIntermediate: return escape(byte)
    case .csiEntry, .csiParameter, .csiIntermediate, .csiIgnore: return controlSequence(byte)
    case .dcsEntry, .dcsParameter, .dcsIntermediate: return deviceControl(byte)
    case .oscString, .dcsPassthrough, .dcsIgnore, .ignoredString: return string(byte)
    }
  }

  // MARK: Characters

  /// A byte over 0x7F outside strings: a character, or in eight-bit mode also a C1 control. Ends any sequence.
  private mutating func highByte(_ byte: UInt8) -> Action {
    state = .ground
    guard decodesUTF8 else { return byte < 0xA0 ? control1(byte) : .print(UInt32(byte)) }
    utf8Lowest = 0x80
    utf8Highest = 0xBF
    switch byte {
    case 0xC2...0xDF:
      utf8Needed = 1
      utf8Scalar = UInt32(byte & 0x1F)
    case 0xE0...0xEF:
      utf8Needed = 2
      utf8Scalar = UInt32(byte & 0x0F)
      if byte == 0xE0 { utf8Lowest = 0xA0 }
      if byte == 0xED { utf8Highest = 0x9F }
    case 0xF0...0xF4:
      utf8Needed = 3
      utf8Scalar = UInt32(byte & 0x07)
      if byte == 0xF0 { utf8Lowest = 0x90 }
      if byte == 0xF4 { utf8Highest = 0x8F }
    default:
      return .print(0xFFFD)
    }
    return .none
  }

  private mutating func continueCharacter(_ byte: UInt8) -> Action {
    guard utf8Lowest...utf8Highest ~= byte else {
      utf8Needed = 0
      return .replaceAndRetry
    }
    utf8Lowest = 0x80
    utf8Highest = 0xBF
    utf8Scalar = utf8Scalar << 6 | UInt32(byte & 0x3F)
    utf8Needed -= 1
    guard utf8Needed == 0 else { return .none }
    // A state that was decoded from a file may hold nonsense.
    guard utf8Scalar >= 0x80, Unicode.Scalar(utf8Scalar) != nil else { return .print(0xFFFD) }
    return utf8Scalar < 0xA0 ? control1(UInt8(utf8Scalar)) : .print(utf8Scalar)
  }

  /// A C1 control, 0x80...0x9F: the same as ESC and the character 0x40 below.
  private mutating func control1(_ byte: UInt8) -> Action {
    beginEscape()
    return escape(byte - 0x40)
  }

  // MARK: Sequences

  private mutating func escape(_ byte: UInt8) -> Action {
    switch byte {
    case 0x00..<0x20: return .execute(byte)
    case 0x20...0x2F:
      collect(byte)
      state = .escapeIntermediate
      return .none
    case 0x7F...: return .none
    default: break
    }
    if state == .escape {
      switch byte {
      case 0x5B:
        state = .csiEntry
        return .none
      case 0x50:
        state = .dcsEntry
        return .none
      case 0x5D:
        beginString(.oscString)
        return .none
      case 0x58, 0x5E, 0x5F:
        state = .ignoredString
        return .none
      default: break
      }
    }
    state = .ground
    return .escape(final: byte)
  }

  private mutating func collect(_ byte: UInt8) {
    intermediates = intermediates << 8 | UInt16(byte)
  }

  private mutating func controlSequence(_ byte: UInt8) -> Action {
    switch byte {
    case 0x00..<0x20: return .execute(byte)
    case 0x7F...: return .none
    case 0x40...0x7E:
      let ignored = state == .csiIgnore
      state = .ground
      if ignored { return .none }
      if parameters.isEmpty { parameters.append(0) }
      return .controlSequence(final: byte)
    default: break
    }
    if state == .csiIgnore { return .none }
    state = parameterState(
      byte, entry: state == .csiEntry, intermediate: state == .csiIntermediate,
      states: (.csiParameter, .csiIntermediate, .csiIgnore))
    return .none
  }

  /// The part that CSI and DCS share: prefix, parameters and intermediates.
  private mutating func parameterState(
    _ byte: UInt8, entry: Bool, intermediate: Bool,
    states: (parameter: State, intermediate: State, ignore: State)
  ) -> State {
    switch byte {
    case 0x20...0x2F:
      if intermediates > 0xFF { return states.ignore }
      collect(byte)
      return states.intermediate
    case 0x3C...0x3F:
      guard entry else { return states.ignore }
      prefix = byte
      return states.parameter
    default:
      if intermediate { return states.ignore }
      return parameter(byte) ? states.parameter : states.ignore
    }
  }

  /// A digit, `;` or `:`. False when there are more parameters than any sequence has.
  private mutating func parameter(_ byte: UInt8) -> Bool {
    if parameters.isEmpty { parameters.append(0) }
    guard byte < 0x3A else {
      guard parameters.count < Self.maximumParameters else { return false }
      if byte == 0x3A { colons |= 1 << UInt32(parameters.count) }
      parameters.append(0)
      return true
    }
    let last = parameters.count - 1
    let value = UInt32(parameters[last]) * 10 + UInt32(byte - 0x30)
    parameters[last] = UInt16(min(value, 0xFFFF))
    return true
  }

  // MARK: Strings

  private mutating func beginString(_ state: State) {
    string.removeAll(keepingCapacity: string.capacity <= Self.maximumDeviceControlString)
    stringOverflowed = false
    self.state = state
  }

  private mutating func deviceControl(_ byte: UInt8) -> Action {
    switch byte {
    case 0x00..<0x20, 0x7F...: return .none
    case 0x40...0x7E:
      if parameters.isEmpty { parameters.append(0) }
      deviceControlFinal = byte
      deviceControlIntermediates = intermediates
      beginString(.dcsPassthrough)
      return .none
    default:
      state = parameterState(
        byte, entry: state == .dcsEntry, intermediate: state == .dcsIntermediate,
        states: (.dcsParameter, .dcsIntermediate, .dcsIgnore))
      return .none
    }
  }

  private mutating func string(_ byte: UInt8) -> Action {
    // Only in eight-bit mode is 0x9C the terminator; in UTF-8 it is a part of many characters.
    if byte == 0x9C && !decodesUTF8 || byte == 0x07 && state == .oscString {
      let action = endOfString()
      state = .ground
      return action
    }
    guard state == .oscString || state == .dcsPassthrough else { return .none }
    let limit = state == .oscString ? Self.maximumString : Self.maximumDeviceControlString
    if string.count >= limit {
      stringOverflowed = true
    } else if byte >= 0x20 && byte != 0x7F {
      string.append(byte)
    }
    return .none
  }

  private mutating func endOfString() -> Action {
    guard !stringOverflowed else { return .none }
    switch state {
    case .oscString: return .operatingSystemCommand
    case .dcsPassthrough: return .deviceControl
    default: return .none
    }
  }

  /// The first broken rule, or nil.
  func violatedInvariant() -> String? {
    if parameters.count > Self.maximumParameters { return "too many parameters" }
    if string.count > Self.maximumString { return "string too long" }
    if utf8Needed > 3 { return "character too long" }
    if utf8Needed > 0 && (state != .ground || !decodesUTF8) { return "character inside a sequence" }
    return nil
  }
}
