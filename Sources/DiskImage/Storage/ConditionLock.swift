// A mutex with a condition to wait for: Synchronization.Mutex has no condition.
import CLinux

/// A lock that threads can wait in.
final class ConditionLock: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  @inline(__always) func lock() { pthread_mutex_lock(mutex) }
  @inline(__always) func unlock() { pthread_mutex_unlock(mutex) }
  /// Gives the lock up until `broadcast`; may return without one.
  func wait() { pthread_cond_wait(condition, mutex) }
  /// Wakes one of those that wait, if any does.
  func wakeOne() { pthread_cond_signal(condition) }
  func broadcast() { pthread_cond_broadcast(condition) }

  @inline(__always)
  func withLock<R>(_ body: () throws(DiskImageError) -> R) throws(DiskImageError) -> R {
    lock()
    defer { unlock() }
    return try body()
  }
}
