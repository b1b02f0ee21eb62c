import CLinux
import Devices

/// One network adapter of a machine and what its cable leads to, with the notation that definitions, `uj set` and the
/// command line share: `user,forward=2222:22`, `tap:tap0`, `switch:lab,mac=02:00:00:00:00:07,locked`, `none`.
public struct NetworkConfiguration: Sendable, Codable, Equatable {
  public static let queueLimit = 8

  public var kind: Kind
  /// nil: made from the machine's identifier.
  public var address: HardwareAddress?
  /// Frames with another source are refused.
  public var isLocked = false
  public var isUp = true
  /// A stream: we wait for the peer instead of going to it.
  public var listens = false
  /// Pairs of queues, each with a thread of its own; a tap's.
  public var queues = 1
  /// Bits a second in each direction; nil: as many as there are.
  public var rate: UInt64?
  /// Which adapter the guest sees.
  public var model = NetworkModel.virtio
  /// What a user network serves.
  public var user = UserNetwork.Options()

  public init(_ kind: Kind = .user) { self.kind = kind }

  /// Reads the notation.
  ///
  /// - Parameter resolve: makes a path absolute.
  /// - Throws: `NetworkError`, one line that names the part.
  public init(
    text: some StringProtocol, resolve: (String) -> String = { $0 }
  ) throws(NetworkError) {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map { String($0) }
    guard let kind = Kind(parts[0]) else {
      throw NetworkError("\"\(Self.shown(parts[0]))\": must be \(Kind.words)")
    }
    self.init(kind.resolved(resolve))
    for part in parts.dropFirst() {
      let equals = part.firstIndex(of: "=")
      let key = equals.map { String(part[..<$0]) } ?? part
      try set(key, equals.map { String(part[part.index(after: $0)...]) }, resolve)
    }
    try check()
  }

  private static func shown(_ text: String) -> String {
    String(
      text.unicodeScalars.prefix(60).map {
        $0.value < 0x20 || $0.value == 0x7F ? "?" : Character($0)
      })
  }

  private mutating func set(
    _ key: String, _ value: String?, _ resolve: (String) -> String
  ) throws(NetworkError) {
    func wrong(_ expected: String) -> NetworkError {
      NetworkError("\(key)=\(Self.shown(value ?? "")): must be \(expected)")
    }
    switch (key, value) {
    case ("mac", let value?), ("lladdr", let value?):
      address = try Self.address(value)
    case ("model", let value?):
      guard let model = NetworkModel(rawValue: value) else {
        throw wrong(NetworkModel.allCases.map(\.rawValue).joined(separator: " or "))
      }
      self.model = model
    case ("locked", nil): isLocked = true
    case ("down", nil): isUp = false
    case ("listen", nil): listens = true
    case ("isolated", nil): user.isIsolated = true
    case ("local", nil): user.isLocal = true
    case ("ipv4-only", nil): user.hasVersion6 = false
    case ("queues", let value?):
      guard let count = Int(value), (1...Self.queueLimit).contains(count) else {
        throw wrong("1 to \(Self.queueLimit)")
      }
      queues = count
    case ("rate", let value?):
      guard let bits = BitRate.read(value) else {
        throw wrong("bits a second from 8k to 100G, such as 10M")
      }
      rate = bits
    case ("forward", let value?):
      guard let forward = PortForward(value) else {
        throw wrong("[tcp|udp:][ADDRESS:]HOST-PORT:[ADDRESS:]GUEST-PORT, such as 2222:22")
      }
      user.forwards.append(forward)
    case ("tftp", let value?):
      guard !value.isEmpty else { throw wrong("a folder") }
      user.tftpFolder = resolve(value)
    case ("bootfile", let value?):
      guard (1...127).contains(value.utf8.count) else { throw wrong("a file name") }
      user.bootFile = value
    case ("hostname", let value?):
      guard (1...63).contains(value.utf8.count) else { throw wrong("a name") }
      user.guestName = value
    case ("network", let value?):
      guard let (network, length) = Self.network(value) else {
        throw wrong("a network of 8 to 28 bits, such as 10.0.2.0/24")
      }
      user.network = network
      user.prefixLength = length
    case ("mac", nil), ("lladdr", nil), ("model", nil), ("queues", nil), ("rate", nil),
      ("forward", nil), ("tftp", nil),
      ("bootfile", nil),
      ("hostname", nil), ("network", nil):
      throw NetworkError("\(key) needs a value: \(key)=...")
    case ("locked", _), ("down", _), ("listen", _), ("isolated", _), ("local", _), ("ipv4-only", _):
      throw NetworkError("\(key) takes no value")
    default:
      throw NetworkError(
        "\"\(Self.shown(key))\": must be mac=, model=, queues=, rate=, locked, down, listen, forward=, tftp=, bootfile=, hostname=, network=, isolated, local or ipv4-only"
      )
    }
  }

