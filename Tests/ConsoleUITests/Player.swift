import ConsoleUI

/// Plays a user's session: keys in, screens out, with machines that exist only here.
final class Player {
  let service = FakeMachineService()
  var model: Model
  private(set) var effects: [Effect] = []
  private var time: UInt64 = 1_000_000_000

  init(
    columns: Int = 80, rows: Int = 24, theme: Theme = ThemeLibrary.fallback,
    depth: ColorDepth = .palette, glyphs: GlyphSet = .unicode,
    configuration: Configuration = Configuration(), asksForPrefix: Bool = false,
    capabilities: ServiceCapabilities = .all
  ) {
    model = Model(
      size: Size(columns: columns, rows: rows), theme: theme, depth: depth, glyphs: glyphs,
      themeNames: ["light", "underjack"], configuration: configuration,
      asksForPrefix: asksForPrefix, capabilities: capabilities)
    model.advance(to: time, wallClock: 1_700_000_100)
  }

  /// Machines of every kind of use, as most tests want them.
  static func withMachines(
    columns: Int = 80, rows: Int = 24, theme: Theme = ThemeLibrary.fallback,
    depth: ColorDepth = .palette, glyphs: GlyphSet = .unicode,
    configuration: Configuration = Configuration(), asksForPrefix: Bool = false
  ) -> Player {
    let player = Player(
      columns: columns, rows: rows, theme: theme, depth: depth, glyphs: glyphs,
      configuration: configuration, asksForPrefix: asksForPrefix)
    var template = MachineSummary(name: "debian", state: .template, processors: 2, memory: 1 << 30)
    template.disks = [disk]
    var web = MachineSummary(name: "web", state: .running, processors: 2, memory: 1 << 30)
    web.parent = "debian"
    web.processorUse = 0.5
    web.uptime = 65_000_000_000
    web.residentMemory = 300 << 20
    web.disks = [disk]
    var old = MachineSummary(name: "old", state: .stopped, processors: 1, memory: 256 << 20)
    old.disks = [disk]
    player.service.machines = [template, web, old]
    player.service.announce()
    player.pump()
    return player
  }

  static let disk = DiskStatus(
    name: "disk0", virtualSize: 8 << 30, allocatedSize: 300 << 20, layers: 2)

  /// Hands on what the service has to say, until it is silent.
  func pump() {
    time += 1_000_000_000
    model.advance(to: time, wallClock: 1_700_000_100)
    for _ in 0..<10 {
      let events = service.process()
      if events.isEmpty { return }
      for event in events { carryOut(model.handle(.service(event))) }
    }
  }

  func press(_ keys: Key...) {
    for key in keys {
      carryOut(model.handle(.input(.key(key))))
      pump()
    }
  }

  func type(_ text: String) {
    for character in text { press(Key(.character(character))) }
  }

  func input(_ event: InputEvent) {
    carryOut(model.handle(.input(event)))
    pump()
  }

  private func carryOut(_ new: [Effect]) {
    effects += new
    for effect in new {
      switch effect {
      case .perform(let request, let number): service.perform(request, as: number)
      case .attach(let name, let source, let console, let size):
        service.attach(name, source, as: console, size: size)
      case .send(let bytes, let console): service.send(bytes, to: console)
      case .detach(let console): service.detach(console)
      case .sendKeys(let names, let console): service.sendKeys(names, to: console)
      default: break
      }
    }
  }

  /// News of a service.
  func tell(_ events: ServiceEvent...) {
    for event in events { carryOut(model.handle(.service(event))) }
  }

  var canvas: Canvas { Screen.draw(model) }
  var screen: String { canvas.text }
  var lines: [String] { (0..<canvas.size.rows).map { canvas.text(row: $0) } }
  /// The line of messages, above the key bar.
  var message: String { canvas.text(row: canvas.size.rows - 2) }

  func shows(_ text: String) -> Bool { screen.contains(text) }
}
