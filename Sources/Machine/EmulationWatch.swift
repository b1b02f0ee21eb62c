import CLinux
import Platform

/// Looks every now and then whether processors spend their time in the guest's kernel mode, where the kernel emulates
/// that: they are better off in software then, also without an instruction that the kernel lacks.
///
/// A processor that sleeps is left alone.
final class EmulationWatch: Sendable {
  private let hasEnded = Monitor(false)
  private let thread: PosixThread

  private static let interval: UInt64 = 100_000_000

  /// - Throws: when the host gives no thread.
  init(_ processors: [ProcessorThread]) throws(PlatformError) {
    let hasEnded = hasEnded
    thread = try PosixThread(name: "emulation") {
      while true {
        let end = hasEnded.wait(until: MonotonicClock.now + Self.interval) { $0 ? true : nil }
        guard end == nil else { return }
        for processor in processors where processor.isWatched { processor.askForSample() }
      }
    }
  }

  func stop() {
    hasEnded.update { $0 = true }
    thread.join()
  }
}

/// One processor's share of the watch.
struct EmulationSamples {
  private var inKernelMode = 0

  /// CPU time between samples, nanoseconds.
  static let distance: UInt64 = 20_000_000
  /// A second's worth: about a million instructions of the guest.
  private static let limit = 50

  /// Notes where the guest was; true when that was kernel mode for long enough.
  mutating func note(isKernelMode: Bool) -> Bool {
    inKernelMode = isKernelMode ? inKernelMode + 1 : max(0, inKernelMode - 2)
    return inKernelMode >= Self.limit
  }
}
