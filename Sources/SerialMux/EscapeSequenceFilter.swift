// What a person types at an attached console, and what of it is meant for us. Two ways out, as cu(1) and telnet(1) have
// them: a tilde at the start of a line, and a prefix key that works anywhere.

/// Separates commands from what goes to the guest.
public struct EscapeSequenceFilter: Sendable {
  /// What the user asked of the console itself.
  public enum Command: Sendable, Equatable {
    /// `~.`: leave.
    case leave
    /// `~d`, or the prefix and `d`: leave; the machine goes on.
    case detach
    /// `~?`: show the commands.
    case help
    /// `~#`, or the prefix and `B`: a break condition.
    case sendBreak
    /// `~l`: the log.
    case log
    /// The prefix and another key, left to the caller.
    case prefixed(UInt8)
  }

  /// A piece of the input, in order.
  public enum Piece: Sendable, Equatable {
    case input([UInt8])
    case command(Command)
  }

  private enum State: Sendable, Equatable {
    case lineStart
    case middle
    /// The escape character was typed at the start of a line.
    case escape
    /// The prefix key was typed; in the middle of a line or not.
    case prefix(atLineStart: Bool)
  }

  private let escape: UInt8?
  private let prefix: UInt8?
  private var state = State.lineStart

  /// - Parameters:
  ///   - escape: The character that opens a command at the start of a line; nil for none.
  ///   - prefix: The key that opens a command anywhere, such as 0x1D for Ctrl-]; nil for none.
  public init(escape: UInt8? = 0x7E, prefix: UInt8? = 0x1D) {
    self.escape = escape
    self.prefix = prefix
  }

  /// Whether a command was begun: the caller may show a hint.
  public var isPending: Bool {
    switch state {
    case .escape, .prefix: true
    case .lineStart, .middle: false
    }
  }

  /// Takes typed bytes and returns what they are, in order.
  public mutating func feed(_ bytes: some Sequence<UInt8>) -> [Piece] {
    var pieces: [Piece] = []
    var input: [UInt8] = []
    for byte in bytes {
      guard let command = take(byte, input: &input) else { continue }
      if !input.isEmpty {
        pieces.append(.input(input))
        input = []
      }
      pieces.append(.command(command))
    }
    if !input.isEmpty { pieces.append(.input(input)) }
    return pieces
  }

  private mutating func take(_ byte: UInt8, input: inout [UInt8]) -> Command? {
    switch state {
    case .lineStart, .middle:
      if byte == prefix {
        state = .prefix(atLineStart: state == .lineStart)
      } else if byte == escape && state == .lineStart {
        state = .escape
      } else {
        pass(byte, into: &input)
      }
      return nil
    case .escape: return escaped(byte, input: &input)
    case .prefix(let atLineStart):
      state = atLineStart ? .lineStart : .middle
      if byte == prefix {
        pass(byte, into: &input)
        return nil
      }
      switch byte {
      case 0x64: return .detach
      case 0x2E: return .leave
      case 0x3F: return .help
      case 0x42: return .sendBreak
      default: return .prefixed(byte)
      }
    }
  }

  private mutating func escaped(_ byte: UInt8, input: inout [UInt8]) -> Command? {
    // After a command the line has still to begin.
    state = .lineStart
    switch byte {
    case 0x2E: return .leave
    case 0x3F: return .help
    case 0x23: return .sendBreak
    case 0x6C: return .log
    case 0x64: return .detach
    case escape:
      pass(byte, into: &input)
      state = .middle
      return nil
    default:
      // Not a command: the guest gets both.
      if let escape { pass(escape, into: &input) }
      state = .middle
      if byte == prefix {
        state = .prefix(atLineStart: false)
      } else {
        pass(byte, into: &input)
      }
      return nil
    }
  }

  private mutating func pass(_ byte: UInt8, into input: inout [UInt8]) {
    input.append(byte)
    // Ctrl-C and Ctrl-U also begin a line anew, as far as a person is concerned.
    state = byte == 0x0D || byte == 0x0A || byte == 0x03 || byte == 0x15 ? .lineStart : .middle
  }
}
