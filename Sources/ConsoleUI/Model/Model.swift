/// All that the front end knows and shows. A value: `handle` changes it and says what to do, views only read it.
package struct Model: Sendable {
  /// Which view fills the screen's main part.
  package enum MainView: Sendable {
    case machines
    case snapshots(SnapshotOutline)
  }

  /// Words in the message line.
  package struct Message: Equatable, Sendable {
    package enum Kind: Sendable { case notice, success, failure }
    package var text: String
    package var kind: Kind
    /// When it was written, in nanoseconds of the model's clock.
    package var time: UInt64
  }

  /// A request that has not ended.
  package struct PendingRequest: Equatable, Sendable {
    package var request: MachineRequest
    package var text: String
    package var progress: Double?
    package var since: UInt64
  }

  // The terminal
  package var size: Size
  package var glyphs: GlyphSet
  package let depth: ColorDepth
  package private(set) var theme: Theme
  package private(set) var palette: Palette
  package var themeNames: [String]
  package let keys: KeyTable
  package let capabilities: ServiceCapabilities
  /// Leads keys of ours while a console has the focus.
  package var prefix: Key

  // Time, as the program last told it
  package var now: UInt64 = 0
  /// Seconds since 1970, UTC.
  package var wallClock: Int64 = 0

  // What is shown
  package var list = MachineList()
  package var host: HostStatus?
  package var mainView = MainView.machines
  package var showsDetail = true
  package var overlay: Overlay?
  package var message: Message?

  // Consoles
  package var consoles: [ConsolePane] = []
  package var activeConsole: ConsoleNumber?
  package var isConsoleFocused = false
  package var isConsoleZoomed = false

  // Requests
  package var pending: [RequestNumber: PendingRequest] = [:]
  package var undoStack: [MachineRequest] = []
  package var commandHistory: [String] = []
  private var nextNumber = 1

  package init(
    size: Size, theme: Theme, depth: ColorDepth, glyphs: GlyphSet = .unicode,
    themeNames: [String] = [], prefix: Key = "C-]", capabilities: ServiceCapabilities = .all
  ) {
    self.capabilities = capabilities
    keys = KeyTable(capabilities: capabilities)
    self.size = size
    self.glyphs = glyphs
    self.depth = depth
    self.theme = theme
    self.themeNames = themeNames
    self.prefix = prefix
    palette = theme.palette(for: depth)
  }

  package mutating func use(_ theme: Theme) {
    self.theme = theme
    palette = theme.palette(for: depth)
  }

  package mutating func makeNumber() -> Int {
    defer { nextNumber += 1 }
    return nextNumber
  }

  /// Where keys go when nothing stands over the screen.
  package var context: KeyContext {
    if isConsoleFocused, let console = focusedConsole {
      return console.isScrolledBack ? .scrollback : .console
    }
    if case .snapshots = mainView { return .snapshots }
    return .machines
  }

  package var focusedConsole: ConsolePane? {
    consoles.first { $0.number == activeConsole }
  }

  /// The machine that actions are about.
  package var subject: MachineSummary? {
    if isConsoleFocused, let console = focusedConsole { return list.machine(console.machine) }
    if case .snapshots(let tree) = mainView { return list.machine(tree.machine) }
    return list.selected
  }

  package mutating func say(_ text: String, _ kind: Message.Kind = .notice) {
    message = Message(text: text, kind: kind, time: now)
  }

  /// Something on the screen turns while work is going on.
  package var isAnimated: Bool {
    !pending.isEmpty || list.machines.contains { $0.state.isMoving }
      || consoles.contains { $0.state == .connecting }
  }

  /// Step of the turning wheel: ten a second.
  package var animationStep: Int { Int(truncatingIfNeeded: now / 100_000_000) }

  /// How long messages stay: 8 s; failures 20 s.
  private var messageEnd: UInt64? {
    message.map { $0.time &+ ($0.kind == .failure ? 20 : 8) * 1_000_000_000 }
  }

  /// When time alone changes the screen; nil: never.
  package var deadline: UInt64? {
    let frame = isAnimated ? now &+ 100_000_000 : nil
    return [frame, messageEnd].compactMap { $0 }.min()
  }

  /// Time goes on.
  package mutating func advance(to now: UInt64, wallClock: Int64) {
    self.now = now
    self.wallClock = wallClock
    if let messageEnd, messageEnd <= now { message = nil }
  }
}

/// What happens to the front end.
package enum ModelEvent: Sendable {
  case input(InputEvent)
  case service(ServiceEvent)
  case resize(Size)
  /// A theme was read, or could not be.
  case theme(Theme)
  case problem(String)
}

/// What the front end wants done outside of itself.
package enum Effect: Equatable, Sendable {
  case perform(MachineRequest, RequestNumber)
  case attach(String, ConsoleNumber, Size)
  case send([UInt8], ConsoleNumber)
  case attachDisplay(String, ConsoleNumber)
  /// Keys by name, for a display.
  case sendKeys([String], ConsoleNumber)
  case detach(ConsoleNumber)
  case loadTheme(String)
  /// Puts base64 text on the user's clipboard (OSC 52).
  case copy(String)
  case bell
  case repaint
  case suspend
  case quit
}
