// How many cells a code point takes: 0 for marks that join the cell before them, 2 for East Asian wide and emoji, else 1.
// Source: Unicode Standard Annex 11 (East Asian Width) and the general categories Mn, Me and Cf.

/// The width rule that layout and emulator share.
public enum CharacterWidth {
  /// Cells that a scalar value takes: 0, 1 or 2. Control characters count as 0.
  @inline(__always)
  public static func cells(of scalar: UInt32) -> Int {
    if scalar < 0x300 { return scalar >= 0x20 && !(0x7F..<0xA0 ~= scalar) ? 1 : 0 }
    return cellsBeyondLatin(scalar)
  }

  private static func cellsBeyondLatin(_ scalar: UInt32) -> Int {
    switch scalar {
    case 0x3250...0x4DBF, 0x4E00...0xA4C6, 0xAC00...0xD7A3: return 2
    case 0x16FF0...0x18CD5, 0x20000...0x3FFFD: return 2
    case 0xE0000...0xE0FFF: return 0
    default: break
    }
    if contains(CharacterWidthTables.zeroWidth, scalar) { return 0 }
    // Nothing below Hangul Jamo is wide.
    if scalar < 0x1100 { return 1 }
    return contains(CharacterWidthTables.wide, scalar) ? 2 : 1
  }

  /// Cells that a grapheme cluster takes on this terminal, for layout code that measures strings.
  public static func cells(of character: Character) -> Int {
    var width = 0
    var count = 0
    for scalar in character.unicodeScalars {
      if scalar.value == GraphemeRule.emojiPresentation && width == 1 {
        width = 2
      } else {
        width = max(width, cells(of: scalar.value))
      }
      count += 1
    }
    if count == 2, let first = character.unicodeScalars.first,
      GraphemeRule.isRegionalIndicator(first.value)
    {
      return 2
    }
    return width
  }

  private static func contains(_ table: [UInt32], _ scalar: UInt32) -> Bool {
    var low = 0
    var high = table.count
    while low < high {
      let middle = (low &+ high) >> 1
      let entry = table[middle]
      let start = entry >> 11
      if scalar < start {
        high = middle
      } else if scalar > start &+ (entry & 0x7FF) {
        low = middle &+ 1
      } else {
        return true
      }
    }
    return false
  }
}

/// Which code points continue the grapheme cluster before them (a part of UAX 29 that needs no tables).
enum GraphemeRule {
  static let zeroWidthJoiner: UInt32 = 0x200D
  static let textPresentation: UInt32 = 0xFE0E
  static let emojiPresentation: UInt32 = 0xFE0F

  static func isRegionalIndicator(_ scalar: UInt32) -> Bool { 0x1F1E6...0x1F1FF ~= scalar }

  static func isSkinTone(_ scalar: UInt32) -> Bool { 0x1F3FB...0x1F3FF ~= scalar }

  /// Whether a code point may stand after a joiner or before a skin tone.
  static func isPictograph(_ scalar: UInt32) -> Bool {
    switch scalar {
    case 0x1F000...0x1FAFF, 0x2190...0x2BFF, 0x3030, 0x303D, 0x3297, 0x3299, 0xA9, 0xAE,
      0x203C, 0x2049, 0x2122, 0x2139:
      return true
    default: return false
    }
  }

  /// Whether VS16 may turn a narrow code point into a wide emoji.
  static func hasEmojiVariation(_ scalar: UInt32) -> Bool {
    isPictograph(scalar) || scalar == 0x23 || scalar == 0x2A || 0x30...0x39 ~= scalar
  }
}
