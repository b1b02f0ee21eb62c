// What SM, RM, DECSET and DECRST switch, by the numbers of the VT220 manual (chapter 4) and xterm's control sequences.

/// The switches of a terminal.
public struct Modes: OptionSet, Hashable, Sendable, Codable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// ANSI 2, KAM.
  public static let keyboardLocked = Modes(rawValue: 1 << 0)
  /// ANSI 4, IRM.
  public static let insert = Modes(rawValue: 1 << 1)
  /// ANSI 12, SRM: set means that the terminal does not echo what is typed.
  public static let noLocalEcho = Modes(rawValue: 1 << 2)
  /// ANSI 20, LNM: a line feed also returns the carriage.
  public static let newLine = Modes(rawValue: 1 << 3)
  /// 1, DECCKM.
  public static let applicationCursorKeys = Modes(rawValue: 1 << 4)
  /// 5, DECSCNM.
  public static let reverseVideo = Modes(rawValue: 1 << 5)
  /// 6, DECOM.
  public static let origin = Modes(rawValue: 1 << 6)
  /// 7, DECAWM.
  public static let autowrap = Modes(rawValue: 1 << 7)
  /// 12.
  public static let cursorBlinking = Modes(rawValue: 1 << 8)
  /// 25, DECTCEM.
  public static let cursorVisible = Modes(rawValue: 1 << 9)
  /// 45: backspace at the left edge goes to the end of the line above when that one wrapped.
  public static let reverseWrap = Modes(rawValue: 1 << 10)
  /// 66, DECNKM, also ESC = and ESC >.
  public static let applicationKeypad = Modes(rawValue: 1 << 11)
  /// 67, DECBKM: the backspace key sends BS, not DEL.
  public static let backarrowSendsBackspace = Modes(rawValue: 1 << 12)
  /// 1004.
  public static let focusEvents = Modes(rawValue: 1 << 13)
  /// 1007: the wheel sends cursor keys on the alternate screen.
  public static let alternateScroll = Modes(rawValue: 1 << 14)
  /// 2004.
  public static let bracketedPaste = Modes(rawValue: 1 << 15)
  /// 2026: the guest is in the middle of a frame; a viewer may wait for its end.
  public static let synchronizedUpdate = Modes(rawValue: 1 << 16)
  /// 2027: joined emoji take the cells of one.
  public static let graphemeClusters = Modes(rawValue: 1 << 17)

  static let initial: Modes = [
    .noLocalEcho, .autowrap, .cursorVisible, .alternateScroll, .graphemeClusters,
  ]

  static func ansi(_ number: UInt16) -> Modes? {
    switch number {
    case 2: .keyboardLocked
    case 4: .insert
    case 12: .noLocalEcho
    case 20: .newLine
    default: nil
    }
  }

  static let privateNumbers: [(UInt16, Modes)] = [
    (1, .applicationCursorKeys), (5, .reverseVideo), (6, .origin), (7, .autowrap),
    (12, .cursorBlinking), (25, .cursorVisible), (45, .reverseWrap), (66, .applicationKeypad),
    (67, .backarrowSendsBackspace), (1004, .focusEvents), (1007, .alternateScroll),
    (2004, .bracketedPaste), (2026, .synchronizedUpdate), (2027, .graphemeClusters),
  ]

  static func privateMode(_ number: UInt16) -> Modes? {
    privateNumbers.first { $0.0 == number }?.1
  }
}

/// Which mouse actions the guest asked to hear of.
public enum MouseTracking: UInt16, Sendable, Codable {
  case off = 0
  /// 9: presses only.
  case x10 = 9
  /// 1000: presses and releases.
  case normal = 1000
  /// 1002: also motion while a button is down.
  case buttonMotion = 1002
  /// 1003: all motion.
  case anyMotion = 1003
}

/// How mouse reports are written.
public enum MouseEncoding: UInt16, Sendable, Codable {
  case legacy = 0
  case utf8 = 1005
  case sgr = 1006
  case urxvt = 1015
}

/// DECSCUSR.
public enum CursorShape: UInt8, Sendable, Codable {
  case standard = 0
  case block = 1
  case underline = 3
  case bar = 5
}

/// The character sets that can be designated into G0 to G3 (ECMA-35).
enum CharacterSet: UInt8, Sendable, Codable {
  case ascii
  case british
  /// DEC Special Graphics: line drawing.
  case specialGraphics
  /// DEC Supplemental and ISO Latin-1: the upper half of eight-bit codes.
  case supplemental

  /// DEC Special Graphics for 0x5F...0x7E (VT220 programmer reference, table 2-4).
  private static let graphics: [UInt32] = [
    0xA0, 0x25C6, 0x2592, 0x2409, 0x240C, 0x240D, 0x240A, 0xB0, 0xB1, 0x2424, 0x240B, 0x2518,
    0x2510, 0x250C, 0x2514, 0x253C, 0x23BA, 0x23BB, 0x2500, 0x23BC, 0x23BD, 0x251C, 0x2524,
    0x2534, 0x252C, 0x2502, 0x2264, 0x2265, 0x3C0, 0x2260, 0xA3, 0xB7,
  ]

  /// The Unicode scalar for a seven-bit code 0x20...0x7E.
  func scalar(for code: UInt32) -> UInt32 {
    switch self {
    case .ascii: code
    case .british: code == 0x23 ? 0xA3 : code
    case .specialGraphics: code >= 0x5F && code <= 0x7E ? Self.graphics[Int(code) - 0x5F] : code
    case .supplemental: code + 0x80
    }
  }

  /// The set that a designator's final byte names; the standard's default for sets we do not have is ASCII.
  init(final: UInt8, has96Characters: Bool, intermediate: UInt8) {
    if has96Characters {
      self = final == 0x41 ? .supplemental : .ascii
    } else if intermediate == 0x25 {
      self = final == 0x35 ? .supplemental : .ascii
    } else {
      switch final {
      case 0x41: self = .british
      case 0x30, 0x32: self = .specialGraphics
      case 0x3C: self = .supplemental
      default: self = .ascii
      }
    }
  }

  /// The bytes after ESC that designate this set into G0...G3.
  func designation(slot: Int) -> [UInt8] {
    switch self {
    case .ascii: [0x28 + UInt8(slot), 0x42]
    case .british: [0x28 + UInt8(slot), 0x41]
    case .specialGraphics: [0x28 + UInt8(slot), 0x30]
    case .supplemental: [0x28 + UInt8(slot), 0x3C]
    }
  }
}

/// G0 to G3 and which of them the two halves of the code table show.
struct CharacterSets: Hashable, Sendable, Codable {
  private var g0 = CharacterSet.ascii
  private var g1 = CharacterSet.ascii
  private var g2 = CharacterSet.supplemental
  private var g3 = CharacterSet.supplemental
  /// 0...3: the set for codes 0x20...0x7E.
  var left = 0
  /// 0...3: the set for codes 0xA0...0xFF in eight-bit mode.
  var right = 2
  /// SS2, SS3: the set for the next character only.
  var single: Int?

  subscript(slot: Int) -> CharacterSet {
    get {
      switch slot {
      case 0: g0
      case 1: g1
      case 2: g2
      default: g3
      }
    }
    set {
      switch slot {
      case 0: g0 = newValue
      case 1: g1 = newValue
      case 2: g2 = newValue
      default: g3 = newValue
      }
    }
  }

  /// Whether a run of ASCII shows as itself.
  var showsPlainASCII: Bool { single == nil && self[left] == .ascii }

  var isValid: Bool { 0...3 ~= left && 0...3 ~= right && 0...3 ~= (single ?? 0) }
}
