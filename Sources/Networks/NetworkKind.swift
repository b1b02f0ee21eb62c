import Devices

extension NetworkConfiguration {
  /// What a cable leads to.
  public enum Kind: Sendable, Codable, Equatable {
    /// Address translation in this process; needs no right.
    case user
    /// An existing tap device of the host.
    case tap(String)
    /// Open descriptors of a tap, one for each queue, that came with the process.
    case tapDescriptors([Int32])
    /// A new tap on a bridge of the host.
    case bridge(String)
    /// A switch between machines of one person.
    case networkSwitch(String)
    /// Frames in a stream, as QEMU has them.
    case stream(StreamAddress)
    /// Address translation by the program passt.
    case passt
    /// A cable that leads nowhere.
    case none

    /// Reads one of `words`; nil when it is something else.
    public init?(_ text: some StringProtocol) {
      switch text {
      case "user": self = .user
      case "none": self = .none
      case "passt": self = .passt
      default:
        let text = String(text)
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let name = String(text[text.index(after: colon)...])
        if text[..<colon] == "stream" {
          guard let address = StreamAddress(name) else { return nil }
          self = .stream(address)
          return
        }
        if text.hasPrefix("tap:fd=") {
          let words = text.dropFirst(7).split(separator: ":", omittingEmptySubsequences: false)
          let numbers = words.compactMap { word in
            word.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int32(word) : nil
          }
          guard numbers.count == words.count, numbers.count <= NetworkConfiguration.queueLimit,
            Set(numbers).count == numbers.count, numbers.allSatisfy({ $0 > 2 })
          else { return nil }
          self = .tapDescriptors(numbers)
          return
        }
        guard Self.isName(name) else { return nil }
        switch text[..<colon] {
        case "tap" where name.utf8.count < 16: self = .tap(name)
        case "bridge" where name.utf8.count < 16: self = .bridge(name)
        case "switch" where name.utf8.count <= 64: self = .networkSwitch(name)
        default: return nil
        }
      }
    }

    /// Names become parts of paths.
    private static func isName(_ text: String) -> Bool {
      guard let first = text.utf8.first, first != 0x2E else { return false }
      return text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
          || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
      }
    }

    public var text: String {
      switch self {
      case .user: "user"
      case .tap(let name): "tap:\(name)"
      case .tapDescriptors(let numbers):
        "tap:fd=\(numbers.map { String($0) }.joined(separator: ":"))"
      case .bridge(let name): "bridge:\(name)"
      case .networkSwitch(let name): "switch:\(name)"
      case .stream(let address): "stream:\(address)"
      case .passt: "passt"
      case .none: "none"
      }
    }

    /// With an absolute path.
    func resolved(_ resolve: (String) -> String) -> Self {
      if case .stream(.file(let path)) = self { return .stream(.file(resolve(path))) }
      return self
    }

    /// For messages.
    public static let words =
      "user, passt, tap:NAME, tap:fd=N, bridge:NAME, switch:NAME, stream:PATH, stream:127.0.0.1:PORT or none"
  }
}
