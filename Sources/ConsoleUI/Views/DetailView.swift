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
    if area.rows >= 14 {
      let chartRows = hasChart(machine) ? min(8, inner.rows / 3) : 0
      let (top, rest) = inner.splitTop(chartRows)
      drawChart(machine, top, &canvas)
      drawFacts(machine, chartRows > 0 ? rest.splitTop(1).rest : rest, &canvas)
    } else {
      let chartColumns = hasChart(machine) ? inner.columns / 3 : 0
      let (facts, right) = inner.splitLeft(inner.columns - chartColumns)
      drawFacts(machine, facts, &canvas)
      drawChart(machine, right.splitLeft(1).rest, &canvas)
    }
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
      model.list.history[machine.name] ?? [], in: chart, glyphs: model.glyphs,
      colors: model.palette.chart)
  }

  private func drawFacts(
    _ machine: MachineSummary, _ area: Rectangle, _ canvas: inout Canvas
  ) {
    let palette = model.palette
    let labelWidth = 12
    var row = area.row
    for fact in facts(machine) {
      let lines = fact.text.wrapped(to: max(8, area.columns - labelWidth))
      for (index, line) in lines.prefix(3).enumerated() {
        guard row < area.endRow else { return }
        if index == 0 {
          canvas.put(fact.label, row: row, column: area.column, style: palette[.muted])
        }
        canvas.put(
          line, row: row, column: area.column + labelWidth, style: palette[fact.role],
          limit: area.columns - labelWidth)
        row += 1
      }
    }
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
          text: children.isEmpty ? "none yet; t makes one" : children.joined(separator: ", ")))
    }
    if let accelerator = machine.accelerator {
      facts.append(Fact(label: "Accelerator", text: accelerator))
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
