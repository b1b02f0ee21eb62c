// Colours of a theme brought down to what a terminal shows: direct, the xterm palette of 256, the 16 or 8 colours of
// ECMA-48 and aixterm, or none. The palette is never redefined: it belongs to the user.

extension Color {
  /// The nearest colour that a terminal of this depth can show.
  package func reduced(to depth: ColorDepth) -> Color {
    switch (self, depth) {
    case (.standard, _), (_, .monochrome):
      return .standard
    case (_, .direct):
      return self
    case (.indexed, .palette):
      return self
    case (.rgb(let red, let green, let blue), .palette):
      return .indexed(XtermPalette.nearest(red: red, green: green, blue: blue))
    case (.indexed(let index), .sixteen) where index < 16:
      return self
    case (.indexed(let index), .eight) where index < 16:
      return .indexed(index & 7)
    case (_, .sixteen), (_, .eight):
      let (red, green, blue) = components
      let count: UInt8 = depth == .eight ? 8 : 16
      return .indexed(XtermPalette.nearestBasic(of: count, red: red, green: green, blue: blue))
    }
  }

  /// Red, green and blue, 0-255 each. For the terminal's own colour: black.
  package var components: (red: UInt8, green: UInt8, blue: UInt8) {
    switch self {
    case .standard: (0, 0, 0)
    case .indexed(let index): XtermPalette.components(of: index)
    case .rgb(let red, let green, let blue): (red, green, blue)
    }
  }

  /// Relative luminance, 0 (black) to 1 (white), as WCAG 2.1 defines it with gamma taken as 2.
  package var luminance: Double {
    let (red, green, blue) = components
    func linear(_ value: UInt8) -> Double { (Double(value) / 255) * (Double(value) / 255) }
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
  }
}

/// The palette of 256 colours that xterm made common.
enum XtermPalette {
  private static let levels: [UInt8] = [0, 95, 135, 175, 215, 255]
  /// xterm's defaults for the sixteen colours a user may have changed.
  private static let basic: [(UInt8, UInt8, UInt8)] = [
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205),
    (229, 229, 229), (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255),
    (255, 0, 255), (0, 255, 255), (255, 255, 255),
  ]

  static func components(of index: UInt8) -> (red: UInt8, green: UInt8, blue: UInt8) {
    if index < 16 {
      let (red, green, blue) = basic[Int(index)]
      return (red, green, blue)
    }
    if index >= 232 {
      let grey = 8 + 10 * (index - 232)
      return (grey, grey, grey)
    }
    let cube = Int(index) - 16
    return (levels[cube / 36], levels[cube / 6 % 6], levels[cube % 6])
  }

  static func nearest(red: UInt8, green: UInt8, blue: UInt8) -> UInt8 {
    let steps = [red, green, blue].map(nearestLevel)
    let cube = UInt8(16 + 36 * steps[0] + 6 * steps[1] + steps[2])
    let average = (Int(red) + Int(green) + Int(blue)) / 3
    let grey = UInt8(232 + min(23, max(0, (average - 3) / 10)))
    let target = (red, green, blue)
    return distance(components(of: grey), target) < distance(components(of: cube), target)
      ? grey : cube
  }

  /// The nearest of the first 8 or 16 colours.
  static func nearestBasic(of count: UInt8, red: UInt8, green: UInt8, blue: UInt8) -> UInt8 {
    var best: UInt8 = 0
    var least = Int.max
    for index in UInt8(0)..<count {
      let far = distance(components(of: index), (red, green, blue))
      if far < least { (best, least) = (index, far) }
    }
    return best
  }

  private static func nearestLevel(_ value: UInt8) -> Int {
    if value < 48 { return 0 }
    if value < 115 { return 1 }
    return min(5, (Int(value) - 35) / 40)
  }

  private static func distance(
    _ a: (red: UInt8, green: UInt8, blue: UInt8), _ b: (UInt8, UInt8, UInt8)
  ) -> Int {
    let red = Int(a.red) - Int(b.0)
    let green = Int(a.green) - Int(b.1)
    let blue = Int(a.blue) - Int(b.2)
    return red * red + green * green + blue * blue
  }
}
