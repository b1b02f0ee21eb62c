/// What is known of the selected machine, with the chart of its processors.
struct DetailView {
  let model: Model

  func draw(in area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 4, area.columns >= 24, let machine = model.list.selected else { return }
    let palette = model.palette
    canvas.frame(
      area, title: machine.name, glyphs: model.glyphs, border: palette[.border],
      titleStyle: palette[.title])
    let inner = area.inset(rows: 1, columns: 2)
    guard area.rows >= 14 else {
      let chartColumns = hasChart(machine) ? inner.columns / 3 : 0
      let (facts, right) = inner.splitLeft(inner.columns - chartColumns)
      drawFacts(machine, facts, &canvas)
      drawChart(machine, right.splitLeft(1).rest, &canvas)
      return
    }
    let meters = meters(machine)
    let meterRows = min((meters.count + 1) / 2, max(0, inner.rows / 4))
    let chartRows = hasChart(machine) ? min(8, inner.rows / 4) : 0
    let (top, afterChart) = inner.splitTop(chartRows)
    drawChart(machine, top, &canvas)
    let (meterArea, afterMeters) = afterChart.splitTop(meterRows)
    drawMeters(Array(meters.prefix(meterRows * 2)), meterArea, &canvas)
    let (rateArea, rest) = afterMeters.splitTop(chartRows > 0 && inner.rows >= 20 ? 3 : 0)
    drawRates(machine, rateArea, &canvas)
    drawTail(machine, rest, &canvas)
  }

  private func hasChart(_ machine: MachineSummary) -> Bool { machine.processorUse != nil }

  private func drawChart(
    _ machine: MachineSummary, _ area: Rectangle, _ canvas: inout Canvas
  ) {
    guard area.rows >= 2, area.columns >= 8, let use = machine.processorUse else { return }
    let (heading, chart) = area.splitTop(1)
    canvas.put("CPU", row: heading.row, column: heading.column, style: model.palette[.muted])
    canvas.putRight(
      Quantity.percent(use), row: heading.row, end: heading.endColumn, style: model.palette[.text])
    canvas.chart(
      model.list.history(of: machine.name), in: chart, glyphs: model.glyphs,
      colors: model.palette.chart)
  }

  /// The use of each processor where there are several.
  private func meters(_ machine: MachineSummary) -> [Double] {
    guard let series = model.list.series[machine.name], series.each.count > 1 else { return [] }
    return series.each.map { $0.last ?? 0 }
  }

  private func drawMeters(_ shares: [Double], _ area: Rectangle, _ canvas: inout Canvas) {
    let half = area.columns / 2
    for (index, share) in shares.enumerated() {
      let row = area.row + index / 2
      let column = area.column + (index % 2) * half
      canvas.put("\(index)", row: row, column: column, style: model.palette[.muted])
      canvas.put("[", row: row, column: column + 3, style: model.palette[.border])
      canvas.meter(
        share, row: row, column: column + 4, columns: half - 11, glyphs: model.glyphs,
        colors: model.palette.chart)
      canvas.put("]", row: row, column: column + half - 7, style: model.palette[.border])
      canvas.putRight(
        Quantity.percent(share), row: row, end: column + half - 1, style: model.palette[.text])
    }
  }

  /// Disk and exits: the rate now, and the last minutes in a line.
  private func drawRates(_ machine: MachineSummary, _ area: Rectangle, _ canvas: inout Canvas) {
    guard area.rows >= 3, let series = model.list.series[machine.name] else { return }
    let lines: [(String, SampleSeries, String)] = [
      ("Read", series.diskRead, Quantity.short(UInt64(series.diskRead.last ?? 0)) + "/s"),
      ("Written", series.diskWritten, Quantity.short(UInt64(series.diskWritten.last ?? 0)) + "/s"),
      ("Exits", series.exits, Quantity.count(series.exits.last ?? 0) + "/s"),
    ]
    for (index, line) in lines.enumerated() {
      let row = area.row + index
      canvas.put(line.0, row: row, column: area.column, style: model.palette[.muted])
      canvas.putRight(line.2, row: row, end: area.column + 19, style: model.palette[.text])
      canvas.sparkline(
        line.1.shares(), row: row, column: area.column + 21, columns: area.columns - 21,
        glyphs: model.glyphs, colors: model.palette.chart)
    }
  }

