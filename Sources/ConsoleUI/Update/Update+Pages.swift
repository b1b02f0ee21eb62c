// The views beside the list: logs and events, images, the host, charts, settings.

extension Model {
  /// Changes what the main part shows, and tells the service what it has to watch.
  mutating func show(_ view: MainView) -> [Effect] {
    var effects: [Effect] = []
    if case .log = mainView { effects.append(request(.watchLog(nil))) }
    mainView = view
    isConsoleFocused = false
    switch view {
    case .log(let page):
      if page.source.isFile { effects.append(request(.watchLog(page.source))) }
    case .images: effects.append(request(.listImages))
    case .host: effects.append(request(.inspectHost))
    case .machines: list.scroll(toShow: Layout(self).listRows)
    case .snapshots, .charts, .settings: break
    }
    return effects
  }

  mutating func performOnPage(_ action: Action) -> [Effect] {
    switch action {
    case .showMachines: return show(.machines)
    case .showEvents: return show(.log(LogPage(.events(nil))))
    case .showImages: return show(.images(ImagePage()))
    case .showHost: return show(.host(top: 0))
    case .showSettings: return show(.settings(SettingsPage()))
    case .showLog:
      guard let machine = subject else { return refuse("no machine is selected") }
      let port = machine.serialPorts.first ?? 0
      return show(.log(LogPage(.console(machine.name, port: port))))
    case .showCharts:
      guard let machine = subject else { return refuse("no machine is selected") }
      return show(.charts(machine.name))
    case .left, .right: return walkTimeLine(action)
    case .change: return changeSetting()
    case .imageInformation, .checkImage, .convertImage, .newImage, .resizeImage, .deleteImage:
      return performOnImage(action)
    default: break
    }
    guard case .log(var page) = mainView else { return [] }
    switch action {
    case .follow:
      page.follows.toggle()
      if !page.follows { page.top = logTop(page) }
    case .wrap: page.wraps.toggle()
    case .nextLog: return show(.log(LogPage(nextSource(page.source))))
    default: return []
    }
    mainView = .log(page)
    return []
  }

  /// Console, other ports, host process, events of the machine, and around.
  private func nextSource(_ source: LogSource) -> LogSource {
    guard let name = source.machine else {
      return list.selected.map { .console($0.name, port: $0.serialPorts.first ?? 0) } ?? source
    }
    let ports = list.machine(name)?.serialPorts ?? [0]
    switch source {
    case .console(_, let port):
      if let next = ports.first(where: { $0 > port }) { return .console(name, port: next) }
      return .host(name)
    case .host: return .events(name)
    case .events: return .console(name, port: ports.first ?? 0)
    }
  }

  private mutating func walkTimeLine(_ action: Action) -> [Effect] {
    guard case .snapshots(var tree) = mainView else { return [] }
    tree.step(action == .left ? -1 : 1)
    tree.scroll(toShow: SnapshotView.treeRows(in: Layout(self).main))
    mainView = .snapshots(tree)
    return []
  }

  // MARK: Moving

  mutating func movePage(_ action: Action, _ layout: Layout) {
    let rows = max(1, layout.main.rows - 1)
    switch mainView {
    case .log(var page):
      let count = LogView.rows(of: page, self, width: layout.main.columns).count
      if let row = Self.target(
        of: action, from: logTop(page), count: max(1, count - rows + 1), page: rows)
      {
        page.move(to: row, count: count, page: rows)
      }
      mainView = .log(page)
    case .images(var page):
      if let row = Self.target(
        of: action, from: page.selectedRow ?? 0, count: page.images.count, page: rows)
      {
        page.select(row: row)
      }
      page.scroll(toShow: rows)
      mainView = .images(page)
    case .host(let top):
      let count = HostView.lineCount(self, columns: layout.main.columns)
      let last = max(0, count - layout.main.rows)
      if let row = Self.target(of: action, from: top, count: last + 1, page: rows) {
        mainView = .host(top: row)
      }
    case .settings(var page):
      if let row = Self.target(
        of: action, from: page.selection, count: SettingsPage.rows.count, page: rows)
      {
        page.selection = row
      }
      page.top = SettingsView.top(for: page, rows: layout.main.rows)
      mainView = .settings(page)
    case .charts:
      // Up and down go to the next machine, as in the list.
      if let row = Self.target(
        of: action, from: list.selectedRow ?? 0, count: list.visible.count, page: rows)
      {
        list.select(row: row)
      }
      if let name = list.selected?.name { mainView = .charts(name) }
    case .machines, .snapshots: break
    }
  }

  /// The first line of a log that is seen.
  func logTop(_ page: LogPage) -> Int {
    let layout = Layout(self)
    let count = LogView.rows(of: page, self, width: layout.main.columns).count
    let last = max(0, count - max(1, layout.main.rows - 1))
    return page.follows ? last : min(page.top, last)
  }

  mutating func clickPage(_ row: Int) -> [Effect] {
    switch mainView {
    case .images(var page):
      guard page.images.indices.contains(page.top + row) else { return [] }
      page.select(row: page.top + row)
      mainView = .images(page)
    case .settings(var page):
      guard let index = SettingsView.row(at: page.top + row + 1) else { return [] }
      let wasSelected = page.selection == index
      page.selection = index
      mainView = .settings(page)
      if wasSelected { return changeSetting() }
    default: break
    }
    return []
  }

  // MARK: Images

  private mutating func performOnImage(_ action: Action) -> [Effect] {
    guard case .images(let page) = mainView else { return [] }
    if action == .newImage {
      overlay = .form(newImageForm())
      return []
    }
    guard let image = page.selected else {
      return refuse("no image is selected; \(keys.label(.newImage, in: .images)) makes one")
    }
    switch action {
    case .imageInformation: return [request(.describeImage(image.path))]
    case .checkImage:
      guard image.format == "qcow2" else {
        return refuse("\(image.name) is a raw image: there is nothing to check in it")
      }
      return [request(.checkImage(image.path))]
    case .convertImage: overlay = .form(convertImageForm(image))
    case .resizeImage:
      if image.isBusy {
        return refuse("\(image.users.joined(separator: ", ")) runs; stop it first")
      }
      overlay = .form(resizeImageForm(image))
    case .deleteImage:
      guard image.users.isEmpty, !image.isLayer else {
        return refuse(
          image.isLayer
            ? "\(image.name) is a layer of \(image.users.first ?? "a machine"); delete that in the list"
            : "\(image.users.joined(separator: ", ")) would lose its disk")
      }
      overlay = .confirmation(
        Confirmation(
          title: "Delete \(image.name)?",
          lines: [image.path, "\(Quantity.short(image.allocatedSize)) on disk are lost for good."],
          verb: "Delete", isDangerous: true, requests: [.deleteImage(image.path)]))
    default: break
    }
    return []
  }
}
