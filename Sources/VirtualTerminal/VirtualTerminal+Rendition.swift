// SGR: ECMA-48 8.3.117, with the 256 colours and direct colours of ISO 8613-6 in both spellings, `38;5;n` and `38:5:n`.

extension VirtualTerminal {
  mutating func setPenAttribute(_ attribute: Attributes, _ on: Bool) {
    if on { pen.attributes.insert(attribute) } else { pen.attributes.remove(attribute) }
  }

  /// SGR with the parameters of the sequence.
  mutating func selectGraphicRendition() {
    var index = 0
    let count = parser.parameters.count
    while index < count {
      // Sub-parameters after a colon belong to the parameter before them.
      var end = index + 1
      while end < count, parser.colons >> UInt32(end) & 1 != 0 { end += 1 }
      index = rendition(at: index, end: end)
    }
  }

  /// Applies the parameter at `index`, whose sub-parameters reach to `end`; returns where the next one begins.
  private mutating func rendition(at index: Int, end: Int) -> Int {
    let number = parameter(index)
    switch number {
    case 0:
      let isProtected = pen.attributes.contains(.protected)
      pen = Pen()
      setPenAttribute(.protected, isProtected)
    case 1: pen.attributes.insert(.bold)
    case 2: pen.attributes.insert(.dim)
    case 3: pen.attributes.insert(.italic)
    case 4: setUnderline(end > index + 1 ? parameter(index + 1) : 1)
    case 5, 6: pen.attributes.insert(.blink)
    case 7: pen.attributes.insert(.inverse)
    case 8: pen.attributes.insert(.invisible)
    case 9: pen.attributes.insert(.strikethrough)
    case 21: setUnderline(2)
    case 22: pen.attributes.subtract([.bold, .dim])
    case 23: pen.attributes.remove(.italic)
    case 24: setUnderline(0)
    case 25: pen.attributes.remove(.blink)
    case 27: pen.attributes.remove(.inverse)
    case 28: pen.attributes.remove(.invisible)
    case 29: pen.attributes.remove(.strikethrough)
    case 30...37: pen.foreground = .indexed(UInt8(number - 30))
    case 39: pen.foreground = .standard
    case 40...47: pen.background = .indexed(UInt8(number - 40))
    case 49: pen.background = .standard
    case 53: pen.attributes.insert(.overline)
    case 55: pen.attributes.remove(.overline)
    case 90...97: pen.foreground = .indexed(UInt8(number - 90 + 8))
    case 100...107: pen.background = .indexed(UInt8(number - 100 + 8))
    case 38, 48, 58:
      let (color, next) = extendedColor(at: index, end: end)
      if let color {
        if number == 38 { pen.foreground = color }
        if number == 48 { pen.background = color }
      }
      return next
    default: break
    }
    return end
  }

  private mutating func setUnderline(_ style: UInt16) {
    pen.attributes.subtract(.underlineStyles)
    setPenAttribute(.underline, style != 0)
    switch style {
    case 2: pen.attributes.insert(.doubleUnderline)
    case 3: pen.attributes.insert(.curlyUnderline)
    case 4: pen.attributes.insert(.dottedUnderline)
    case 5: pen.attributes.insert(.dashedUnderline)
    default: break
    }
  }

  /// The colour after 38, 48 or 58, and where the next parameter begins.
  private func extendedColor(at index: Int, end: Int) -> (Color?, Int) {
    if end > index + 1 {
      // Colons: 38:5:n, 38:2:r:g:b or, with a colour space, 38:2:space:r:g:b.
      let count = end - index - 1
      switch parameter(index + 1) {
      case 5 where count >= 2: return (indexed(parameter(index + 2)), end)
      case 2 where count >= 5: return (direct(at: index + 3), end)
      case 2 where count >= 4: return (direct(at: index + 2), end)
      default: return (nil, end)
      }
    }
    switch parameter(index + 1) {
    case 5: return (indexed(parameter(index + 2)), index + 3)
    case 2: return (direct(at: index + 2), index + 5)
    default: return (nil, index + 2)
    }
  }

  private func indexed(_ number: UInt16) -> Color? { UInt8(exactly: number).map(Color.indexed) }

  private func direct(at index: Int) -> Color? {
    guard let red = UInt8(exactly: parameter(index)),
      let green = UInt8(exactly: parameter(index + 1)),
      let blue = UInt8(exactly: parameter(index + 2))
    else { return nil }
    return .direct(red: red, green: green, blue: blue)
  }

  /// The SGR parameters that make this pen out of any other.
  static func renditionParameters(_ pen: Pen) -> String {
    var parts = ["0"]
    let plain: [(Attributes, String)] = [
      (.bold, "1"), (.dim, "2"), (.italic, "3"), (.blink, "5"), (.inverse, "7"),
      (.invisible, "8"), (.strikethrough, "9"), (.overline, "53"),
    ]
    for (attribute, number) in plain where pen.attributes.contains(attribute) {
      parts.append(number)
    }
    if pen.attributes.contains(.underline) {
      let style =
        pen.attributes.contains(.doubleUnderline)
        ? "4:2"
        : pen.attributes.contains(.curlyUnderline)
          ? "4:3"
          : pen.attributes.contains(.dottedUnderline)
            ? "4:4" : pen.attributes.contains(.dashedUnderline) ? "4:5" : "4"
      parts.append(style)
    }
    parts += colorParameters(pen.foreground, base: 30)
    parts += colorParameters(pen.background, base: 40)
    return parts.joined(separator: ";")
  }

  private static func colorParameters(_ color: Color, base: Int) -> [String] {
    switch color.kind {
    case .standard: []
    case .indexed(let index):
      index < 8
        ? ["\(base + Int(index))"]
        : index < 16 ? ["\(base + 60 + Int(index) - 8)"] : ["\(base + 8);5;\(index)"]
    case .direct(let red, let green, let blue): ["\(base + 8);2;\(red);\(green);\(blue)"]
    }
  }
}
