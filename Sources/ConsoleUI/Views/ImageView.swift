/// The list of disk images.
struct ImageView {
  let model: Model
  let page: ImagePage

  private struct Widths {
    var name: Int
    var users: Int
    var backing: Int
  }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 1 else { return }
    let palette = model.palette
    let (heading, body) = area.splitTop(1)
    let widths = widths(area.columns)
    canvas.fill(heading, style: palette[.columns])
    drawCells(
      ["IMAGE", "FORMAT", "SIZE", "ON DISK", "USED BY", "RESTS ON"], widths, heading,
      palette[.columns],
      palette[.columns], &canvas)
    guard !page.images.isEmpty else {
      let text =
        page.isLoaded
        ? "no image yet; \(model.keys.label(.newImage, in: .images)) makes one" : "looking"
      canvas.put(
        text, row: body.row + 1, column: body.column + 2, style: palette[.muted],
        limit: body.columns - 2)
      return
    }
    for line in 0..<body.rows where page.images.indices.contains(page.top + line) {
      let row = Rectangle(
        row: body.row + line, column: body.column, rows: 1, columns: body.columns)
      draw(page.images[page.top + line], widths, row, &canvas)
    }
    canvas.scrollBar(
      in: body, first: page.top, total: page.images.count, glyphs: model.glyphs,
      style: palette[.border])
  }

  private func widths(_ columns: Int) -> Widths {
    let fixed = 2 + 7 + 7 + 8 + 3
    let room = max(8, columns - fixed)
    let wanted = (page.images.map(\.title.cellWidth).max() ?? 8) + 1
    let name = max(8, min(wanted, room > 40 ? room / 2 : room))
    let rest = room - name
    return Widths(name: name, users: rest >= 10 ? min(24, rest) : 0, backing: max(0, rest - 25))
  }

  private func draw(
    _ image: ImageStatus, _ widths: Widths, _ area: Rectangle, _ canvas: inout Canvas
  ) {
    let palette = model.palette
    let isSelected = image.path == page.selection
    let ground = palette[isSelected ? .selection : .text]
    canvas.fill(area, style: ground)
    if isSelected {
      canvas.set(
        model.glyphs.marker, row: area.row, column: area.column, style: palette[.focus].on(ground))
    }
    let muted = isSelected ? palette[.muted].on(ground) : palette[.muted]
    if let problem = image.problem {
      let start = area.column + 2
      canvas.put(
        image.title.clipped(to: widths.name - 1, ellipsis: model.glyphs.ellipsis), row: area.row,
        column: start, style: ground)
      canvas.put(
        problem.clipped(to: area.columns - widths.name - 4, ellipsis: model.glyphs.ellipsis),
        row: area.row, column: start + widths.name, style: palette[.error].on(ground))
      return
    }
    let users =
      image.users.isEmpty
      ? "" : image.users.count == 1 ? image.users[0] : "\(image.users.count) machines"
    drawCells(
      [
        image.title, image.format, Quantity.short(image.virtualSize),
        Quantity.short(image.allocatedSize), users,
        image.backing.map { MachineRequest.file($0) } ?? "",
      ], widths, area, ground, muted, &canvas)
  }

  private func drawCells(
    _ cells: [String], _ widths: Widths, _ area: Rectangle, _ plain: Style, _ muted: Style,
    _ canvas: inout Canvas
  ) {
    func clipped(_ text: String, _ width: Int) -> String {
      text.clipped(to: width, ellipsis: model.glyphs.ellipsis)
    }
    var column = area.column + 2
    canvas.put(clipped(cells[0], widths.name - 1), row: area.row, column: column, style: plain)
    column += widths.name
    canvas.put(cells[1], row: area.row, column: column, style: muted, limit: 7)
    canvas.putRight(cells[2], row: area.row, end: column + 13, style: plain)
    canvas.putRight(cells[3], row: area.row, end: column + 21, style: plain)
    column += 23
    guard widths.users > 0 else { return }
    canvas.put(clipped(cells[4], widths.users), row: area.row, column: column, style: muted)
    guard widths.backing > 8 else { return }
    canvas.put(
      clipped(cells[5], widths.backing), row: area.row, column: column + widths.users + 1,
      style: muted)
  }
}
