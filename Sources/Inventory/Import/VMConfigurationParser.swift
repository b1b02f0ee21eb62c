import Platform

/// Reads vm.conf(5).
struct VMConfigurationParser {
  private var tokens: VMConfigurationTokens
  private var result = VMConfiguration()

  static func parse(
    _ path: String, root: String? = nil, macros: [String: String] = [:]
  ) throws(InventoryError) -> VMConfiguration {
    var parser = VMConfigurationParser(
      tokens: try VMConfigurationTokens(path: path, root: root, macros: macros))
    try parser.parseFile()
    return parser.result
  }

  private init(tokens: VMConfigurationTokens) { self.tokens = tokens }

  private mutating func parseFile() throws(InventoryError) {
    while true {
      switch try tokens.next() {
      case .end: return
      case .lineEnd: continue
      case .word("include", false): try tokens.include(try word("a file"))
      case .word("vm", false): try parseMachine()
      case .word("switch", false): try parseSwitch()
      case .word(let keyword, false) where ["local", "socket", "agentx"].contains(keyword):
        // As one text: there is nothing here that it could set.
        try collectGlobal(keyword)
      case .word("staggered", false): try parseStaggeredStart()
      case .word(let name, false): try parseMacro(name)
      default: throw tokens.error("expected vm, switch, include, or NAME = VALUE")
      }
    }
  }

  private mutating func collectGlobal(_ keyword: String) throws(InventoryError) {
    let place = tokens.place
    var words = [keyword]
    while case .word(let text, _) = try tokens.peek() {
      _ = try tokens.next()
      words.append(text)
    }
    result.global.append((place, words.joined(separator: " ")))
  }

  private mutating func parseMacro(_ name: String) throws(InventoryError) {
    guard name.utf8.allSatisfy(VMConfigurationTokens.isNameByte), try tokens.next() == .equals
    else {
      throw tokens.error("'\(printable(name.prefix(40)))' is no setting of vm.conf")
    }
    var parts: [String] = []
    while case .word(let text, _) = try tokens.peek() {
      _ = try tokens.next()
      // Its marks are gone: what was quoted is read as the text that it is where the macro is used.
      parts.append(text)
    }
    guard !parts.isEmpty else { throw tokens.error("macro '\(printable(name))' has no value") }
    tokens.define(name, parts.joined(separator: " "))
  }

  private mutating func parseStaggeredStart() throws(InventoryError) {
    try expect("start")
    try expect("parallel")
    let parallel = try number("how many machines start at once", in: 1...100_000)
    try expect("delay")
    let delay = try number("seconds", in: 0...86400)
    result.staggeredStart = (parallel, delay)
  }

  // MARK: Machines

  private mutating func parseMachine() throws(InventoryError) {
    var machine = VMConfiguration.Machine(name: try text("a machine's name"))
    machine.place = tokens.place
    if case .word("instance", false) = try tokens.peek() {
      _ = try tokens.next()
      machine.parent = machine.name
      machine.name = try text("the instance's name")
    }
    if let other = result.machines.first(where: { $0.name == machine.name }) {
      throw tokens.error("vm \(printable(machine.name)) is declared twice, first at \(other.place)")
    }
    try block { (parser, keyword) throws(InventoryError) in
      try parser.parseSetting(keyword, &machine)
    }
    result.machines.append(machine)
  }

  private mutating func parseSetting(
    _ keyword: String, _ machine: inout VMConfiguration.Machine
  ) throws(InventoryError) {
    switch keyword {
    case "enable": machine.isEnabled = true
    case "disable": machine.isEnabled = false
    case "allow": try parseAllowance(&machine)
    case "boot":
      let text = try text("a file, or device")
      guard text == "device" else {
        machine.boot = text
        return
      }
      let name = try word("disk, cdrom or net")
      guard let device = VMConfiguration.BootDevice(rawValue: name) else {
        throw tokens.error("boot device must be disk, cdrom or net, not '\(printable(name))'")
      }
      machine.bootDevice = device
    case "cdrom": machine.cdrom = try text("a disc image")
    case "cpus": machine.processors = try number("processors", in: 1...512)
    case "disk": try parseDisk(&machine)
    case "interfaces": machine.interfaceCount = try number("interfaces", in: 0...64)
    case "interface": machine.interfaces.append(try parseInterface(isLocal: false))
    case "local":
      try expect("interface")
      machine.interfaces.append(try parseInterface(isLocal: true))
    case "memory": machine.memory = try size()
    case "owner": machine.owner = try owner()
    case "sev", "seves": machine.flags.append(keyword)
    default: throw tokens.error("'\(printable(keyword.prefix(40)))' is no setting of a vm")
    }
  }

