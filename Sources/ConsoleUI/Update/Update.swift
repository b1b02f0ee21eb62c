// What events do to the model. One function in, effects out: a user's session is a list of events, and a test can play
// it without a terminal or a machine.

extension Model {
  /// Takes an event and returns what has to be done outside.
  package mutating func handle(_ event: ModelEvent) -> [Effect] {
    switch event {
    case .input(let input): return handle(input)
    case .service(let news): return handle(news)
    case .resize(let new):
      size = new
      list.scroll(toShow: Layout(self).listRows)
      return []
    case .theme(let theme):
      use(theme)
      return []
    case .problem(let text):
      say(text, .failure)
      return []
    }
  }

  private mutating func handle(_ input: InputEvent) -> [Effect] {
    switch input {
    case .key(let key): return press(key)
    case .paste(let bytes): return paste(bytes)
    case .mouse(let event): return handle(event)
    case .focus(let on): return passFocus(on)
    case .background: return []
    }
  }

  /// A key goes to what stands on top: overlay, console, view.
  private mutating func press(_ key: Key) -> [Effect] {
    if size.columns < Layout.minimum.columns || size.rows < Layout.minimum.rows {
      return key == "q" || key == "C-c" || key == "F10" ? [.quit] : []
    }
    if overlay != nil { return pressInOverlay(key) }
    if isConsoleFocused, focusedConsole != nil { return pressInConsole(key) }
    if message?.kind == .failure { message = nil }
    guard let action = keys.action(for: key, in: context) else {
      say("\(key.label) has no meaning here; ? shows the keys")
      return []
    }
    return perform(action)
  }

  private mutating func paste(_ bytes: [UInt8]) -> [Effect] {
    let text = String(decoding: bytes, as: UTF8.self)
    switch overlay {
    case .form(var form):
      form.paste(text)
      overlay = .form(form)
    case .commandLine(var line):
      line.field.insert(String(text.prefix { !$0.isNewline }))
      overlay = .commandLine(line)
    case .filter(var field, let before):
      field.insert(String(text.prefix { !$0.isNewline }))
      overlay = .filter(field, before: before)
      setFilter(field.text)
    case .search(var field, let forward):
      field.insert(String(text.prefix { !$0.isNewline }))
      overlay = .search(field, forward: forward)
    case nil where isConsoleFocused:
      return pasteIntoConsole(bytes)
    default:
      break
    }
    return []
  }

  // MARK: Actions

  /// Carries out an action where the user is.
  package mutating func perform(_ action: Action) -> [Effect] {
    switch action {
    case .help: overlay = .help(context, top: 0)
    case .palette: overlay = .picker(palettePicker())
    case .commandLine: overlay = .commandLine(CommandPrompt())
    case .quit: return [.quit]
    case .suspend: return [.suspend]
    case .repaint, .redrawConsole: return [.repaint]
    case .chooseTheme: overlay = .picker(themePicker())
    case .clear: return clear()
    case .up, .down, .first, .last, .pageUp, .pageDown, .halfUp, .halfDown: move(action)
    case .filter: overlay = .filter(TextField(filterText), before: filterText)
    case .sortNext, .sortPrevious, .reverseSort: return changeSort(action)
    case .mark:
      list.toggleMark()
      move(.down)
    case .markRange: list.markRange()
    case .markAll: list.toggleAllMarks()
    case .toggleDetail:
      showsDetail.toggle()
      let isShown = showsDetail
      return save("details", isShown) { $0.showsDetail = isShown }
    case .attach, .detach, .sendPrefix, .zoom, .copyMode, .paste, .focusList, .split, .closeTile,
      .nextTile, .previousTile, .nextConsole, .previousConsole, .switchConsole, .nextPort,
      .typeToAll, .watchOnly, .sendBreak, .tellSize, .searchForward, .searchBackward:
      return performOnConsole(action)
    case .attachDisplay, .keysMenu: return performOnDisplay(action)
    case .takeSnapshot, .showSnapshots, .undo, .rollBack, .rollForward, .parentSnapshot, .branch,
      .renameSnapshot, .deleteSnapshot:
      return performOnSnapshots(action)
    case .showMachines, .showEvents, .showImages, .showHost, .showSettings, .showCharts, .showLog,
      .left, .right, .nextLog, .follow, .wrap, .change, .imageInformation, .checkImage,
      .convertImage, .newImage, .resizeImage, .deleteImage:
      return performOnPage(action)
    case .group: return changeGrouping()
    case .fold:
      if !list.toggleFold() {
        say("nothing to fold here; \(keys.label(.group)) groups by template or tag")
      }
      list.scroll(toShow: Layout(self).listRows)
    default:
      return performOnMachine(action)
    }
    return []
  }

  /// Sends a request to the service and shows that it is under way.
  package mutating func request(_ request: MachineRequest) -> Effect {
    let number = RequestNumber(makeNumber())
    if request.isQuery { return .perform(request, number) }
    pending[number] = PendingRequest(
      request: request, text: request.activity, progress: nil, since: now)
    if message?.kind != .failure { message = nil }
    return .perform(request, number)
  }

  /// Esc: one step back.
  private mutating func clear() -> [Effect] {
    message = nil
    switch mainView {
    case .machines:
      if !list.filter.isEmpty {
        list.setFilter("")
      } else if !list.marks.isEmpty {
        list.clearMarks()
      }
      list.scroll(toShow: Layout(self).listRows)
      return []
    case .log(var page) where !page.filter.isEmpty:
      page.filter = ""
      mainView = .log(page)
      return []
    default: return show(.machines)
    }
  }

