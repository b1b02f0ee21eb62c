import CLinux
import Platform
import Synchronization

/// Takes time from a guest that writes faster than it can be copied.
final class GuestThrottle: Sendable {
  /// Microseconds in which the guest stands still once; far below what anybody in it would call a pause.
  private static let period: UInt32 = 40_000
  /// Hundredths of its time that are taken, one after another.
  private static let steps = [20, 40, 60, 80, 90, 95]

  private let hundredths = Atomic<Int>(0)
  private let isOver = Atomic<Bool>(false)
  private let thread = Mutex<PosixThread?>(nil)
  private let machine: Machine

  init(_ machine: Machine) { self.machine = machine }

  /// Hundredths of the guest's time that are taken from it now.
  var share: Int { hundredths.load(ordering: .relaxed) }

  func setShare(_ share: Int) { hundredths.store(share, ordering: .relaxed) }

  /// - Returns: false: there is no more to take.
  func raise() -> Bool {
    guard let next = Self.steps.first(where: { $0 > share }) else { return false }
    setShare(next)
    return thread.withLock { thread in
      if thread == nil { thread = try? PosixThread(name: "throttle") { [self] in work() } }
      return thread != nil
    }
  }

  func stop() {
    isOver.store(true, ordering: .relaxed)
    let thread = thread.withLock { $0 }
    thread?.join()
  }

  private func work() {
    while !isOver.load(ordering: .relaxed) {
      let taken = UInt32(clamping: share) * (Self.period / 100)
      if taken > 0 {
        do {
          _ = try machine.whilePaused { _ in
            usleep(taken)
            return .resumes
          }
        } catch {
          // It has ended.
          return
        }
      }
      usleep(Self.period - taken)
    }
  }
}
