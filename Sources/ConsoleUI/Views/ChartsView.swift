/// Large charts of one machine: all processors, each of them, exits, disk.
struct ChartsView {
  let model: Model
  let machine: String

  private struct Chart {
    var title: String
    var value: String
    var samples: [Double]
  }

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    let (heading, body) = area.splitTop(1)
    canvas.fill(heading, style: palette[.columns])
    canvas.put(
      "CHARTS OF \(machine)", row: heading.row, column: heading.column + 2,
      style: palette[.sorted], limit: heading.columns - 2)
    guard let status = model.list.machine(machine), let series = model.list.series[machine] else {
      let word = model.list.machine(machine)?.state.word ?? "gone"
      canvas.put(
        "\(machine) is \(word): there is nothing to measure", row: body.row + 1,
        column: body.column + 2, style: palette[.muted], limit: body.columns - 2)
      return
    }
    let charts = charts(status, series)
    let most = max(1, min(charts.count, body.columns / 56))
    // Rows of equal length look calmer: 2 and 2, not 3 and 1.
    let wanted = (charts.count + most - 1) / most
    let across = (charts.count + wanted - 1) / wanted
    let reasons =
      series.completionRates.isEmpty || body.rows < 24
      ? 0 : min(9, series.completionRates.count + 3)
    let (upper, lower) = body.splitTop(body.rows - reasons)
    let lines = max(1, min((charts.count + across - 1) / across, upper.rows / 5))
    for (index, chart) in charts.prefix(across * lines).enumerated() {
      let line = index / across
      let inLine = min(across, charts.count - line * across)
      let place = index % across
      let top = upper.rows * line / lines
      let left = upper.columns * place / inLine
      draw(
        chart,
        Rectangle(
          row: upper.row + top, column: upper.column + left,
          rows: upper.rows * (line + 1) / lines - top,
          columns: upper.columns * (place + 1) / inLine - left), &canvas)
    }
    if reasons > 0 { drawReasons(series, lower, &canvas) }
  }

  private func charts(_ status: MachineSummary, _ series: MachineSeries) -> [Chart] {
    func rate(_ series: SampleSeries) -> String { Quantity.short(UInt64(series.last ?? 0)) + "/s" }
    var charts = [
      Chart(
        title: "CPU", value: Quantity.percent(status.processorUse ?? 0),
        samples: series.processor.values),
      Chart(
        title: "Disk read", value: rate(series.diskRead), samples: series.diskRead.shares()),
      Chart(
        title: "Disk written", value: rate(series.diskWritten),
        samples: series.diskWritten.shares()),
      Chart(
        title: "Exits to the host", value: Quantity.count(series.exits.last ?? 0) + "/s",
        samples: series.exits.shares()),
    ]
    if series.each.count > 1 {
      for (index, each) in series.each.enumerated() {
        charts.append(
          Chart(
            title: "CPU \(index)", value: Quantity.percent(each.last ?? 0), samples: each.values))
      }
    }
    return charts
  }

  private func draw(_ chart: Chart, _ area: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    canvas.frame(
      area, title: chart.title, glyphs: model.glyphs, border: palette[.border],
      titleStyle: palette[.title])
    if area.columns > chart.title.cellWidth + chart.value.cellWidth + 10 {
      canvas.putRight(
        " \(chart.value) ", row: area.row, end: area.endColumn - 2, style: palette[.text])
    }
    canvas.chart(
      chart.samples, in: area.inset(rows: 1, columns: 2), glyphs: model.glyphs,
      colors: palette.chart)
  }

  /// Completed instructions by kind, the most frequent first.
  private func drawReasons(_ series: MachineSeries, _ area: Rectangle, _ canvas: inout Canvas) {
    let palette = model.palette
    canvas.frame(
      area, title: "Instructions that KVM left to software", glyphs: model.glyphs,
      border: palette[.border],
      titleStyle: palette[.title])
    let inner = area.inset(rows: 1, columns: 2)
    let largest = series.completionRates.values.max() ?? 0
    let rates = series.completionRates.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    for (row, rate) in rates.prefix(inner.rows).enumerated() {
      let place = Rectangle(
        row: inner.row + row, column: inner.column, rows: 1, columns: inner.columns)
      canvas.put(rate.key, row: place.row, column: place.column, style: palette[.muted], limit: 19)
      canvas.putRight(
        Quantity.count(rate.value), row: place.row, end: place.column + 28, style: palette[.text])
      canvas.meter(
        largest > 0 ? rate.value / largest : 0, row: place.row, column: place.column + 30,
        columns: place.columns - 30, glyphs: model.glyphs, colors: palette.chart)
    }
  }
}