  private mutating func changeSort(_ action: Action) -> [Effect] {
    let columns = MachineList.Column.allCases
    let index = columns.firstIndex(of: list.sort) ?? 0
    switch action {
    case .sortNext:
      list.setSort(columns[(index + 1) % columns.count], reversed: false)
    case .sortPrevious:
      list.setSort(columns[(index + columns.count - 1) % columns.count], reversed: false)
    default:
      list.setSort(list.sort, reversed: !list.isReversed)
    }
    list.scroll(toShow: Layout(self).listRows)
    say("sorted by \(list.sort.title.lowercased())\(list.isReversed ? ", reversed" : "")")
    return []
  }

  private mutating func changeGrouping() -> [Effect] {
    let all = MachineList.Grouping.allCases
    let next = all[((all.firstIndex(of: list.grouping) ?? 0) + 1) % all.count]
    list.setGrouping(next)
    list.scroll(toShow: Layout(self).listRows)
    say(next == .none ? "not grouped" : "grouped by \(next.rawValue)")
    return save("group", next.rawValue) { $0.grouping = next }
  }

  /// What the filter line is about: the list, or the log.
  var filterText: String {
    if case .log(let page) = mainView { return page.filter }
    return list.filter
  }

  mutating func setFilter(_ text: String) {
    if case .log(var page) = mainView {
      page.filter = text
      page.follows = true
      mainView = .log(page)
    } else {
      list.setFilter(text)
    }
  }

  // MARK: Moving

  private mutating func move(_ action: Action) {
    let layout = Layout(self)
    switch mainView {
    case .machines:
      let rows = layout.listRows
      if let row = Self.target(
        of: action, from: list.selectedRow ?? 0, count: list.visible.count, page: rows)
      {
        list.select(row: row)
      }
      list.scroll(toShow: rows)
    case .snapshots(var tree):
      let rows = SnapshotView.treeRows(in: layout.main)
      if let row = Self.target(
        of: action, from: tree.selectedRow ?? 0, count: tree.rows.count, page: rows)
      {
        tree.select(row: row)
      }
      tree.scroll(toShow: rows)
      mainView = .snapshots(tree)
    default: movePage(action, layout)
    }
  }

  /// The row that a movement leads to; nil for other actions.
  package static func target(of action: Action, from row: Int, count: Int, page: Int) -> Int? {
    let target: Int
    switch action {
    case .up: target = row - 1
    case .down: target = row + 1
    case .first: target = 0
    case .last: target = count - 1
    case .pageUp: target = row - max(1, page - 1)
    case .pageDown: target = row + max(1, page - 1)
    case .halfUp: target = row - max(1, page / 2)
    case .halfDown: target = row + max(1, page / 2)
    default: return nil
    }
    return max(0, min(count - 1, target))
  }

  // MARK: Mouse

  private mutating func handle(_ event: MouseEvent) -> [Effect] {
    let layout = Layout(self)
    if overlay == nil, layout.console.contains(event.position), focusedConsole != nil {
      return mouseInConsole(event, layout)
    }
    if overlay == nil, let console = focusedConsole, console.copyMode?.anchor != nil,
      event.action == .release
    {
      return performInCopyMode(.copy)
    }
    if overlay != nil {
      switch event.action {
      case .wheelUp: return pressInOverlay("Up")
      case .wheelDown: return pressInOverlay("Down")
      default: return []
      }
    }
    switch event.action {
    case .wheelUp where layout.main.contains(event.position): move(.up)
    case .wheelDown where layout.main.contains(event.position): move(.down)
    case .press where event.button == 0: return click(event.position, layout)
    default: break
    }
    return []
  }

  private mutating func click(_ place: Position, _ layout: Layout) -> [Effect] {
    if layout.keyBar.contains(place) {
      let hit = KeyBarItems(self, columns: layout.keyBar.columns).action(
        at: place.column - layout.keyBar.column)
      return hit.map { perform($0) } ?? []
    }
    if layout.header.contains(place) { return clickHeader(place) }
    guard layout.main.contains(place) else { return [] }
    isConsoleFocused = false
    switch mainView {
    case .machines:
      guard place.row > layout.main.row else {
        return clickHeading(place.column - layout.main.column, layout)
      }
      let row = list.top + place.row - layout.main.row - 1
      guard list.visible.indices.contains(row) else { return [] }
      let wasSelected = row == list.selectedRow
      list.select(row: row)
      return wasSelected ? perform(.attach) : []
    case .snapshots(var tree):
      let row = tree.top + place.row - layout.main.row - 1
      guard tree.rows.indices.contains(row) else { return [] }
      tree.select(row: row)
      mainView = .snapshots(tree)
      return []
    default: return clickPage(place.row - layout.main.row - 1)
    }
  }

  /// A click on a column's name sorts by it, and again turns the order around.
  private mutating func clickHeading(_ column: Int, _ layout: Layout) -> [Effect] {
    let columns = MachineListView(model: self).columns(for: layout.main.columns)
    guard
      let hit = columns.first(where: { $0.start <= column && column <= $0.start + $0.width })
    else { return [] }
    list.setSort(hit.field, reversed: list.sort == hit.field && !list.isReversed)
    list.scroll(toShow: layout.listRows)
    return []
  }

  private mutating func clickHeader(_ place: Position) -> [Effect] {
    HeaderView(model: self).action(at: place.column).map { perform($0) } ?? []
  }
}
