import CLinux
import Platform

/// One user at one terminal: waits for keys, signals and the service, hands events to the model, carries out its
/// effects and shows its view. Sleeps whenever nothing happens.
final class Session {
  private let terminal: Terminal
  private let service: any MachineService
  private let signals: SignalInbox
  private let themes: ThemeLibrary
  private let store: ConfigurationStore?
  private var model: Model
  private var decoder = KeyDecoder()
  /// When bytes of an unfinished key are taken for what they are.
  private var keyDeadline: UInt64?
  private var nextFrame: UInt64 = 0
  private var isDirty = true
  private var isDone = false
  private var status: Int32 = 0

  /// An Escape alone is the key after 25 ms; a paste may pause for 5 s.
  private static let keyPatience: UInt64 = 25_000_000
  private static let pastePatience: UInt64 = 5_000_000_000
  /// At most 60 frames a second for what is not an answer to a key.
  private static let frameTime: UInt64 = 16_000_000

  init(
    service: any MachineService, options: ConsoleUI.Options, environment: TerminalEnvironment,
    variables: (String) -> String?, files: FileAccess, store: ConfigurationStore?,
    configuration: Configuration, problems: [ThemeProblem]
  ) throws {
    self.service = service
    self.store = store
    signals = try SignalInbox()
    themes = ThemeLibrary.standard(
      environment: variables, executable: ConsoleUI.executablePath)
    var problems = problems.map(\.description)
    var theme = ThemeLibrary.fallback
    do {
      theme = try themes.theme(options.theme ?? configuration.theme ?? ThemeLibrary.defaultName)
    } catch {
      problems.append("\(error)")
    }
    terminal = try Terminal(
      environment: environment, variables: variables, usesMouse: configuration.usesMouse)
    model = Model(
      size: terminal.size, theme: theme, depth: terminal.depth, glyphs: environment.glyphs,
      themeNames: themes.names, configuration: configuration, asksForPrefix: store != nil,
      capabilities: service.capabilities)
    model.completePath = { PathCompletion.candidates(for: $0, files: files) }
    model.advance(to: MonotonicClock.now, wallClock: Self.wallClock)
    if let text = terminal.notice { model.say(text, .failure) }
    if let first = problems.first {
      for problem in problems { model.record(problem, kind: .failure) }
      model.say(first, .failure)
      model.overlay = .text(
        title: "Left out of your settings", lines: problems.flatMap { [$0, ""] }, top: 0)
    }
    service.refresh(every: configuration.refresh)
    if options.runsDemo { carryOut([model.request(.demo)]) }
    if let name = options.attach { carryOut(model.open(name)) }
  }

  func run() -> Int32 {
    while !isDone {
      takeNews()
      drawIfDue()
      if isDone { break }
      wait()
    }
    terminal.close()
    farewell()
    return status
  }

  /// Says on the user's own screen that machines run on.
  private func farewell() {
    let names = model.list.machines.filter { $0.state.isAlive }.map(\.name)
    guard let first = names.first else { return }
    print(
      names.count == 1 ? "\(first) runs on." : "\(names.count) machines run on.")
  }

  private static var wallClock: Int64 { Int64(time(nil)) }

  private func takeNews() {
    model.advance(to: MonotonicClock.now, wallClock: Self.wallClock)
    for event in service.process() {
      isDirty = true
      carryOut(model.handle(.service(event)))
    }
  }

  private func drawIfDue() {
    let now = MonotonicClock.now
    guard isDirty, now >= nextFrame else { return }
    isDirty = false
    nextFrame = now &+ Self.frameTime
    terminal.show(Screen.draw(model))
  }

  // MARK: Waiting

  private func wait() {
    var polls = [
      pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
      pollfd(fd: signals.rawDescriptor, events: Int16(POLLIN), revents: 0),
    ]
    for request in service.descriptors {
      let events = request.wantsToWrite ? POLLIN | POLLOUT : POLLIN
      polls.append(pollfd(fd: request.descriptor, events: Int16(events), revents: 0))
    }
    let count = poll(&polls, nfds_t(polls.count), timeout)
    let now = MonotonicClock.now
    // Time may have changed what is seen.
    if let deadline = model.deadline, deadline <= now { isDirty = true }
    model.advance(to: now, wallClock: Self.wallClock)
    if count > 0 {
      if polls[1].revents != 0 { takeSignals() }
      if polls[0].revents != 0 { readInput() }
    }
    if let keyDeadline, keyDeadline <= now {
      self.keyDeadline = nil
      press(decoder.timeout())
    }
  }

