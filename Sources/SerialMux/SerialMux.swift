// One serial port of a running machine and everybody who watches it. The guest's output goes into a ring; from there,
// on one thread, to the port's own terminal, to the log and to each client at that client's pace. The guest is never
// made to wait for a client unless the owner says so, and then only for a limited time.
//
// Threads: `guestDidSend` and `guestCanReceive` come from virtual processors; all else that touches a client, the log
// or the input queue runs on the loop. `withTerminal` and `statistics` may be called from anywhere.

import CLinux
import Platform
import Synchronization
import VirtualTerminal

/// The multiplexer of a serial port.
public final class SerialMux: @unchecked Sendable {
  /// Offers input to the guest's device, which takes a part; called on the loop's thread.
  public typealias Send = @Sendable (UnsafeRawBufferPointer) -> Int

  let configuration: SerialMuxConfiguration
  let loop: EventLoop
  private let thread: PosixThread?
  let send: Send
  let breakLine: @Sendable () -> Void
  let report: @Sendable (SerialMuxEvent) -> Void

  // Shared between threads.
  let output: Mutex<GuestOutput>
  let terminal: Mutex<VirtualTerminal>
  let published = Mutex(SerialMuxStatistics())
  private let outputNotifier: EventNotifier
  private let inputNotifier: EventNotifier
  /// The loop knows that there is output, or looks again soon anyway.
  private let outputAnnounced = Atomic<Bool>(false)
  /// Input waits until the guest can receive.
  let inputWaits = Atomic<Bool>(false)
  private let nextIdentifier = Atomic<UInt64>(1)
  private let closed = Atomic<Bool>(false)

  // Only on the loop's thread from here on.
  var clients: [Client] = []
  var input = InputQueue()
  var inputRetry: EventLoop.TimerIdentifier?
  var inputRetryDelay: UInt64 = 0
  var inputIsPaused = false
  var review: EventLoop.TimerIdentifier?
  let log: LogWriter?
  let device: PseudoTerminal?
  var devicePosition: UInt64 = 0
  var scratch = [UInt8](repeating: 0, count: 64 << 10)

  /// Output that comes while the loop has just looked is gathered for so long, in nanoseconds: a UART prints byte by
  /// byte, and waking a thread for each would cost more than the byte.
  private static let gatherTime: UInt64 = 2_000_000

  /// - Parameters:
  ///   - loop: The loop to run on; nil for a thread of its own, which `close` ends.
  ///   - send: Offers input to the guest and returns how much it took.
  ///   - sendBreak: Makes a break condition on the line.
  ///   - report: Hears what happens, on the loop's thread.
  /// - Throws: `PlatformError` when the log, the device or the thread cannot be made.
  public init(
    configuration: SerialMuxConfiguration = SerialMuxConfiguration(), loop: EventLoop? = nil,
    send: @escaping Send, sendBreak: @escaping @Sendable () -> Void = {},
    report: @escaping @Sendable (SerialMuxEvent) -> Void = { _ in }
  ) throws(PlatformError) {
    self.configuration = configuration
    self.send = send
    breakLine = sendBreak
    self.report = report
    output = Mutex(GuestOutput(configuration))
    terminal = Mutex(
      VirtualTerminal(
        columns: configuration.columns, rows: configuration.rows,
        scrollbackLimit: configuration.scrollbackLines))
    outputNotifier = try EventNotifier()
    inputNotifier = try EventNotifier()
    if let path = configuration.log { log = try LogWriter(path) } else { log = nil }
    if configuration.hasDevice || configuration.deviceLink != nil {
      device = try PseudoTerminal(link: configuration.deviceLink)
    } else {
      device = nil
    }
    let path = device?.path
    published.withLock { $0.devicePath = path }
    let used: EventLoop
    if let loop { used = loop } else { used = try EventLoop() }
    self.loop = used
    thread = loop == nil ? try PosixThread(name: "serial") { try? used.run() } : nil
    self.loop.perform { self.start() }
  }

  private func start() {
    let (outputNotifier, inputNotifier) = (outputNotifier, inputNotifier)
    try? loop.watch(outputNotifier.rawDescriptor, for: .readable) { [unowned self] _ in
      outputNotifier.drain()
      pump()
    }
    try? loop.watch(inputNotifier.rawDescriptor, for: .readable) { [unowned self] _ in
      inputNotifier.drain()
      deliverInput()
    }
    watchDevice()
    // What came before the loop ran was announced already.
    pump()
  }

  /// Detaches all clients, takes the device away and stops. The log has everything that the guest sent before.
  ///
  /// Not from a callback when the port has its own thread: it waits for that thread.
  public func close() {
    guard !closed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    loop.perform { self.shutDown() }
    if let thread {
      // After `shutDown`, which the loop runs first.
      loop.perform { self.loop.stop() }
      thread.join()
    }
  }

  private func shutDown() {
    while consume() {}
    for client in clients { flush(client) }
    for client in clients { detach(client, reason: "closed") }
    loop.unwatch(outputNotifier.rawDescriptor)
    loop.unwatch(inputNotifier.rawDescriptor)
    if let device {
      loop.unwatch(device.openings.rawValue)
      device.removeLink()
    }
    if let inputRetry { loop.cancel(inputRetry) }
    if let review { loop.cancel(review) }
  }