  /// Facts, and below them what happened last and what the guest printed last.
  private func drawTail(_ machine: MachineSummary, _ area: Rectangle, _ canvas: inout Canvas) {
    let (gap, body) = area.splitTop(area.rows > 6 && hasChart(machine) ? 1 : 0)
    _ = gap
    var row = drawFacts(machine, body, &canvas) + 1
    func section(_ title: String, _ lines: [String], _ role: Role) {
      let room = body.endRow - row - 1
      guard room >= 1, !lines.isEmpty else { return }
      canvas.put(title, row: row, column: body.column, style: model.palette[.title])
      row += 1
      for line in lines.suffix(room) {
        canvas.put(
          line.clipped(to: body.columns, ellipsis: model.glyphs.ellipsis), row: row,
          column: body.column, style: model.palette[role])
        row += 1
      }
      row += 1
    }
    let events = model.events.suffix(200).filter { $0.machine == machine.name }
    section(
      "Events", events.suffix(4).map { "\(ClockTime.text($0.time)) \($0.text)" }, .muted)
    section("Console", machine.lastLines, .muted)
  }

  /// - Returns: the row below the last fact.
  @discardableResult
  private func drawFacts(
    _ machine: MachineSummary, _ area: Rectangle, _ canvas: inout Canvas
  ) -> Int {
    let palette = model.palette
    let labelWidth = 12
    var row = area.row
    for fact in facts(machine) {
      let lines = fact.text.wrapped(to: max(8, area.columns - labelWidth))
      for (index, line) in lines.prefix(3).enumerated() {
        guard row < area.endRow else { return row }
        if index == 0 {
          canvas.put(fact.label, row: row, column: area.column, style: palette[.muted])
        }
        canvas.put(
          line, row: row, column: area.column + labelWidth, style: palette[fact.role],
          limit: area.columns - labelWidth)
        row += 1
      }
    }
    return row
  }

  private struct Fact {
    var label: String
    var text: String
    var role = Role.text
  }

  private func facts(_ machine: MachineSummary) -> [Fact] {
    var facts: [Fact] = []
    let glyph = machine.state.glyph(model.glyphs, step: model.animationStep)
    var state = "\(glyph) \(machine.state.word)"
    if let uptime = machine.uptime { state += " for \(Quantity.duration(uptime))" }
    if let process = machine.processIdentifier { state += ", process \(process)" }
    facts.append(Fact(label: "State", text: state, role: machine.state.role))
    if let problem = machine.problem {
      facts.append(Fact(label: "Why", text: problem, role: .error))
    }
    if machine.memory > 0 {
      var text = "\(machine.processors) CPU\(machine.processors == 1 ? "" : "s"), "
      text += Quantity.short(machine.memory)
      if let held = machine.residentMemory { text += " (\(Quantity.short(held)) on the host)" }
      facts.append(Fact(label: "Hardware", text: text))
    }
    for disk in machine.disks {
      facts.append(
        Fact(
          label: "Disk \(disk.name)".clipped(to: 11, ellipsis: model.glyphs.ellipsis),
          text: "\(Quantity.short(disk.virtualSize)), \(Quantity.short(disk.allocatedSize)) used,"
            + " \(disk.layers) layer\(disk.layers == 1 ? "" : "s")"))
    }
    if let boot = machine.boot { facts.append(Fact(label: "Boots", text: boot)) }
    if let disc = machine.disc {
      let name = disc == "empty" ? "empty" : MachineRequest.file(disc)
      facts.append(Fact(label: "CD drive", text: name))
    }
    if machine.snapshotCount > 0 {
      let now = machine.currentSnapshot.map { ", now on '\($0)'" } ?? ""
      facts.append(Fact(label: "Snapshots", text: "\(machine.snapshotCount)\(now)"))
    }
    if let parent = machine.parent {
      facts.append(Fact(label: "Template", text: parent, role: .template))
    }
    if machine.state == .template {
      let children = model.list.machines.filter { $0.parent == machine.name }.map(\.name)
      facts.append(
        Fact(
          label: "Machines",
          text: children.isEmpty
            ? "none yet; \(model.keys.label(.newFromTemplate)) makes one"
            : children.joined(separator: ", ")))
    }
    if let accelerator = machine.accelerator {
      facts.append(Fact(label: "Accelerator", text: accelerator))
    }
    if machine.isUnconfined {
      facts.append(Fact(label: "Sandbox", text: "off, by --no-sandbox", role: .warning))
    }
    if machine.clients > 0 {
      facts.append(Fact(label: "Consoles", text: "\(machine.clients) attached"))
    }
    if !machine.tags.isEmpty {
      facts.append(Fact(label: "Tags", text: machine.tags.joined(separator: ", ")))
    }
    return facts
  }
}