  /// Milliseconds until something has to be done without being asked; -1: never.
  private var timeout: Int32 {
    var deadlines = [keyDeadline, model.deadline, service.deadline].compactMap { $0 }
    if isDirty { deadlines.append(nextFrame) }
    guard let earliest = deadlines.min() else { return -1 }
    let now = MonotonicClock.now
    guard earliest > now else { return 0 }
    return Int32(clamping: (earliest - now + 999_999) / 1_000_000)
  }

  private func readInput() {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = bytes.withUnsafeMutableBytes { read(STDIN_FILENO, $0.baseAddress, $0.count) }
    if count < 0, [EINTR, EAGAIN].contains(linux_error_number()) { return }
    guard count > 0 else {
      // The terminal is gone.
      isDone = true
      status = 1
      return
    }
    press(decoder.feed(bytes[..<count]))
    let patience = decoder.isPasting ? Self.pastePatience : Self.keyPatience
    keyDeadline = decoder.isPending ? MonotonicClock.now &+ patience : nil
  }

  private func press(_ events: [InputEvent]) {
    for event in events where !isDone {
      carryOut(model.handle(.input(event)))
    }
    guard !events.isEmpty else { return }
    // Answers to keys are shown at once.
    isDirty = true
    nextFrame = 0
  }

  private func takeSignals() {
    for number in signals.take() {
      switch number {
      case SIGWINCH:
        carryOut(model.handle(.resize(terminal.resize())))
        isDirty = true
      case SIGCONT:
        terminal.resume()
        carryOut(model.handle(.resize(terminal.size)))
        isDirty = true
      case SIGTSTP: suspend()
      default:
        isDone = true
        status = number == SIGHUP ? 1 : 0
      }
    }
  }

  private func suspend() {
    let signals = signals
    terminal.suspended { signals.stopProcess() }
    carryOut(model.handle(.resize(terminal.size)))
    isDirty = true
  }

  // MARK: Effects

  private func carryOut(_ effects: [Effect]) {
    for effect in effects { carryOut(effect) }
  }

  private func carryOut(_ effect: Effect) {
    switch effect {
    case .perform(let request, let number): service.perform(request, as: number)
    case .attach(let name, let source, let console, let size):
      service.attach(name, source, as: console, size: size)
    case .send(let bytes, let console): service.send(bytes, to: console)
    case .sendKeys(let names, let console): service.sendKeys(names, to: console)
    case .detach(let console): service.detach(console)
    case .loadTheme(let name): load(name)
    case .copy(let text): terminal.copy(text)
    case .editDefinition(let name): edit(name)
    case .save(let key, let literal): save(key, literal)
    case .refresh(let seconds): service.refresh(every: seconds)
    case .mouse(let on): terminal.useMouse(on)
    case .bell: terminal.bell()
    case .repaint:
      terminal.repaint()
      isDirty = true
    case .suspend: suspend()
    case .quit: isDone = true
    }
  }

  private func save(_ key: String, _ literal: String) {
    guard let store else { return }
    do {
      try store.set(key, to: literal)
    } catch {
      carryOut(model.handle(.problem("\(store.path): not saved: \(error)")))
    }
  }

  /// Gives the terminal to `uj edit`, which checks the text before it saves it.
  private func edit(_ name: String) {
    var status: Int32 = 0
    terminal.suspended {
      status = ChildProgram.run(ConsoleUI.executablePath, ["edit", "--", name])
    }
    carryOut(model.handle(.resize(terminal.size)))
    if status != 0 {
      carryOut(model.handle(.problem("\(name) was not changed")))
    }
    isDirty = true
  }

  private func load(_ name: String) {
    do {
      carryOut(model.handle(.theme(try themes.theme(name))))
    } catch {
      carryOut(model.handle(.problem("\(error)")))
    }
    isDirty = true
  }
}
