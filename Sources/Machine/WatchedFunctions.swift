import Devices
import Platform
import Synchronization

/// What is known of the guest's watchdog beyond one board: the next one tells the guest that it has run out.
final class WatchdogRecord: Sendable {
  private let hasRunOut = Atomic<Bool>(false)
  func note() { hasRunOut.store(true, ordering: .relaxed) }
  func take() -> Bool { hasRunOut.exchange(false, ordering: .relaxed) }
}

extension BoardFunctions {
  /// nil where there is none.
  static func makeWatchdog(_ context: BoardContext) -> WatchdogFunction? {
    guard let action = context.parts.configuration.watchdog else { return nil }
    let record = context.parts.watchdogRecord
    let timer = ChipDevice(
      WatchdogTimer(hasTimedOut: record.take()), clock: context.parts.clock
    ) { requests in
      guard requests.contains(.watchdogExpired) else { return }
      record.note()
      context.act(action, because: "the guest has let its watchdog run out")
    }
    return WatchdogFunction(timer)
  }

  static func makePanicDevice(_ context: BoardContext) -> PanicDevice? {
    guard let action = context.parts.configuration.panicAction else { return nil }
    return PanicDevice { event in
      if event.contains(.panicked) {
        context.act(action, because: "the guest's kernel has panicked")
      } else {
        context.parts.notices.send("the guest's kernel has panicked and starts another")
      }
    }
  }
}
