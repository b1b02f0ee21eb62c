// Characters onto the screen: wrapping, wide characters, marks that join the cell before.

extension VirtualTerminal {
  /// Writes a run of bytes 0x20...0x7E that show as themselves.
  mutating func printPlain(_ run: UnsafeRawBufferPointer) {
    let columns = grid.columns
    var cell = pen.cell(0x20)
    var index = 0
    while index < run.count {
      if cursor.wrapsNext { wrap() }
      let row = cursor.row
      let column = cursor.column
      let count = min(run.count &- index, columns &- column)
      grid.sever(row: row, column: column)
      grid.sever(row: row, column: column &+ count)
      let base = grid.base(row: row) &+ column
      // The cells from `base` on for `count` lie in one row, so inside the buffer; `index + count` is within the run.
      grid.cells.withUnsafeMutableBufferPointer { cells in
        for offset in 0..<count {
          cell.content = UInt32(run[index &+ offset])
          cells[base &+ offset] = cell
        }
      }
      damage.mark(row: row)
      index &+= count
      advance(to: column &+ count)
    }
    lastPrinted = run.last.map(UInt32.init)
  }

  /// Moves the cursor behind what was written; at the edge it waits on the last column.
  @inline(__always)
  private mutating func advance(to column: Int) {
    if column < grid.columns {
      cursor.column = column
    } else {
      cursor.column = grid.columns &- 1
      cursor.wrapsNext = modes.contains(.autowrap)
      grid.setWraps(row: cursor.row, false)
    }
  }

  /// Begins the next line, because the one above is full.
  private mutating func wrap() {
    cursor.wrapsNext = false
    grid.setWraps(row: cursor.row, true)
    cursor.column = 0
    index()
  }

  /// Writes a seven-bit code through the character sets.
  mutating func print(code: UInt32) {
    if let single = sets.single {
      sets.single = nil
      print(sets[single].scalar(for: code))
    } else {
      print(sets[sets.left].scalar(for: code))
    }
  }

  /// Writes a scalar.
  mutating func print(_ scalar: UInt32) {
    var width = CharacterWidth.cells(of: scalar)
    if width == 0 || scalar >= 0x1F000 || modes.contains(.graphemeClusters) {
      if combine(scalar, width: width) { return }
      if width == 0 { return }
    }
    lastPrinted = scalar
    // No room for two halves on a screen of one column.
    if width == 2 && grid.columns < 2 { width = 1 }
    if cursor.wrapsNext { wrap() }
    if width == 2 && cursor.column == grid.columns - 1 {
      if modes.contains(.autowrap) {
        grid.fill(row: cursor.row, cursor.column..<grid.columns, with: .blank)
        damage.mark(row: cursor.row)
        wrap()
      } else {
        cursor.column -= 1
      }
    }
    let row = cursor.row
    let column = cursor.column
    if modes.contains(.insert) {
      grid.insertCells(row: row, column: column, count: width, with: pen.blank)
    }
    grid.sever(row: row, column: column)
    grid.sever(row: row, column: column + width)
    let base = grid.base(row: row) + column
    var cell = pen.cell(scalar)
    if width == 2 {
      cell.width = .wide
      grid.cells[base] = cell
      cell.width = .tail
      cell.content = 0
      grid.cells[base + 1] = cell
    } else {
      grid.cells[base] = cell
    }
    damage.mark(row: row)
    advance(to: column + width)
  }

  // MARK: Clusters

  /// The column of the character before the cursor, in the cursor's row.
  private var previousColumn: Int? {
    var column = cursor.wrapsNext ? cursor.column : cursor.column - 1
    guard column >= 0 else { return nil }
    if grid[cursor.row, column].isTail { column -= 1 }
    return column >= 0 ? column : nil
  }

  /// Joins a scalar to the character before the cursor if it belongs there. True when it is dealt with.
  private mutating func combine(_ scalar: UInt32, width: Int) -> Bool {
    guard let column = previousColumn else { return false }
    let cell = grid[cursor.row, column]
    if width > 0 {
      // Most characters end here: only what may follow a joiner or its own kind can join.
      guard scalar >= 0x1F000 || cell.isCluster, joins(scalar, to: cell) else { return false }
    }
    guard let content = cluster(cell.content, followedBy: scalar) else { return true }
    grid.cells[grid.base(row: cursor.row) + column].content = content
    damage.mark(row: cursor.row)
    if scalar == GraphemeRule.emojiPresentation && cell.width == .narrow
      && GraphemeRule.hasEmojiVariation(cell.content) && modes.contains(.graphemeClusters)
      || width > 0 && cell.width == .narrow
    {
      widen(column)
    }
    return true
  }

  /// Whether a scalar that has a width of its own continues the cluster in a cell.
  private func joins(_ scalar: UInt32, to cell: Cell) -> Bool {
    guard modes.contains(.graphemeClusters) else { return false }
    let last = clusters.lastScalar(of: cell.content)
    if GraphemeRule.isSkinTone(scalar) { return GraphemeRule.isPictograph(last) && cell.isWide }
    if GraphemeRule.isRegionalIndicator(scalar) {
      return GraphemeRule.isRegionalIndicator(last) && !cell.isCluster
    }
    return last == GraphemeRule.zeroWidthJoiner && GraphemeRule.isPictograph(scalar)
  }

  /// Gives the character in `column` a second cell, if the one beside it is where the cursor stands.
  private mutating func widen(_ column: Int) {
    guard column + 1 < grid.columns, cursor.column == column + 1, !cursor.wrapsNext else { return }
    let row = cursor.row
    grid.sever(row: row, column: column + 2)
    var cell = grid[row, column]
    cell.width = .wide
    grid[row, column] = cell
    cell.width = .tail
    cell.content = 0
    grid[row, column + 1] = cell
    advance(to: column + 2)
  }

  private mutating func cluster(_ content: UInt32, followedBy scalar: UInt32) -> UInt32? {
    if clusters.isFull {
      guard clusterCollectionDelay == 0 else {
        clusterCollectionDelay -= 1
        return nil
      }
      let moved = collectClusters(content)
      if clusters.nodes.count > GraphemeTable.maximumCount / 4 * 3 {
        // Hardly anything was free: looking again at once would cost time for nothing.
        clusterCollectionDelay = GraphemeTable.maximumCount
      }
      return clusters.content(moved, followedBy: scalar)
    }
    return clusters.content(content, followedBy: scalar)
  }

  /// Forgets the clusters that no cell shows. Returns the new content for `content`.
  private mutating func collectClusters(_ content: UInt32) -> UInt32 {
    var used = [Bool](repeating: false, count: clusters.nodes.count)
    for cell in grid.cells where cell.isCluster {
      used[Int(cell.content & ~Cell.clusterBit)] = true
    }
    for cell in otherGrid.cells where cell.isCluster {
      used[Int(cell.content & ~Cell.clusterBit)] = true
    }
    if content & Cell.clusterBit != 0 { used[Int(content & ~Cell.clusterBit)] = true }
    let moved = clusters.collect(keeping: used)
    func renumber(_ content: UInt32) -> UInt32 {
      content & Cell.clusterBit == 0
        ? content : moved[Int(content & ~Cell.clusterBit)] | Cell.clusterBit
    }
    for index in grid.cells.indices where grid.cells[index].isCluster {
      grid.cells[index].content = renumber(grid.cells[index].content)
    }
    for index in otherGrid.cells.indices where otherGrid.cells[index].isCluster {
      otherGrid.cells[index].content = renumber(otherGrid.cells[index].content)
    }
    return renumber(content)
  }
}
