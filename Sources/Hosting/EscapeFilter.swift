/// Finds the commands for ourselves in what a person types at an attached console, as cu(1) and ssh(1) do: `~` at the
/// start of a line. Ctrl-] leaves at once, as with virsh.
package struct EscapeFilter {
  package enum Command: Sendable, Equatable {
    case detach
    case sendBreak
    case help
  }
  package enum Output: Sendable, Equatable {
    case bytes([UInt8])
    case command(Command)
  }
  package static let help = """
    ~.  or Ctrl-]  leave the console (the machine runs on)\r
    ~#  send a break\r
    ~~  send a ~\r
    ~?  this help\r

    """

  private enum State {
    case lineStart, tilde, inLine
  }
  private var state = State.lineStart
  private static let tilde = UInt8(ascii: "~")

  package init() {}

  package mutating func filter(_ input: some Sequence<UInt8>) -> [Output] {
    var output: [Output] = []
    var bytes: [UInt8] = []
    func command(_ command: Command) {
      if !bytes.isEmpty { output.append(.bytes(bytes)) }
      bytes = []
      output.append(.command(command))
    }
    for byte in input {
      if byte == 0x1D {
        command(.detach)
        state = .lineStart
        continue
      }
      switch (state, byte) {
      case (.lineStart, Self.tilde):
        state = .tilde
        continue
      case (.tilde, UInt8(ascii: ".")):
        command(.detach)
        state = .lineStart
        continue
      case (.tilde, UInt8(ascii: "#")):
        command(.sendBreak)
        state = .lineStart
        continue
      case (.tilde, UInt8(ascii: "?")):
        command(.help)
        state = .lineStart
        continue
      case (.tilde, Self.tilde): break
      case (.tilde, _): bytes.append(Self.tilde)
      default: break
      }
      bytes.append(byte)
      state = byte == 0x0D || byte == 0x0A ? .lineStart : .inLine
    }
    if !bytes.isEmpty { output.append(.bytes(bytes)) }
    return output
  }
}