  private mutating func parseDisk(
    _ machine: inout VMConfiguration.Machine
  ) throws(InventoryError) {
    var disk = VMConfiguration.Disk(path: try text("a disk image"))
    for format in MachineDefinition.DiskFormat.allCases
    where disk.path.hasPrefix(format.rawValue + ":") {
      disk.path = String(disk.path.dropFirst(format.rawValue.utf8.count + 1))
      disk.format = format
      break
    }
    if case .word("format", false) = try tokens.peek() {
      _ = try tokens.next()
      let name = try word("raw or qcow2")
      guard let format = MachineDefinition.DiskFormat(rawValue: name) else {
        throw tokens.error("a disk's format must be raw or qcow2, not '\(printable(name))'")
      }
      disk.format = format
    }
    machine.disks.append(disk)
  }

  private mutating func parseAllowance(
    _ machine: inout VMConfiguration.Machine
  ) throws(InventoryError) {
    try expect("instance")
    var allowed: [InstanceSetting] = []
    var who: VMConfiguration.Owner?
    try block { (parser, keyword) throws(InventoryError) in
      guard let setting = InstanceSetting(rawValue: keyword), setting != .serial else {
        throw parser.tokens.error("'\(printable(keyword.prefix(40)))' can not be allowed")
      }
      if setting == .owner { who = try parser.owner() }
      if !allowed.contains(setting) { allowed.append(setting) }
    }
    machine.allowed = (machine.allowed ?? []) + allowed
    machine.instanceOwner = who ?? machine.instanceOwner
  }

  private mutating func parseInterface(
    isLocal: Bool
  ) throws(InventoryError) -> VMConfiguration.Interface {
    var interface = VMConfiguration.Interface()
    interface.isLocal = isLocal
    if case .word(let name, _) = try tokens.peek(), name.hasPrefix("tap") {
      _ = try tokens.next()
      interface.name = name
    }
    guard try tokens.peek() == .open else { return interface }
    try block { (parser, keyword) throws(InventoryError) in
      try parser.parseInterfaceOption(keyword, &interface)
    }
    return interface
  }

  private mutating func parseInterfaceOption(
    _ keyword: String, _ interface: inout VMConfiguration.Interface
  ) throws(InventoryError) {
    switch keyword {
    case "group": interface.group = try text("a group of interfaces")
    case "switch": interface.switchName = try text("a switch")
    case "rdomain": interface.routingDomain = try number("a routing domain", in: 0...255)
    case "up": interface.isUp = true
    case "down": interface.isUp = false
    case "locked":
      try expect("lladdr")
      interface.isLocked = true
      interface.address = try optionalAddress()
    case "lladdr": interface.address = try optionalAddress()
    default: throw tokens.error("'\(printable(keyword.prefix(40)))' is no setting of an interface")
    }
  }

  /// An address may be left out: a random one then.
  private mutating func optionalAddress() throws(InventoryError) -> String? {
    guard case .word(let text, _) = try tokens.peek(), text.contains(":") else { return nil }
    _ = try tokens.next()
    let groups = text.split(separator: ":", omittingEmptySubsequences: false)
    guard groups.count == 6, groups.allSatisfy({ $0.utf8.count <= 2 && Int($0, radix: 16) != nil })
    else { throw tokens.error("'\(printable(text.prefix(40)))' is no link-layer address") }
    return text
  }

