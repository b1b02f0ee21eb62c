import CLinux
import Platform
import SerialMux

/// Connects a terminal with the byte stream of a serial port until one of them ends or the person leaves.
package struct ConsoleSession {
  package enum End: Sendable, Equatable {
    /// The person left; the machine runs on.
    case detached
    /// The stream ended: the machine is off, or we were cut.
    case closed
    /// A signal asked us to go.
    case signalled(Int32)
  }

  private let stream: Int32
  private let input: Int32
  private let output: Int32
  private let isReadOnly: Bool
  private let sendBreak: () -> Void
  /// Ctrl-] leaves at once, as with virsh, so it is no prefix here.
  private var filter = EscapeSequenceFilter(prefix: nil)
  /// Keys that the stream has not taken yet.
  private var keys = OutgoingBuffer()
  private static let keyLimit = 1 << 20
  private static let help =
    "~.  or Ctrl-]  leave the console (the machine runs on)\r\n~#  send a break\r\n"
    + "~~  send a ~\r\n~?  this help\r\n"

  /// - Parameters:
  ///   - stream: non-blocking; stays the caller's.
  ///   - sendBreak: what `~#` does.
  package init(
    stream: Int32, input: Int32 = 0, output: Int32 = 1, isReadOnly: Bool = false,
    sendBreak: @escaping () -> Void = {}
  ) {
    self.stream = stream
    self.input = input
    self.output = output
    self.isReadOnly = isReadOnly
    self.sendBreak = sendBreak
  }

  /// Serves until the end. The terminal is in its old mode again afterwards, also after a signal.
  ///
  /// - Parameter received: what came from the stream before.
  package mutating func run(received: [UInt8] = []) throws(HostingError) -> End {
    let signals = try Self.openSignals()
    let terminal = RawTerminal(input)
    guard show(received) else { return .detached }
    var readsInput = true
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let streamEvents = keys.count > 0 ? POLLIN | POLLOUT : POLLIN
      let wantsKeys = readsInput && keys.count < Self.keyLimit
      var requests = [
        pollfd(fd: stream, events: Int16(streamEvents), revents: 0),
        pollfd(fd: wantsKeys ? input : -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
      ]
      if poll(&requests, nfds_t(requests.count), -1) < 0 {
        if linux_error_number() == EINTR { continue }
        throw HostingError(PlatformError(operation: "poll", code: linux_error_number()))
      }
      if requests[2].revents != 0, let number = SignalDescriptor.read(signals.rawValue) {
        guard number == SIGTSTP else { return .signalled(number) }
        terminal.giveBack()
        // Ends when somebody sends SIGCONT, as the shell's fg does.
        raise(SIGSTOP)
        terminal.take()
      }
      if requests[0].revents & Int16(POLLOUT) != 0, !keys.flush(to: stream) { return .closed }
      if requests[0].revents & ~Int16(POLLOUT) != 0 {
        if let count = ControlSocket.receive(stream, into: &chunk) {
          guard count > 0 else { return .closed }
          guard show(chunk[..<count]) else { return .detached }
        }
      }
      if requests[1].revents != 0 {
        guard let count = ControlSocket.receive(input, into: &chunk) else { continue }
        if count == 0 {
          // A script's input ends; its terminal has hung up.
          if isatty(input) == 1 { return .detached }
          readsInput = false
        } else if type(chunk[..<count]) {
          return .detached
        }
      }
    }
  }

  /// - Returns: true when the person leaves.
  private mutating func type(_ bytes: ArraySlice<UInt8>) -> Bool {
    // What was typed before leaving is still for the guest.
    defer { _ = keys.flush(to: stream) }
    let leaves = bytes.firstIndex(of: 0x1D)
    for piece in filter.feed(bytes[..<(leaves ?? bytes.endIndex)]) {
      switch piece {
      case .input(let bytes):
        if !isReadOnly { keys.append(bytes) }
      case .command(.leave), .command(.detach): return true
      case .command(.prefixed), .command(.log): continue
      case .command(.sendBreak): if !isReadOnly { sendBreak() }
      case .command(.help): _ = show(Array(Self.help.utf8))
      }
    }
    return leaves != nil
  }

  /// - Returns: false when the terminal is gone.
  private func show(_ bytes: some Collection<UInt8>) -> Bool {
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(output, $0.baseAddress, $0.count) }
      if count >= 0 {
        rest = rest.dropFirst(count)
        continue
      }
      switch linux_error_number() {
      case EINTR: continue
      case EAGAIN:
        _ = ControlSocket.wait(output, for: POLLOUT, until: MonotonicClock.now &+ 1_000_000_000)
      default: return false
      }
    }
    return true
  }

  private static func openSignals() throws(HostingError) -> FileDescriptor {
    var set = sigset_t()
    sigemptyset(&set)
    for number in [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP] { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    return try platform { () throws(PlatformError) in
      FileDescriptor(
        owning: try systemCall("signalfd") {
          signalfd(-1, &set, Int32(SFD_CLOEXEC) | Int32(SFD_NONBLOCK))
        })
    }
  }
}
