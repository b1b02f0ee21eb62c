import VirtualTerminal

// Copy mode and the mouse in a console.

extension Model {
  mutating func pressInCopyMode(_ key: Key) -> [Effect] {
    guard let action = keys.action(for: key, in: .copy) else {
      say(
        "\(key.label) has no meaning in copy mode; \(keys.label(.help, in: .copy)) shows the keys")
      return []
    }
    return performInCopyMode(action)
  }

  package mutating func performInCopyMode(_ action: Action) -> [Effect] {
    let page = Layout(self).guest.rows
    withActiveConsole { $0.beginCopyMode() }
    switch action {
    case .help: return perform(.help)
    case .clear:
      // First the selection goes, then the mode.
      withActiveConsole { pane in
        if pane.copyMode?.anchor != nil { pane.copyMode?.anchor = nil } else { pane.endScrolling() }
      }
    case .selectCharacters: withActiveConsole { $0.copyMode?.select(.characters) }
    case .selectLines: withActiveConsole { $0.copyMode?.select(.lines) }
    case .selectBlock: withActiveConsole { $0.copyMode?.select(.block) }
    case .otherEnd:
      withActiveConsole { pane in
        guard let mode = pane.copyMode, let anchor = mode.anchor else { return }
        pane.copyMode?.anchor = mode.cursor
        pane.copyMode?.cursor = anchor
        pane.showCopyCursor(page: page)
      }
    case .copyLine:
      withActiveConsole { pane in
        let cursor = pane.copyMode?.cursor
        pane.copyMode?.anchor = cursor
        pane.copyMode?.selection = .lines
      }
      return copySelection()
    case .copy: return copySelection()
    case .searchForward, .searchBackward:
      overlay = .search(TextField(), forward: action == .searchForward)
    case .searchNext, .searchPrevious: searchAgain(action == .searchPrevious)
    default: withActiveConsole { $0.moveCopyCursor(action, page: page) }
    }
    return []
  }

  private mutating func searchAgain(_ isReversed: Bool) {
    guard let mode = focusedConsole?.copyMode else { return }
    guard !mode.query.isEmpty else {
      say("nothing was searched yet; / and ? search")
      return
    }
    search(mode.query, forward: mode.searchesForward != isReversed)
  }

  /// Goes to the next place with the text and keeps it for `n`.
  mutating func search(_ text: String, forward: Bool) {
    let page = Layout(self).guest.rows
    var isFound = false
    withActiveConsole { pane in
      pane.beginCopyMode()
      pane.copyMode?.query = text
      isFound = text.isEmpty || pane.search(forward: forward, page: page)
    }
    if !isFound { say("'\(text)' is nowhere in what is kept", .failure) }
  }

  private mutating func copySelection() -> [Effect] {
    guard let pane = focusedConsole else { return [] }
    let text = pane.selectedText()
    guard !text.isEmpty else {
      guard pane.copyMode?.anchor == nil else {
        say("what is selected is blank")
        return []
      }
      say("nothing is selected; \(keys.label(.selectCharacters, in: .copy)) begins")
      return []
    }
    withActiveConsole { $0.endScrolling() }
    return keep(text)
  }

  /// Puts text where `paste` finds it, and on the user's clipboard.
  mutating func keep(_ text: String) -> [Effect] {
    copyBuffer = text
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).count
    say(lines == 1 ? "copied \(text.count) characters" : "copied \(lines) lines", .success)
    return [.copy(Base64.encode(Array(text.utf8)))]
  }

  // MARK: Mouse

  mutating func mouseInConsole(_ event: MouseEvent, _ layout: Layout) -> [Effect] {
    guard let tile = layout.tiles.first(where: { $0.area.contains(event.position) }) else {
      return []
    }
    let wasFocused = isConsoleFocused && activeConsole == tile.number
    if event.action == .press {
      isConsoleFocused = true
      activeConsole = tile.number
    }
    guard let pane = consoles.first(where: { $0.number == tile.number }) else { return [] }
    if event.action == .press, !tile.guest.contains(event.position) {
      return clickFrame(event, tile)
    }
    if wasFocused, tile.guest.contains(event.position), pane.terminal.mouseTracking != .off,
      !pane.isScrolledBack, !event.modifiers.contains(.shift), !pane.isWatchOnly
    {
      return pass(event, to: pane, tile)
    }
    switch event.action {
    case .wheelUp: withConsole(tile.number) { $0.scroll(by: -3) }
    case .wheelDown where pane.isScrolledBack:
      withConsole(tile.number) { pane in
        pane.scroll(by: 3)
        if pane.scrollDistance == 0, pane.copyMode?.anchor == nil { pane.endScrolling() }
      }
    case .drag where event.button == 0: drag(event, tile, pane)
    case .release where pane.copyMode?.anchor != nil && event.button == 0:
      return performInCopyMode(.copy)
    default: break
    }
    return []
  }

  /// A click on the words at the right of the frame's title leaves.
  private mutating func clickFrame(_ event: MouseEvent, _ tile: Layout.Tile) -> [Effect] {
    guard event.position.row == tile.area.row,
      event.position.column > tile.area.column + tile.area.columns / 2
    else { return [] }
    if focusedConsole?.isScrolledBack ?? false { return performInCopyMode(.clear) }
    return performOnConsole(.detach)
  }

  private func pass(
    _ event: MouseEvent, to pane: ConsolePane, _ tile: Layout.Tile
  ) -> [Effect] {
    let corner = GuestView.corner(of: pane, in: tile.guest)
    let place = Position(
      row: event.position.row - tile.guest.row + corner.row,
      column: event.position.column - tile.guest.column + corner.column)
    let bytes = GuestKeys.mouse(
      event, at: place, tracking: pane.terminal.mouseTracking,
      encoding: pane.terminal.mouseEncoding)
    return bytes.isEmpty ? [] : [.send(bytes, pane.number)]
  }

  /// Selects from where the drag began.
  private mutating func drag(_ event: MouseEvent, _ tile: Layout.Tile, _ pane: ConsolePane) {
    let corner = GuestView.corner(of: pane, in: tile.guest)
    let row = min(tile.guest.rows - 1, max(0, event.position.row - tile.guest.row))
    let column = event.position.column - tile.guest.column + corner.column
    let line = GuestView.topLine(of: pane, in: tile.guest) + UInt64(row)
    withConsole(tile.number) { pane in
      let isNew = pane.copyMode?.anchor == nil
      pane.beginScrolling()
      pane.beginCopyMode()
      let place = CopyMode.Place(
        line: min(pane.newestLine, line), column: min(pane.terminal.columns - 1, max(0, column)))
      pane.copyMode?.cursor = place
      if isNew {
        pane.copyMode?.selection = event.modifiers.contains(.alt) ? .block : .characters
        pane.copyMode?.anchor = place
      }
    }
  }
}

/// RFC 4648, for the clipboard.
enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func encode(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let part = bytes[start..<min(start + 3, bytes.count)]
      var value: UInt32 = 0
      for index in 0..<3 {
        value = value << 8 | (index < part.count ? UInt32(part[start + index]) : 0)
      }
      for index in 0..<4 {
        text.append(
          index <= part.count ? alphabet[Int(value >> (18 - 6 * UInt32(index)) & 63)] : 0x3D)
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
