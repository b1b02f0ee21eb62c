// What the guest asks and the terminal answers. Answers hold only what the terminal itself knows, never text that the
// guest stored (a title, a clipboard): that would let output type commands.

extension VirtualTerminal {
  /// DA: a VT220 with selective erase, DEC's national sets and colour.
  mutating func deviceAttributes() { answer("\u{1B}[?62;6;22c") }

  /// DA2: a VT220, firmware 10, no ROM cartridge.
  mutating func secondaryDeviceAttributes() {
    if parameter(0) == 0 { answer("\u{1B}[>1;10;0c") }
  }

  /// DA3: the unit's number.
  mutating func tertiaryDeviceAttributes() { answer("\u{1B}P!|00000000\u{1B}\\") }

  /// XTVERSION.
  mutating func reportVersion() { answer("\u{1B}P>|underjack(1)\u{1B}\\") }

  /// DSR: 5 health, 6 the cursor's place.
  mutating func deviceStatus(_ number: UInt16) {
    switch number {
    case 5: answer("\u{1B}[0n")
    case 6:
      let (row, column) = reportedPlace
      answer("\u{1B}[\(row);\(column)R")
    default: break
    }
  }

  /// DSR of DEC: printer, user-defined keys, keyboard, locator; there are none of these but a keyboard.
  mutating func privateDeviceStatus(_ number: UInt16) {
    switch number {
    case 6:
      let (row, column) = reportedPlace
      answer("\u{1B}[?\(row);\(column)R")
    case 15: answer("\u{1B}[?13n")
    case 25: answer("\u{1B}[?21n")
    case 26: answer("\u{1B}[?27;1;0;0n")
    case 53, 55: answer("\u{1B}[?53n")
    default: break
    }
  }

  /// Row and column from 1, in origin mode counted from the top margin.
  private var reportedPlace: (Int, Int) {
    let top = modes.contains(.origin) ? topMargin : 0
    return (cursor.row - top + 1, cursor.column + 1)
  }

  /// DECREQTPARM: no parity, eight bits, 38400 baud.
  mutating func reportTerminalParameters(_ number: UInt16) {
    guard number <= 1 else { return }
    answer("\u{1B}[\(number + 2);1;1;128;128;1;0x")
  }

  /// XTWINOPS: the size is told, nothing else; titles can be pushed and popped but are not told.
  mutating func windowOperation() {
    switch parameter(0) {
    case 11: answer("\u{1B}[1t")
    case 13: answer("\u{1B}[3;0;0t")
    case 18: answer("\u{1B}[8;\(rows);\(columns)t")
    case 19: answer("\u{1B}[9;\(rows);\(columns)t")
    case 20: answer("\u{1B}]L\u{1B}\\")
    case 21: answer("\u{1B}]l\u{1B}\\")
    case 22:
      if parameter(1) != 1, titleStack.count < Self.maximumTitleStack { titleStack.append(title) }
    case 23:
      if parameter(1) != 1, let last = titleStack.popLast() {
        title = last
        damage.title = true
      }
    default: break
    }
  }

  // MARK: Strings

  /// OSC: titles and the clipboard. Colours, links and what else there is are read and ignored.
  mutating func operatingSystemCommand() {
    let string = parser.string
    let digits = string.prefix { 0x30...0x39 ~= $0 }
    guard digits.count <= 4, let number = Int(String(decoding: digits, as: UTF8.self)) else {
      return
    }
    var text = string.dropFirst(digits.count)
    guard text.first == 0x3B else { return }
    text = text.dropFirst()
    switch number {
    case 0, 1, 2:
      let title = Self.cleanTitle(text)
      if number != 1 {
        self.title = title
        damage.title = true
      }
      if number != 2 { iconTitle = title }
    case 52:
      guard let separator = text.firstIndex(of: 0x3B) else { return }
      let payload = text[(separator + 1)...]
      // A question mark asks for the clipboard, which the guest does not get.
      guard payload.allSatisfy(Self.isBase64) else { return }
      clipboard = String(decoding: payload, as: UTF8.self)
    default: break
    }
  }

  private static func isBase64(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x41...0x5A, 0x61...0x7A, 0x30...0x39, 0x2B, 0x2F, 0x3D: true
    default: false
    }
  }

  /// Text from a guest that is shown outside its screen: no controls, nothing invisible, bounded.
  private static func cleanTitle(_ bytes: ArraySlice<UInt8>) -> String {
    var view = String.UnicodeScalarView()
    for scalar in String(decoding: bytes.prefix(maximumTitle), as: UTF8.self).unicodeScalars
    where CharacterWidth.cells(of: scalar.value) > 0 {
      view.append(scalar)
    }
    return String(view)
  }

  /// DCS: DECRQSS asks how something is set; XTGETTCAP is told that nothing is known.
  mutating func deviceControl() {
    switch (parser.deviceControlIntermediates, parser.deviceControlFinal) {
    case (0x24, 0x71): reportSetting(String(decoding: parser.string, as: UTF8.self))
    case (0x2B, 0x71): answer("\u{1B}P0+r\u{1B}\\")
    default: break
    }
  }

  private mutating func reportSetting(_ setting: String) {
    let value: String
    switch setting {
    case "m": value = Self.renditionParameters(pen)
    case "r": value = "\(topMargin + 1);\(bottomMargin + 1)"
    case "\"q": value = pen.attributes.contains(.protected) ? "1" : "0"
    case "\"p": value = "62;1"
    case " q": value = "\(cursorShapeNumber)"
    default:
      answer("\u{1B}P0$r\u{1B}\\")
      return
    }
    answer("\u{1B}P1$r\(value)\(setting)\u{1B}\\")
  }

  /// The parameter of DECSCUSR that makes this shape.
  var cursorShapeNumber: Int {
    let blinks = modes.contains(.cursorBlinking)
    if cursorShape == .standard { return 0 }
    return Int(cursorShape.rawValue) + (blinks ? 0 : 1)
  }
}
