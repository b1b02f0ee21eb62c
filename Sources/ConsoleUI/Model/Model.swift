/// All that the front end knows and shows. A value: `handle` changes it and says what to do, views only read it.
package struct Model: Sendable {
  /// Which view fills the screen's main part.
  package enum MainView: Sendable {
    case machines
    case snapshots(SnapshotOutline)
    case log(LogPage)
    case images(ImagePage)
    /// The first line shown.
    case host(top: Int)
    /// Of a machine.
    case charts(String)
    case settings(SettingsPage)
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
  package private(set) var keys: KeyTable
  package let capabilities: ServiceCapabilities
  /// What the user has settled; changes are saved by effects.
  package private(set) var configuration: Configuration
  /// Leads keys of ours while a console has the focus.
  package var prefix: Key { configuration.prefix ?? Configuration.defaultPrefix }
  /// The user has to be asked for the key before the first console takes the keyboard.
  package var asksForPrefix: Bool
  /// Names of files that begin like a text, for completion; none by itself, because a model looks at no disk.
  package var completePath: @Sendable (String) -> [String] = { _ in [] }

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

  // What other views show
  package var events: [EventRecord] = []
  package var hostReport: HostReport?
  package var hostSeries = HostSeries()

  // Consoles
  package var consoles: [ConsolePane] = []
  /// Consoles that are shown side by side when there are two or more.
  package var splitConsoles: [ConsoleNumber] = []
  /// What is typed goes to every console shown.
  package var typesToAll = false
  /// What was copied last.
  package var copyBuffer = ""
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
    themeNames: [String] = [], configuration: Configuration = Configuration(),
    asksForPrefix: Bool = false, capabilities: ServiceCapabilities = .all
  ) {
    self.capabilities = capabilities
    self.configuration = configuration
    self.asksForPrefix = asksForPrefix && configuration.prefix == nil
    keys = KeyTable(overrides: configuration.keys, capabilities: capabilities)
    self.size = size
    self.glyphs = glyphs
    self.depth = depth
    self.theme = theme
    self.themeNames = themeNames
    palette = theme.palette(for: depth)
    showsDetail = configuration.showsDetail
    list.setSort(configuration.sort, reversed: configuration.isReversed)
    list.setGrouping(configuration.grouping)
    list.sampleInterval = UInt64(configuration.refresh * 1e9)
  }

  /// Changes a setting; the caller's effect saves it.
  package mutating func configure(_ change: (inout Configuration) -> Void) {
    change(&configuration)
    keys = KeyTable(overrides: configuration.keys, capabilities: capabilities)
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
      return console.isScrolledBack ? .copy : .console
    }
    switch mainView {
    case .machines: return .machines
    case .snapshots: return .snapshots
    case .log: return .log
    case .images: return .images
    case .host: return .host
    case .charts: return .charts
    case .settings: return .settings
    }
  }

  /// The consoles on the screen: those beside each other, or the active one alone.
  package var shownConsoles: [ConsolePane] {
    guard let active = focusedConsole else { return [] }
    let tiles = splitConsoles.compactMap { number in consoles.first { $0.number == number } }
    guard !isConsoleZoomed, tiles.count > 1, tiles.contains(where: { $0.number == active.number })
    else { return [active] }
    return tiles
  }

  package var focusedConsole: ConsolePane? {
    consoles.first { $0.number == activeConsole }
  }

  /// The machine that actions are about.
  package var subject: MachineSummary? {
    if isConsoleFocused, let console = focusedConsole { return list.machine(console.machine) }
    switch mainView {
    case .snapshots(let tree): return list.machine(tree.machine)
    case .charts(let name): return list.machine(name)
    case .log(let page): return page.source.machine.flatMap { list.machine($0) } ?? list.selected
    default: return list.selected
    }
  }

  package mutating func say(_ text: String, _ kind: Message.Kind = .notice) {
    message = Message(text: text, kind: kind, time: now)
  }

  /// Keeps something for the view of events.
  package mutating func record(
    _ text: String, machine: String? = nil, kind: Message.Kind = .notice
  ) {
    events.append(EventRecord(time: wallClock, machine: machine, text: text, kind: kind))
    if events.count > 2000 { events.removeFirst(events.count - 2000) }
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
  case attach(String, ConsoleSource, ConsoleNumber, Size)
  case send([UInt8], ConsoleNumber)
  /// Keys by name, for a display.
  case sendKeys([String], ConsoleNumber)
  case detach(ConsoleNumber)
  case loadTheme(String)
  /// Puts base64 text on the user's clipboard (OSC 52).
  case copy(String)
  /// Opens the user's editor on a machine's definition.
  case editDefinition(String)
  /// Sets a key of `config.toml` to a TOML value.
  case save(String, String)
  /// Seconds between statistics.
  case refresh(Double)
  case mouse(Bool)
  case bell
  case repaint
  case suspend
  case quit
}
