import CLinux
import Platform

/// Looks every now and then whether processors spend their time in the guest's kernel mode, where the kernel emulates
/// that: they are better off in software then, also without an instruction that the kernel lacks.
///
/// A processor that sleeps is left alone, and the watch ends as soon as there is nothing left to find out.
final class EmulationWatch: Sendable {
  private let hasEnded = Monitor(false)
  private let thread: PosixThread

  private static let interval: UInt64 = 25_000_000

  /// - Throws: when the host gives no thread.
  init(_ processors: [ProcessorThread]) throws(PlatformError) {
    let hasEnded = hasEnded
    thread = try PosixThread(name: "emulation") {
      while processors.contains(where: \.isWatched) {
        let end = hasEnded.wait(until: MonotonicClock.now + Self.interval) { $0 ? true : nil }
        guard end == nil else { return }
        for processor in processors { processor.askForSample() }
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
  /// A second's worth, or little more: about two million instructions of the guest.
  private static let limit = 40

  /// Notes where the guest was; true when that was kernel mode for long enough.
  mutating func note(isKernelMode: Bool) -> Bool {
    inKernelMode = isKernelMode ? inKernelMode + 1 : max(0, inKernelMode - 2)
    return inKernelMode >= Self.limit
  }
}
