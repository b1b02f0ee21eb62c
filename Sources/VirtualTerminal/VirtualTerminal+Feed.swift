// Bytes from the guest: the fast road for plain text, the parser for all else.

extension VirtualTerminal {
  /// Takes bytes from the guest. They may be cut anywhere; nothing that they hold is an error.
  public mutating func feed(_ bytes: UnsafeRawBufferPointer) {
    let before = cursor
    var index = 0
    let count = bytes.count
    while index < count {
      let byte = bytes[index]
      if parser.isIdle {
        if byte &- 0x20 < 0x5F {
          let end = Self.endOfPlainRun(bytes, from: index)
          if sets.showsPlainASCII && !modes.contains(.insert) {
            printPlain(UnsafeRawBufferPointer(rebasing: bytes[index..<end]))
          } else {
            for position in index..<end { print(code: UInt32(bytes[position])) }
          }
          index = end
          continue
        }
        if byte < 0x20 {
          if byte == 0x1B { parser.beginEscape() } else { execute(byte) }
          index &+= 1
          continue
        }
        if let (scalar, length) = Self.wholeCharacter(bytes, at: index, utf8: parser.decodesUTF8) {
          print(scalar)
          index &+= length
          continue
        }
      }
      perform(parser.advance(byte), retrying: byte)
      index &+= 1
    }
    if cursor != before { damage.cursor = true }
  }

  /// Takes bytes from the guest.
  public mutating func feed(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { feed($0) }
  }

  /// Takes text from the guest.
  public mutating func feed(_ text: String) {
    feed(Array(text.utf8))
  }

  /// One past the last of the bytes 0x20...0x7E from `start` on.
  private static func endOfPlainRun(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
    var index = start
    let count = bytes.count
    // Eight at a time: a byte is outside 0x20...0x7E when it, or it plus one, has its top bit set, or it is under 0x20.
    while index &+ 8 <= count {
      let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      let high = word | (word &+ 0x0101_0101_0101_0101)
      let low = (word &- 0x2020_2020_2020_2020) & ~word
      if (high | low) & 0x8080_8080_8080_8080 != 0 { break }
      index &+= 8
    }
    while index < count, bytes[index] &- 0x20 < 0x5F { index &+= 1 }
    return index
  }

  /// A character of two or three bytes that lies whole and valid in the buffer and is not a control.
  @inline(__always)
  private static func wholeCharacter(
    _ bytes: UnsafeRawBufferPointer, at index: Int, utf8: Bool
  ) -> (UInt32, Int)? {
    guard utf8, index &+ 2 < bytes.count else { return nil }
    let first = UInt32(bytes[index])
    let second = UInt32(bytes[index &+ 1])
    guard second & 0xC0 == 0x80 else { return nil }
    if first & 0xE0 == 0xC0 {
      let scalar = (first & 0x1F) << 6 | second & 0x3F
      return scalar >= 0xA0 ? (scalar, 2) : nil
    }
    let third = UInt32(bytes[index &+ 2])
    guard first & 0xF0 == 0xE0, third & 0xC0 == 0x80 else { return nil }
    let scalar = (first & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F
    return scalar >= 0x800 && scalar & 0xF800 != 0xD800 ? (scalar, 3) : nil
  }

  private mutating func perform(_ action: Parser.Action, retrying byte: UInt8) {
    switch action {
    case .none: break
    case .print(let scalar):
      if scalar < 0x80 { print(code: scalar) } else { printHigh(scalar) }
    case .replaceAndRetry:
      print(0xFFFD)
      perform(parser.advance(byte), retrying: byte)
    case .execute(let control): execute(control)
    case .escape(let final): escapeSequence(final)
    case .controlSequence(let final): controlSequence(final)
    case .operatingSystemCommand: operatingSystemCommand()
    case .deviceControl: deviceControl()
    }
  }

  /// A single byte over 0x9F in eight-bit mode shows the right half of the code table; else it is a scalar.
  private mutating func printHigh(_ scalar: UInt32) {
    if !parser.decodesUTF8 && scalar >= 0xA0 && scalar <= 0xFF {
      let set = sets[sets.right]
      print(scalar == 0xA0 || scalar == 0xFF ? scalar : set.scalar(for: scalar - 0x80))
    } else {
      print(scalar)
    }
  }

  /// A C0 control (VT220 manual, table 2-1 and chapter 4).
  mutating func execute(_ control: UInt8) {
    switch control {
    case 0x07: bellCount &+= 1
    case 0x08: backspace()
    case 0x09: tabForward(1)
    case 0x0A, 0x0B, 0x0C:
      index()
      if modes.contains(.newLine) { carriageReturn() }
    case 0x0D: carriageReturn()
    case 0x0E: sets.left = 1
    case 0x0F: sets.left = 0
    default: break
    }
  }
}
