/// What the host is: processors, memory, the accelerator and why, weaknesses of its processors, limits.
struct HostView {
  let model: Model
  let top: Int

  private enum Line {
    case heading(String)
    case fact(HostReport.Fact)
    case more(String, HostReport.Fact.Mood)
    case blank
  }

  static func lineCount(_ model: Model, columns: Int) -> Int {
    HostView(model: model, top: 0).lines(columns).count
  }

  private static let labelWidth = 26

  private func lines(_ columns: Int) -> [Line] {
    guard let report = model.hostReport else { return [] }
    let room = max(10, columns - labelWidth(columns) - 4)
    var lines: [Line] = []
    for section in report.sections {
      if !lines.isEmpty { lines.append(.blank) }
      lines.append(.heading(section.title))
      for fact in section.facts {
        let parts = fact.text.wrapped(to: room)
        var first = fact
        first.text = parts.first ?? ""
        lines.append(.fact(first))
        lines += parts.dropFirst().map { .more($0, fact.mood) }
      }
    }
    return lines
  }

  private func labelWidth(_ columns: Int) -> Int { min(Self.labelWidth, max(10, columns / 3)) }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    let (left, right) = columns(area)
    let lines = lines(left.columns)
    guard !lines.isEmpty else {
      canvas.put(
        "looking at the host", row: area.row + 1, column: area.column + 2, style: palette[.muted],
        limit: area.columns - 2)
      return
    }
    let width = labelWidth(left.columns)
    for row in 0..<left.rows where lines.indices.contains(top + row) {
      let place = left.row + row
      switch lines[top + row] {
      case .blank: break
      case .heading(let text):
        canvas.put(text, row: place, column: left.column + 1, style: palette[.title])
      case .fact(let fact):
        canvas.put(
          fact.label.clipped(to: width - 1, ellipsis: model.glyphs.ellipsis), row: place,
          column: left.column + 2, style: palette[.muted])
        canvas.put(
          fact.text, row: place, column: left.column + 2 + width, style: palette[role(fact.mood)],
          limit: left.columns - width - 3)
      case .more(let text, let mood):
        canvas.put(
          text, row: place, column: left.column + 2 + width, style: palette[role(mood)],
          limit: left.columns - width - 3)
      }
    }
    canvas.scrollBar(
      in: left, first: top, total: lines.count, glyphs: model.glyphs, style: palette[.border])
    drawCharts(right, &canvas)
  }

  private func role(_ mood: HostReport.Fact.Mood) -> Role {
    switch mood {
    case .plain: .text
    case .good: .ok
    case .bad: .warning
    }
  }

  /// On wide screens charts of the last minutes stand at the right.
  private func columns(_ area: Rectangle) -> (left: Rectangle, rest: Rectangle) {
    guard area.columns >= 110 else { return area.splitLeft(area.columns) }
    return area.splitLeft(area.columns * 3 / 5)
  }

  private func drawCharts(_ area: Rectangle, _ canvas: inout Canvas) {
    guard area.columns >= 20, area.rows >= 8 else { return }
    let half = area.splitTop(area.rows / 2)
    for (title, series, part) in [
      ("All processors", model.hostSeries.processor, half.top),
      ("Memory in use", model.hostSeries.memory, half.rest),
    ] {
      canvas.frame(
        part, title: title, glyphs: model.glyphs, border: model.palette[.border],
        titleStyle: model.palette[.title])
      let inner = part.inset(rows: 1, columns: 2)
      if let last = series.last {
        canvas.putRight(
          " \(Quantity.percent(last)) ", row: part.row, end: part.endColumn - 2,
          style: model.palette[.text])
      }
      canvas.chart(
        series.values, in: inner, glyphs: model.glyphs, colors: model.palette.chart)
    }
  }
}

/// What the host did in the last minutes, as shares.
package struct HostSeries: Sendable {
  package var processor = SampleSeries()
  package var memory = SampleSeries()
  private var nextSample: UInt64 = 0

  mutating func add(_ status: HostStatus, now: UInt64) {
    guard now >= nextSample else { return }
    nextSample = now &+ 900_000_000
    if let use = status.processorUse { processor.add(use) }
    if status.memory > 0 {
      let used = status.memory - min(status.memory, status.availableMemory)
      memory.add(Double(used) / Double(status.memory))
    }
  }
}
