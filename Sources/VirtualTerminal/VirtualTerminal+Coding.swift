// The terminal in a snapshot. What comes back is checked as a whole before it is used: a snapshot is a file that anyone
// may have edited.

extension VirtualTerminal: Codable {
  private enum Key: String, CodingKey {
    case version, grid, otherGrid, showsAlternateScreen, cursor, pen, sets, saved, otherSaved, modes
    case mouseTracking, mouseEncoding, cursorShape, modifyOtherKeys, topMargin, bottomMargin, tabs
    case savedModes, parser, clusters, lastPrinted, title, iconTitle, titleStack, bellCount, answers
  }

  private static let codingVersion = 1

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(Self.codingVersion, forKey: .version)
    try container.encode(grid, forKey: .grid)
    try container.encode(otherGrid, forKey: .otherGrid)
    try container.encode(showsAlternateScreen, forKey: .showsAlternateScreen)
    try container.encode(cursor, forKey: .cursor)
    try container.encode(pen, forKey: .pen)
    try container.encode(sets, forKey: .sets)
    try container.encode(saved, forKey: .saved)
    try container.encode(otherSaved, forKey: .otherSaved)
    try container.encode(modes, forKey: .modes)
    try container.encode(mouseTracking, forKey: .mouseTracking)
    try container.encode(mouseEncoding, forKey: .mouseEncoding)
    try container.encode(cursorShape, forKey: .cursorShape)
    try container.encode(modifyOtherKeys, forKey: .modifyOtherKeys)
    try container.encode(topMargin, forKey: .topMargin)
    try container.encode(bottomMargin, forKey: .bottomMargin)
    try container.encode(tabs, forKey: .tabs)
    try container.encode(savedModes, forKey: .savedModes)
    try container.encode(parser, forKey: .parser)
    try container.encode(clusters, forKey: .clusters)
    try container.encodeIfPresent(lastPrinted, forKey: .lastPrinted)
    try container.encode(title, forKey: .title)
    try container.encode(iconTitle, forKey: .iconTitle)
    try container.encode(titleStack, forKey: .titleStack)
    try container.encode(bellCount, forKey: .bellCount)
    try container.encode(answers, forKey: .answers)
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    let version = try container.decode(Int.self, forKey: .version)
    guard version == Self.codingVersion else {
      throw DecodingError.dataCorruptedError(
        forKey: .version, in: container,
        debugDescription: "terminal state of version \(version), this program reads 1")
    }
    grid = try container.decode(Grid.self, forKey: .grid)
    otherGrid = try container.decode(Grid.self, forKey: .otherGrid)
    showsAlternateScreen = try container.decode(Bool.self, forKey: .showsAlternateScreen)
    cursor = try container.decode(Cursor.self, forKey: .cursor)
    pen = try container.decode(Pen.self, forKey: .pen)
    sets = try container.decode(CharacterSets.self, forKey: .sets)
    saved = try container.decode(SavedCursor.self, forKey: .saved)
    otherSaved = try container.decode(SavedCursor.self, forKey: .otherSaved)
    modes = try container.decode(Modes.self, forKey: .modes)
    mouseTracking = try container.decode(MouseTracking.self, forKey: .mouseTracking)
    mouseEncoding = try container.decode(MouseEncoding.self, forKey: .mouseEncoding)
    cursorShape = try container.decode(CursorShape.self, forKey: .cursorShape)
    modifyOtherKeys = try container.decode(UInt8.self, forKey: .modifyOtherKeys)
    topMargin = try container.decode(Int.self, forKey: .topMargin)
    bottomMargin = try container.decode(Int.self, forKey: .bottomMargin)
    tabs = try container.decode(TabStops.self, forKey: .tabs)
    savedModes = try container.decode([UInt16: Bool].self, forKey: .savedModes)
    parser = try container.decode(Parser.self, forKey: .parser)
    clusters = try container.decode(GraphemeTable.self, forKey: .clusters)
    lastPrinted = try container.decodeIfPresent(UInt32.self, forKey: .lastPrinted)
    title = try container.decode(String.self, forKey: .title)
    iconTitle = try container.decode(String.self, forKey: .iconTitle)
    titleStack = try container.decode([String].self, forKey: .titleStack)
    bellCount = try container.decode(UInt64.self, forKey: .bellCount)
    answers = try container.decode([UInt8].self, forKey: .answers)
    damage = Damage(rows: grid.rows)
    if let violation = violatedInvariant() {
      throw DecodingError.dataCorruptedError(
        forKey: .grid, in: container, debugDescription: violation)
    }
  }
}

extension VirtualTerminal {
  /// The first rule that this value breaks, or nil. Slow: it looks at every cell. For tests, fuzzers and decoding.
  public func violatedInvariant() -> String? {
    if let violation = grid.violatedInvariant() ?? otherGrid.violatedInvariant() {
      return violation
    }
    let (columns, rows) = (grid.columns, grid.rows)
    guard otherGrid.columns == columns, otherGrid.rows == rows else {
      return "screens differ in size"
    }
    guard (showsAlternateScreen ? grid : otherGrid).limit == 0 else {
      return "the alternate screen has scrollback"
    }
    guard 0..<rows ~= cursor.row, 0..<columns ~= cursor.column else {
      return "cursor off the screen"
    }
    guard !cursor.wrapsNext || cursor.column == columns - 1 else {
      return "wrap pending inside a row"
    }
    for saved in [saved, otherSaved] {
      guard 0..<rows ~= saved.row, 0..<columns ~= saved.column else {
        return "saved cursor off the screen"
      }
      guard saved.pen.isValid, saved.sets.isValid else { return "saved style" }
    }
    guard topMargin >= 0, topMargin <= bottomMargin, bottomMargin < rows else { return "margins" }
    guard pen.isValid, sets.isValid, tabs.isValid else { return "style, sets or tabs" }
    guard answers.count <= Self.maximumAnswers else { return "too many answers" }
    guard titleStack.count <= Self.maximumTitleStack else { return "too many titles" }
    // A byte of a title may become a replacement character of three.
    for title in [title, iconTitle] + titleStack where title.utf8.count > Self.maximumTitle * 3 {
      return "title too long"
    }
    guard savedModes.count <= 64 else { return "too many saved modes" }
    if let last = lastPrinted, Unicode.Scalar(last) == nil { return "repeated character" }
    if let violation = parser.violatedInvariant() ?? clusters.violatedInvariant() {
      return violation
    }
    for grid in [grid, otherGrid] {
      for cell in grid.cells where cell.isCluster {
        guard Int(cell.content & ~Cell.clusterBit) < clusters.nodes.count else {
          return "cell refers to no cluster"
        }
      }
    }
    return nil
  }

  /// Stops the program when the value broke a rule: for tests and fuzzers.
  public func checkInvariants() {
    if let violation = violatedInvariant() { preconditionFailure(violation) }
  }
}