  /// A station's address, as definitions and options have it.
  public static func address(_ text: String) throws(NetworkError) -> HardwareAddress {
    guard let address = HardwareAddress(text), !address.isMulticast, address.value != 0 else {
      throw NetworkError(
        "mac=\(shown(text)): must be six bytes such as 02:00:00:00:00:07, the first of them even")
    }
    return address
  }

  private static func network(_ text: String) -> (IPv4Address, Int)? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPv4Address(parts[0]), let length = Int(parts[1]),
      (8...28).contains(length)
    else { return nil }
    return (address, length)
  }

  /// Refuses what the kind of network does not have.
  public func check() throws(NetworkError) {
    if listens {
      guard case .stream = kind else {
        throw NetworkError("\(kind.text): listen is a stream's")
      }
    }
    if queues > 1 {
      switch kind {
      case .tap, .bridge: break
      case .tapDescriptors:
        throw NetworkError("\(kind.text): has as many queues as descriptors; leave queues= out")
      default: throw NetworkError("\(kind.text): several queues are a tap's or a bridge's")
      }
    }
    if queueCount > 1, model != .virtio {
      throw NetworkError("\(kind.text): \(model.rawValue) has one queue; several are virtio's")
    }
    var others = user
    if kind == .passt {
      others.forwards = []
      others.hasVersion6 = true
      if let forward = user.forwards.first(where: { $0.guestAddress != nil }) {
        throw NetworkError(
          "passt: forward=\(forward): passt's forwards lead to the one guest; leave its address out"
        )
      }
    }
    guard kind != .user, others != UserNetwork.Options() else { return }
    throw NetworkError(
      "\(kind.text): \(kind == .passt ? "" : "forward, ipv4-only, ")tftp, bootfile, hostname, network, isolated and local are a user network's"
    )
  }

  /// Pairs of queues that it asks for.
  public var queueCount: Int {
    if case .tapDescriptors(let numbers) = kind { numbers.count } else { queues }
  }

  /// Whether it means the same the next time: descriptors are one process's.
  public var isLasting: Bool { if case .tapDescriptors = kind { false } else { true } }

  public var isOnSwitch: Bool { if case .networkSwitch = kind { true } else { false } }

  /// The notation again.
  public var text: String {
    var parts = [kind.text]
    if model != .virtio { parts.append("model=\(model.rawValue)") }
    if let address { parts.append("mac=\(address)") }
    if queues > 1 { parts.append("queues=\(queues)") }
    if let rate { parts.append("rate=\(BitRate.text(rate))") }
    if isLocked { parts.append("locked") }
    if !isUp { parts.append("down") }
    if listens { parts.append("listen") }
    let standard = UserNetwork.Options()
    if user.network != standard.network || user.prefixLength != standard.prefixLength {
      parts.append("network=\(user.network)/\(user.prefixLength)")
    }
    if user.isIsolated { parts.append("isolated") }
    if user.isLocal { parts.append("local") }
    if !user.hasVersion6 { parts.append("ipv4-only") }
    if let name = user.guestName { parts.append("hostname=\(name)") }
    if let folder = user.tftpFolder { parts.append("tftp=\(folder)") }
    if let file = user.bootFile { parts.append("bootfile=\(file)") }
    parts += user.forwards.map { "forward=\($0)" }
    return parts.joined(separator: ",")
  }

  /// Opens the other end of the cable.
  ///
  /// - Parameter switches: the folder of this person's switches; nil where there are none.
  /// - Throws: `NetworkError`, one line.
  public func open(switches: String?) throws(NetworkError) -> any NetworkBackend {
    switch kind {
    case .user: return try UserNetwork(user)
    case .none: return NoNetwork()
    case .tap(let name): return try TapNetwork(name: name, queues: queues)
    case .bridge(let name): return try TapNetwork(bridge: name, queues: queues)
    case .tapDescriptors(let numbers): return try TapNetwork(descriptors: numbers)
    case .stream(let address): return try StreamNetwork(address, listens: listens)
    case .passt: return try StreamNetwork(try PasstProgram(user))
    case .networkSwitch(let name):
      guard let switches else {
        throw NetworkError("switch \(name): there is no folder for switches here")
      }
      return try SwitchNetwork(name: name, in: switches)
    }
  }
}

/// Bits a second, as a person writes them.
public enum BitRate {
  private static let units: [(letter: Character, factor: UInt64)] = [
    ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000),
  ]

  /// `10M`, `64k`, `1G` or a plain number; 8k to 100G.
  public static func read(_ text: String) -> UInt64? {
    var digits = Substring(text)
    var factor: UInt64 = 1
    for unit in units
    where digits.last == unit.letter || digits.last?.lowercased() == "k" && unit.letter == "k" {
      digits.removeLast()
      factor = unit.factor
      break
    }
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let number = UInt64(digits)
    else { return nil }
    let (bits, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow || bits < 8000 || bits > 100_000_000_000 ? nil : bits
  }

  /// In the largest unit that needs no fraction.
  public static func text(_ bits: UInt64) -> String {
    for unit in units where bits > 0 && bits % unit.factor == 0 {
      return "\(bits / unit.factor)\(unit.letter)"
    }
    return "\(bits)"
  }
}
