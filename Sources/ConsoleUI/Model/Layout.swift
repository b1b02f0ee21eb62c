/// Where things are on the screen, by its size and what is open. Views draw by it and the mouse is understood by it.
package struct Layout: Equatable, Sendable {
  /// The first line; empty while a console fills the screen.
  package var header: Rectangle
  /// The list or the tree; empty while a console fills the screen.
  package var main: Rectangle
  package var detail: Rectangle
  /// The console with its frame.
  package var console: Rectangle
  package var message: Rectangle
  package var keyBar: Rectangle
  /// The console has a frame on all sides; else only a line above it.
  package var isConsoleFramed: Bool

  /// Below this nothing can be laid out.
  package static let minimum = Size(columns: 20, rows: 5)

  package init(_ model: Model) {
    let screen = Rectangle(row: 0, column: 0, rows: model.size.rows, columns: model.size.columns)
    let none = Rectangle(row: 0, column: 0, rows: 0, columns: 0)
    (header, main, detail, console, message, keyBar) = (none, none, none, none, none, none)
    isConsoleFramed = false
    let pane = model.focusedConsole
    if pane != nil, model.isConsoleFocused,
      model.isConsoleZoomed || !Self.fitsBeside(pane, in: screen)
    {
      console = screen
      return
    }
    let rest: Rectangle
    (header, rest) = screen.splitTop(1)
    let bars = rest.rows >= 6 ? 2 : 1
    let (body, bottom) = rest.splitTop(rest.rows - bars)
    (message, keyBar) = bottom.splitTop(1)
    main = body
    if let pane, Self.fitsBeside(pane, in: screen) {
      placeConsole(pane, in: body)
    } else if model.showsDetail {
      placeDetail(in: body)
    }
  }

  private static let sideListColumns = 48
  private static let topListRows = 6

  private static func fitsBeside(_ pane: ConsolePane?, in screen: Rectangle) -> Bool {
    guard let size = pane?.size else { return false }
    let beside =
      screen.columns >= size.columns + 2 + sideListColumns && screen.rows >= size.rows + 5
    let below = screen.columns >= size.columns + 2 && screen.rows >= size.rows + 5 + topListRows
    return beside || below
  }

  private mutating func placeConsole(_ pane: ConsolePane, in body: Rectangle) {
    isConsoleFramed = true
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
  }

  private mutating func placeDetail(in body: Rectangle) {
    if body.columns >= 116 {
      let width = min(64, body.columns * 2 / 5)
      (main, detail) = body.splitLeft(body.columns - width)
    } else if body.rows >= 17 {
      (main, detail) = body.splitTop(body.rows - 8)
    }
  }

  /// Rows of the list, without the line of column names.
  package var listRows: Int { max(1, main.rows - 1) }

  /// The guest's part of the console pane.
  package var guest: Rectangle {
    isConsoleFramed ? console.inset() : console.splitTop(1).rest
  }
}