  private mutating func parseSwitch() throws(InventoryError) {
    var found = VMConfiguration.Switch(name: try text("a switch's name"))
    found.place = tokens.place
    try block { (parser, keyword) throws(InventoryError) in
      switch keyword {
      case "enable": found.isEnabled = true
      case "disable": found.isEnabled = false
      case "interface", "add": found.interface = try parser.word("an interface")
      case "group", "rdomain": found.options.append("\(keyword) \(try parser.word("a value"))")
      case "locked":
        try parser.expect("lladdr")
        found.options.append("locked lladdr")
      case "up", "down": found.options.append(keyword)
      default:
        throw parser.tokens.error("'\(printable(keyword.prefix(40)))' is no setting of a switch")
      }
    }
    result.switches.append(found)
  }

  // MARK: Parts

  /// `{` keywords with what belongs to them, with line ends or commas between `}`.
  private mutating func block(
    _ body: (inout VMConfigurationParser, String) throws(InventoryError) -> Void
  ) throws(InventoryError) {
    while try tokens.peek() == .lineEnd { _ = try tokens.next() }
    guard try tokens.next() == .open else { throw tokens.error("expected {") }
    while true {
      switch try tokens.next() {
      case .lineEnd, .comma: continue
      case .close: return
      case .word(let keyword, false): try body(&self, keyword)
      case .end: throw tokens.error("a block is not closed by }")
      default: throw tokens.error("expected a setting or }")
      }
    }
  }

  private mutating func word(_ what: String) throws(InventoryError) -> String {
    guard case .word(let text, _) = try tokens.next(), !text.isEmpty else {
      throw tokens.error("expected \(what)")
    }
    return text
  }

  /// One word, or several in a row that make one text, as a macro with a folder and then a file's name.
  private mutating func text(_ what: String) throws(InventoryError) -> String {
    var text = try word(what)
    // "device" is a keyword by itself.
    if text == "device" { return text }
    while case .word(let more, let isQuoted) = try tokens.peek(),
      isQuoted || !Self.keywords.contains(more)
    {
      _ = try tokens.next()
      text += more
    }
    return text
  }

  /// What ends a text unless it is quoted.
  private static let keywords: Set<String> = [
    "add", "agentx", "allow", "boot", "cdrom", "context", "cpus", "delay", "device", "disable",
    "disk", "down", "enable", "format", "group", "include", "inet6", "instance", "interface",
    "interfaces", "lladdr", "local", "locked", "memory", "net", "owner", "parallel", "path",
    "prefix", "rdomain", "sev", "seves", "socket", "staggered", "start", "switch", "up", "vm",
  ]

  private mutating func expect(_ keyword: String) throws(InventoryError) {
    guard try tokens.next() == .word(keyword, isQuoted: false) else {
      throw tokens.error("expected \(keyword)")
    }
  }

  private mutating func number(
    _ what: String, in range: ClosedRange<Int>
  ) throws(InventoryError) -> Int {
    let text = try word("a number of \(what)")
    guard let value = Int(text), range.contains(value) else {
      throw tokens.error(
        "expected a number (\(what)) from \(range.lowerBound) to \(range.upperBound), not "
          + "'\(printable(text.prefix(40)))'")
    }
    return value
  }

  private mutating func owner() throws(InventoryError) -> VMConfiguration.Owner {
    let text = try word("USER, USER:GROUP or :GROUP")
    guard let owner = VMConfiguration.Owner(text) else {
      throw tokens.error("expected USER, USER:GROUP or :GROUP")
    }
    return owner
  }

  /// scan_scaled(3): a number, perhaps with a fraction, and one of B K M G T P E.
  private mutating func size() throws(InventoryError) -> UInt64 {
    let text = try word("a size")
    var digits = Substring(text)
    var shift = 0
    if let last = digits.last, let index = "bkmgtpe".firstIndex(of: Character(last.lowercased())) {
      shift = "bkmgtpe".distance(from: "bkmgtpe".startIndex, to: index) * 10
      digits.removeLast()
    }
    let isPlain = digits.utf8.allSatisfy { (48...57).contains($0) || $0 == UInt8(ascii: ".") }
    guard isPlain, let value = Double(digits), value >= 0 else {
      throw tokens.error("expected a size such as 512M, not '\(printable(text.prefix(40)))'")
    }
    let bytes = value * Double(UInt64(1) << UInt64(shift))
    guard bytes < 9e18 else { throw tokens.error("\(printable(text)): is too large") }
    return UInt64(bytes)
  }
}
