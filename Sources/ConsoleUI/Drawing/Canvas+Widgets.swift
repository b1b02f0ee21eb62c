// Lines, frames and charts that several views share.

extension Canvas {
  /// A frame around the edge of the rectangle, with a title in its top line.
  package mutating func frame(
    _ rectangle: Rectangle, title: String = "", glyphs: GlyphSet, border: Style,
    titleStyle: Style
  ) {
    guard rectangle.rows >= 2, rectangle.columns >= 2 else { return }
    let bottom = rectangle.endRow - 1
    let right = rectangle.endColumn - 1
    for column in rectangle.column..<right {
      set(glyphs.horizontal, row: rectangle.row, column: column, style: border)
      set(glyphs.horizontal, row: bottom, column: column, style: border)
    }
    for row in rectangle.row..<bottom {
      set(glyphs.vertical, row: row, column: rectangle.column, style: border)
      set(glyphs.vertical, row: row, column: right, style: border)
    }
    set(glyphs.topLeft, row: rectangle.row, column: rectangle.column, style: border)
    set(glyphs.topRight, row: rectangle.row, column: right, style: border)
    set(glyphs.bottomLeft, row: bottom, column: rectangle.column, style: border)
    set(glyphs.bottomRight, row: bottom, column: right, style: border)
    guard !title.isEmpty, rectangle.columns > 6 else { return }
    let text = " " + title.clipped(to: rectangle.columns - 6, ellipsis: glyphs.ellipsis) + " "
    put(text, row: rectangle.row, column: rectangle.column + 2, style: titleStyle)
  }

  /// Text at the right end of a row's part; returns the column where it begins.
  @discardableResult
  package mutating func putRight(_ text: String, row: Int, end: Int, style: Style) -> Int {
    let column = end - text.cellWidth
    put(text, row: row, column: column, style: style)
    return column
  }

  /// The last samples of a series as bars of one cell each, newest at the right.
  ///
  /// - Parameters:
  ///   - values: 0 to 1 each, oldest first.
  ///   - colors: Styles for low, middle and high values.
  package mutating func sparkline(
    _ values: some BidirectionalCollection<Double>, row: Int, column: Int, columns: Int,
    glyphs: GlyphSet, colors: (low: Style, middle: Style, high: Style)
  ) {
    var place = column + columns - 1
    for value in values.reversed() {
      guard place >= column else { return }
      let level = value <= 0.004 ? 0 : 1 + Int((min(1, value) * 7).rounded())
      let style = value < 0.5 ? colors.low : value < 0.8 ? colors.middle : colors.high
      set(glyphs.bar(min(8, level)), row: row, column: place, style: style)
      place -= 1
    }
  }

  /// A horizontal bar for a share from 0 to 1.
  package mutating func meter(
    _ share: Double, row: Int, column: Int, columns: Int, glyphs: GlyphSet,
    colors: (low: Style, middle: Style, high: Style)
  ) {
    guard columns > 0 else { return }
    let filled = Int((min(1, max(0, share)) * Double(columns)).rounded())
    for place in 0..<filled {
      let part = Double(place) / Double(columns)
      let style = part < 0.5 ? colors.low : part < 0.8 ? colors.middle : colors.high
      set(glyphs.meter, row: row, column: column + place, style: style)
    }
  }

  /// A chart of several rows, newest sample at the right, two samples in a cell (braille) or one (ASCII).
  package mutating func chart(
    _ values: [Double], in area: Rectangle, glyphs: GlyphSet,
    colors: (low: Style, middle: Style, high: Style)
  ) {
    guard !area.isEmpty else { return }
    let perCell = glyphs == .unicode ? 2 : 1
    let shown = Array(values.suffix(area.columns * perCell))
    let steps = glyphs == .unicode ? 4 : 1
    let top = area.rows * steps
    let missing = area.columns * perCell - shown.count
    for cellColumn in 0..<area.columns {
      let heights = (0..<perCell).map { part -> Int in
        let index = cellColumn * perCell + part - missing
        guard index >= 0, index < shown.count else { return 0 }
        let value = min(1, max(0, shown[index]))
        return value <= 0.004 ? 0 : max(1, Int((value * Double(top)).rounded()))
      }
      for line in 0..<area.rows {
        let floor = (area.rows - 1 - line) * steps
        let levels = heights.map { min(steps, max(0, $0 - floor)) }
        guard levels.contains(where: { $0 > 0 }) else { continue }
        let share = Double(floor) / Double(top)
        let style = share < 0.5 ? colors.low : share < 0.8 ? colors.middle : colors.high
        let text: Character =
          glyphs == .unicode ? Self.braille(left: levels[0], right: levels[1]) : "#"
        set(text, row: area.row + line, column: area.column + cellColumn, style: style)
      }
    }
  }

  /// A braille pattern (Unicode block 2800) filled from below, 0 to 4 dots in each column.
  private static func braille(left: Int, right: Int) -> Character {
    let leftDots: [UInt32] = [0, 0x40, 0x44, 0x46, 0x47]
    let rightDots: [UInt32] = [0, 0x80, 0xA0, 0xB0, 0xB8]
    let value = 0x2800 + leftDots[min(4, max(0, left))] + rightDots[min(4, max(0, right))]
    return Unicode.Scalar(value).map { Character($0) } ?? "#"
  }

  /// A thumb at the right edge that shows which part of a longer list is seen.
  package mutating func scrollBar(
    in area: Rectangle, first: Int, total: Int, glyphs: GlyphSet, style: Style
  ) {
    guard total > area.rows, area.rows > 0 else { return }
    let length = max(1, area.rows * area.rows / total)
    let free = area.rows - length
    let span = max(1, total - area.rows)
    let start = min(free, (first * free + span / 2) / span)
    for row in start..<(start + length) {
      set(glyphs.scrollThumb, row: area.row + row, column: area.endColumn - 1, style: style)
    }
  }
}
