import CLinux
import Hosting
import Platform
import Testing

/// A session with pipes for the person's hands and eyes, and a socket for the machine.
private struct Desk {
  var keyboard: [Int32] = [-1, -1]
  var screen: [Int32] = [-1, -1]
  var line: [Int32] = [-1, -1]

  init() {
    linux_pipe2(&keyboard, O_CLOEXEC)
    linux_pipe2(&screen, O_CLOEXEC | O_NONBLOCK)
    socketpair(
      AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0,
      &line)
  }

  func type(_ text: String) {
    _ = text.utf8CString.withUnsafeBytes { write(keyboard[1], $0.baseAddress, $0.count - 1) }
  }
  func guestPrints(_ text: String) {
    _ = text.utf8CString.withUnsafeBytes { write(line[1], $0.baseAddress, $0.count - 1) }
  }
  func run(isReadOnly: Bool = false) throws -> (ConsoleSession.End, breaks: Int) {
    let breaks = Monitor(0)
    var session = ConsoleSession(
      stream: line[0], input: keyboard[0], output: screen[1], isReadOnly: isReadOnly
    ) { breaks.update { $0 += 1 } }
    let end = try session.run(received: Array("before\n".utf8))
    return (end, breaks.read { $0 })
  }
  func content(of descriptor: Int32) -> String {
    linux_set_error_number(0)
    var bytes = [UInt8](repeating: 0, count: 65536)
    let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
  }
  func end() {
    for descriptor in keyboard + screen + line { close(descriptor) }
  }
}

@Suite struct ConsoleSessionTests {
  @Test(arguments: [
    ("ls\r~.more", "ls\r", 0), ("ls\u{1D}more", "ls", 0), ("~#x~~\r~~.\r~.", "x~~\r~.\r", 1),
    ("~x\u{1D}", "~x", 0),
  ])
  func leaving(_ keys: String, _ sent: String, _ breaks: Int) throws {
    let desk = Desk()
    defer { desk.end() }
    desk.type(keys)
    let result = try desk.run()
    #expect(result.0 == .detached)
    #expect(result.breaks == breaks)
    #expect(desk.content(of: desk.line[1]) == sent)
    #expect(desk.content(of: desk.screen[0]) == "before\n")
  }

  @Test func endOfTheMachineEndsTheSession() throws {
    let desk = Desk()
    defer { desk.end() }
    desk.guestPrints("last words")
    shutdown(desk.line[1], Int32(SHUT_WR))
    #expect(try desk.run().0 == .closed)
    #expect(desk.content(of: desk.screen[0]) == "before\nlast words")
  }

  @Test func readOnlySendsNothing() throws {
    let desk = Desk()
    defer { desk.end() }
    desk.type("rm -rf /\r~#~.")
    let result = try desk.run(isReadOnly: true)
    #expect(result == (.detached, 0))
    #expect(desk.content(of: desk.line[1]).isEmpty)
  }

  @Test func terminalIsGivenBack() throws {
    let main = linux_open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0)
    var unlocked: Int32 = 0
    var number: Int32 = 0
    // TIOCSPTLCK, TIOCGPTN
    #expect(linux_ioctl_pointer(main, 0x4004_5431, &unlocked) == 0)
    #expect(linux_ioctl_pointer(main, 0x8004_5430, &number) == 0)
    let terminal = linux_open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC, 0)
    var before = termios()
    tcgetattr(terminal, &before)
    let desk = Desk()
    defer { desk.end() }
    let outcome = Monitor<ConsoleSession.End?>(nil)
    let line = desk.line[0]
    let thread = try PosixThread(name: "person") {
      var session = ConsoleSession(stream: line, input: terminal, output: terminal)
      let end = try? session.run()
      outcome.update { $0 = end }
    }
    var during = termios()
    for _ in 0..<500 {
      tcgetattr(terminal, &during)
      if during.c_lflag & UInt32(ICANON) == 0 { break }
      usleep(2000)
    }
    #expect(during.c_lflag & UInt32(ICANON | ECHO | ISIG) == 0)
    _ = "~.".utf8CString.withUnsafeBytes { write(main, $0.baseAddress, 2) }
    thread.join()
    #expect(outcome.read { $0 } == .detached)
    var after = termios()
    tcgetattr(terminal, &after)
    #expect(after.c_lflag == before.c_lflag)
    #expect(after.c_iflag == before.c_iflag)
    #expect(after.c_oflag == before.c_oflag)
    close(terminal)
    close(main)
  }
}
