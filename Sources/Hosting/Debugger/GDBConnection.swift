// A debugger at the other end of a socket, and the thread that talks to it.

import CLinux
import Machine
import Platform

/// Ends, and leaves the machine as it was, when the debugger goes or says nothing sensible any more.
final class GDBConnection {
  /// Nanoseconds for which a debugger may leave an answer unread.
  private static let patience: UInt64 = 30_000_000_000
  /// How often a machine is looked at that may have ended, in milliseconds.
  private static let interval: Int32 = 500

  private let descriptor: Int32
  private let notifier: EventNotifier
  private let session: GDBSession
  private var reader = GDBPacketReader()
  /// The last answer, for a debugger that did not understand it.
  private var last: [UInt8] = []

  private init(_ descriptor: Int32, _ session: GDBSession, _ notifier: EventNotifier) {
    self.descriptor = descriptor
    self.session = session
    self.notifier = notifier
  }

  deinit { CLinux.close(descriptor) }

  /// Serves a debugger on a thread of its own.
  ///
  /// - Parameters:
  ///   - descriptor: the socket, non-blocking; closed at the end.
  ///   - input: what came before.
  ///   - notifier: signalled when a processor has stopped.
  static func start(
    _ descriptor: Int32, input: [UInt8], _ debugger: MachineDebugger, _ notifier: EventNotifier
  ) {
    do {
      _ = try PosixThread(name: "debugger") {
        let connection = GDBConnection(descriptor, GDBSession(debugger), notifier)
        connection.serve(input, debugger)
      }
    } catch {
      CLinux.close(descriptor)
      debugger.detach()
    }
  }

  private func serve(_ input: [UInt8], _ debugger: MachineDebugger) {
    defer { session.close() }
    // A debugger finds a machine that stands still.
    guard (try? debugger.stop()) != nil, take(input[...]) else { return }
    var chunk = [UInt8](repeating: 0, count: 16384)
    while true {
      wait()
      notifier.drain()
      if let answer = session.poll(), !send(answer) { return }
      guard let count = ControlSocket.receive(descriptor, into: &chunk) else { continue }
      guard count > 0, take(chunk[..<count]) else { return }
    }
  }

  private func wait() {
    var entries = [
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: notifier.rawDescriptor, events: Int16(POLLIN), revents: 0),
    ]
    // Nobody tells of a machine that ends.
    _ = poll(&entries, 2, session.isRunning ? Self.interval : -1)
  }

  /// - Returns: false at the end of the conversation.
  private func take(_ bytes: ArraySlice<UInt8>) -> Bool {
    for byte in bytes {
      switch reader.take(byte) {
      case nil, .acknowledged: break
      case .refused: if !write(last) { return false }
      case .damaged: if session.acknowledges, !write([UInt8(ascii: "-")]) { return false }
      case .interrupt: if let answer = session.interrupt(), !send(answer) { return false }
      case .packet(let content):
        if session.acknowledges, !write([UInt8(ascii: "+")]) { return false }
        guard send(session.handle(content)) else { return false }
      }
    }
    return true
  }

  private func send(_ answer: GDBSession.Answer) -> Bool {
    for packet in answer.packets {
      last = GDBPacket.framed(packet)
      guard write(last) else { return false }
    }
    return !answer.ends
  }

  private func write(_ bytes: [UInt8]) -> Bool {
    var output = OutgoingBuffer()
    output.append(bytes)
    let deadline = MonotonicClock.now &+ Self.patience
    while true {
      guard output.flush(to: descriptor) else { return false }
      if output.count == 0 { return true }
      guard ControlSocket.wait(descriptor, for: POLLOUT, until: deadline) else { return false }
    }
  }
}

/// The control protocol's method for debuggers.
extension MachineHost {
  static let debuggerMethods: [(name: String, summary: String)] = [
    (
      "debugger.attach",
      "after the answer the connection is GDB's remote protocol, and the guest stands still"
    )
  ]

  /// nil: no such method.
  func answerDebugger(_ method: String) -> ControlServer.Answer? {
    guard method == "debugger.attach" else { return nil }
    do {
      let notifier = try EventNotifier()
      let debugger = try machine.attachDebugger { notifier.signal() }
      return .handOver(["processors": .unsigned(debugger.processorCount)]) { descriptor, input in
        GDBConnection.start(descriptor, input: input, debugger, notifier)
      }
    } catch {
      return .error(RemoteError("\(error)"))
    }
  }
}