  // MARK: The guest's side

  /// Takes what the guest printed. From any thread; copies and returns, or waits as long as the configuration allows.
  public func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    while !rest.isEmpty {
      let chunk = UnsafeRawBufferPointer(rebasing: rest.prefix(256 << 10))
      let taken = output.withLock { output in
        output.lastOutput = MonotonicClock.now
        return output.accept(chunk)
      }
      if !outputAnnounced.exchange(true, ordering: .acquiringAndReleasing) {
        outputNotifier.signal()
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
      if taken == 0 { wait() }
    }
  }

  private func wait() {
    let before = MonotonicClock.now
    var pause = timespec(tv_sec: 0, tv_nsec: 300_000)
    nanosleep(&pause, nil)
    output.withLock { $0.spend(MonotonicClock.now - before) }
  }

  /// The guest's device has room for input again. From any thread; cheap when no input waits.
  public func guestCanReceive() {
    if inputWaits.exchange(false, ordering: .acquiringAndReleasing) { inputNotifier.signal() }
  }

  // MARK: Output

  /// Moves what is new to the terminal, the log and the clients, and sees to it that the next output wakes the loop.
  private func pump() {
    for _ in 0..<4 {
      guard consume() else {
        if !clients.isEmpty { publishClients() }
        loop.schedule(at: MonotonicClock.now + Self.gatherTime) { [weak self] in self?.lookAgain() }
        return
      }
    }
    // Others on this loop come first, then the rest.
    outputNotifier.signal()
  }

  private func lookAgain() {
    outputAnnounced.store(false, ordering: .sequentiallyConsistent)
    guard output.withLock({ $0.ring.end > $0.parsed }) else { return }
    if !outputAnnounced.exchange(true, ordering: .acquiringAndReleasing) { pump() }
  }

  /// Takes one piece of output. False when there was none.
  private func consume() -> Bool {
    let count = scratch.withUnsafeMutableBytes { buffer in
      output.withLock { $0.copyUnparsed(into: buffer) }
    }
    guard count > 0 else { return false }
    scratch.withUnsafeBytes { bytes in
      let bytes = UnsafeRawBufferPointer(rebasing: bytes.prefix(count))
      show(bytes)
      writeLog(bytes)
    }
    output.withLock { $0.didParse(count) }
    for client in clients { flush(client) }
    noteReaders()
    return true
  }

  private func show(_ bytes: UnsafeRawBufferPointer) {
    let (answers, bells, title) = terminal.withLock { terminal in
      terminal.feed(bytes)
      return (terminal.drainAnswers(), terminal.bellCount, terminal.title)
    }
    if !answers.isEmpty && !clients.contains(where: \.isAnswering) { enqueueInput(answers) }
    let (rang, retitled) = published.withLock { published in
      defer {
        published.bells = bells
        published.title = title
      }
      return (published.bells != bells, published.title != title)
    }
    if rang { report(.bell) }
    if retitled { report(.title(title)) }
  }

  private func writeLog(_ bytes: UnsafeRawBufferPointer) {
    guard let log else { return }
    log.append(bytes)
    let failure = log.failure?.description
    let isNew = published.withLock { published in
      defer { published.logFailure = failure }
      return failure != nil && published.logFailure != failure
    }
    if isNew, let failure { report(.logFailed(failure)) }
  }

  // MARK: From anywhere

  /// Lets `body` look at the port's terminal, or drain its damage. Short: the port's output waits meanwhile.
  public func withTerminal<Result>(_ body: (inout VirtualTerminal) throws -> sending Result)
    rethrows -> sending Result
  {
    try terminal.withLock(body)
  }

  /// The terminal as it is when all that the guest printed until now is shown; for snapshots of a paused machine.
  public func terminalState() -> VirtualTerminal {
    let end = output.withLock { $0.ring.end }
    for _ in 0..<2000 where output.withLock({ $0.parsed }) < end {
      var pause = timespec(tv_sec: 0, tv_nsec: 500_000)
      nanosleep(&pause, nil)
    }
    return terminal.withLock { $0 }
  }

  /// Puts a saved terminal in place, after a machine was rolled back, and draws it for every client.
  public func restore(_ state: VirtualTerminal) {
    terminal.withLock { $0 = state }
    loop.perform { self.redrawClients() }
  }

  /// Tells the port's terminal its size.
  public func resize(columns: Int, rows: Int) {
    terminal.withLock { $0.resize(columns: columns, rows: rows) }
  }

  /// Writes a line of ours into the log: a boot, a rollback.
  public func mark(_ text: String) {
    loop.perform { self.log?.mark(text) }
  }

  public func statistics() -> SerialMuxStatistics {
    var statistics = published.withLock { $0 }
    output.withLock { output in
      statistics.outputBytes = output.ring.end
      statistics.unparsedBytes = output.unparsedBytes
      statistics.lastOutput = output.lastOutput
      statistics.guestWaitMilliseconds = output.waited / 1_000_000
    }
    return statistics
  }

  func makeIdentifier() -> SerialMuxClientIdentifier {
    SerialMuxClientIdentifier(
      value: nextIdentifier.wrappingAdd(1, ordering: .relaxed).oldValue)
  }
}
