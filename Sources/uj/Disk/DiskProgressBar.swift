// A line on the terminal for whatever takes longer than a second, and a clean end on SIGINT.
import CLinux
import DiskImage
import Platform
import Synchronization

/// Set by the signal handler, looked at by the thread that draws.
private let interrupted = Atomic<Bool>(false)

enum DiskProgressBar {
  /// Runs `body`; draws its progress on standard error if that is a terminal. SIGINT cancels the operation, which then
  /// throws and removes what it was making.
  static func run(_ what: String, _ body: (OperationProgress) throws -> Void) throws {
    let progress = OperationProgress()
    let isDone = try Done()
    let draws = isatty(2) == 1
    let start = MonotonicClock.now
    let before = signal(SIGINT) { _ in interrupted.store(true, ordering: .relaxed) }
    let drawer = try PosixThread(name: "progress") {
      var shown = false
      while !isDone.wait(milliseconds: 100) {
        if interrupted.load(ordering: .relaxed) { progress.cancel() }
        let passed = Double(MonotonicClock.now - start) / 1e9
        guard draws && passed > 1 else { continue }
        write("\r\u{1b}[K\(line(what, progress, passed))", to: 2)
        shown = true
      }
      if shown { write("\r\u{1b}[K", to: 2) }
    }
    defer {
      isDone.set()
      drawer.join()
      signal(SIGINT, before)
    }
    do {
      try body(progress)
    } catch {
      if interrupted.load(ordering: .relaxed) {
        isDone.set()
        drawer.join()
        throw ExitStatus(status: 130)
      }
      throw error
    }
  }

  private static func line(_ what: String, _ progress: OperationProgress, _ passed: Double)
    -> String
  {
    let (done, total) = (progress.done, max(progress.total, 1))
    let share = min(Double(done) / Double(total), 1)
    let full = Int(share * 30)
    let bar = String(repeating: "█", count: full) + String(repeating: "·", count: 30 - full)
    let rate = readableSize(UInt64(Double(done) / passed))
    let left = share > 0.01 ? "\(Int(passed / share - passed)) s left" : ""
    return "\(what) \(bar) \(Int(share * 100)) %  \(rate)/s  \(left)"
  }

  /// A flag that can be waited for.
  private final class Done: Sendable {
    private let notifier: EventNotifier
    init() throws { notifier = try EventNotifier() }
    func set() { notifier.signal() }
    func wait(milliseconds: Int32) -> Bool {
      var event = pollfd(fd: notifier.rawDescriptor, events: Int16(POLLIN), revents: 0)
      return poll(&event, 1, milliseconds) > 0
    }
  }
}
