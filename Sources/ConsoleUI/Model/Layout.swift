/// Where things are on the screen, by its size and what is open. Views draw by it and the mouse is understood by it.
package struct Layout: Equatable, Sendable {
  /// A console that is shown.
  package struct Tile: Equatable, Sendable {
    package var number: ConsoleNumber
    /// With its frame.
    package var area: Rectangle
    /// It has a frame on all sides; else only a line above it.
    package var isFramed: Bool

    /// The guest's part.
    package var guest: Rectangle { isFramed ? area.inset() : area.splitTop(1).rest }
  }

  /// The first line; empty while consoles fill the screen.
  package var header: Rectangle
  /// The list or the tree; empty while consoles fill the screen.
  package var main: Rectangle
  package var detail: Rectangle
  /// The consoles with their frames; empty when none is shown.
  package var console: Rectangle
  package var message: Rectangle
  package var keyBar: Rectangle
  /// Consoles from left to right and from top to bottom.
  package var tiles: [Tile] = []
  private var active: ConsoleNumber?

  /// Below this nothing can be laid out.
  package static let minimum = Size(columns: 20, rows: 5)

  package init(_ model: Model) {
    let screen = Rectangle(row: 0, column: 0, rows: model.size.rows, columns: model.size.columns)
    let none = Rectangle(row: 0, column: 0, rows: 0, columns: 0)
    (header, main, detail, console, message, keyBar) = (none, none, none, none, none, none)
    active = model.activeConsole
    let shown = model.shownConsoles
    let fits = shown.count > 1 ? Self.fitsGrid(screen) : Self.fitsBeside(shown.first, in: screen)
    if !shown.isEmpty, model.isConsoleFocused, model.isConsoleZoomed || !fits {
      console = screen
      placeTiles(shown, framed: shown.count > 1)
      return
    }
    let rest: Rectangle
    (header, rest) = screen.splitTop(1)
    let bars = rest.rows >= 6 ? 2 : 1
    let (body, bottom) = rest.splitTop(rest.rows - bars)
    (message, keyBar) = bottom.splitTop(1)
    main = body
    if !shown.isEmpty, fits {
      placeConsoles(shown, in: body)
    } else if model.showsDetail {
      placeDetail(in: body, model.mainView)
    }
  }

  private static let sideListColumns = 48
  private static let topListRows = 6

  /// Several consoles beside the list.
  private static func fitsGrid(_ screen: Rectangle) -> Bool {
    screen.columns >= sideListColumns + 100 && screen.rows >= 20
  }

  private static func fitsBeside(_ pane: ConsolePane?, in screen: Rectangle) -> Bool {
    guard let size = pane?.size else { return false }
    let beside =
      screen.columns >= size.columns + 2 + sideListColumns && screen.rows >= size.rows + 5
    let below = screen.columns >= size.columns + 2 && screen.rows >= size.rows + 5 + topListRows
    return beside || below
  }

  private mutating func placeConsoles(_ panes: [ConsolePane], in body: Rectangle) {
    guard panes.count == 1, let pane = panes.first else {
      (main, console) = body.splitLeft(Self.sideListColumns)
      placeTiles(panes, framed: true)
      return
    }
    let columns = pane.size.columns + 2
    let rows = pane.size.rows + 2
    if body.columns >= columns + Self.sideListColumns {
      let right: Rectangle
      (main, right) = body.splitLeft(body.columns - columns)
      (console, detail) = right.splitTop(rows)
      if detail.rows < 5 { detail.rows = 0 }
    } else {
      let bottom: Rectangle
      (main, bottom) = body.splitTop(body.rows - rows)
      console = bottom.splitLeft(columns).left
    }
    tiles = [Tile(number: pane.number, area: console, isFramed: true)]
  }

  /// Divides the consoles' part among them, as near to 80 by 24 each as it goes.
  private mutating func placeTiles(_ panes: [ConsolePane], framed: Bool) {
    guard panes.count > 1 else {
      tiles = panes.map { Tile(number: $0.number, area: console, isFramed: framed) }
      return
    }
    let across = Self.tilesAcross(panes.count, in: console)
    let lines = (panes.count + across - 1) / across
    var index = 0
    for line in 0..<lines {
      let count = min(across, panes.count - index)
      let top = console.row + console.rows * line / lines
      let bottom = console.row + console.rows * (line + 1) / lines
      for place in 0..<count {
        let left = console.column + console.columns * place / count
        let right = console.column + console.columns * (place + 1) / count
        let area = Rectangle(row: top, column: left, rows: bottom - top, columns: right - left)
        tiles.append(Tile(number: panes[index].number, area: area, isFramed: true))
        index += 1
      }
    }
  }

  private static func tilesAcross(_ count: Int, in area: Rectangle) -> Int {
    func worth(_ across: Int) -> Double {
      let lines = (count + across - 1) / across
      let columns = Double(area.columns / across - 2) / 80
      let rows = Double(area.rows / lines - 2) / 24
      // A line that is cut is worse than lines that are not seen.
      return min(1, columns) * min(1, columns) * min(1, rows)
    }
    return (1...count).max { worth($0) < worth($1) } ?? 1
  }

  private mutating func placeDetail(in body: Rectangle, _ view: Model.MainView) {
    switch view {
    case .machines, .snapshots: break
    case .log, .images, .host, .settings, .charts: return
    }
    if body.columns >= 116 {
      let width = min(72, body.columns * 2 / 5)
      (main, detail) = body.splitLeft(body.columns - width)
    } else if body.rows >= 17 {
      (main, detail) = body.splitTop(body.rows - 8)
    }
  }

  /// Rows of the list, without the line of column names.
  package var listRows: Int { max(1, main.rows - 1) }

  /// The console that has the keyboard or had it last.
  package var activeTile: Tile? { tiles.first { $0.number == active } }

  /// The guest's part of the active console.
  package var guest: Rectangle {
    activeTile?.guest ?? Rectangle(row: 0, column: 0, rows: 0, columns: 0)
  }
}
