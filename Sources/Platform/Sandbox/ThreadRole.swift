// What a thread is for, and so which system calls it needs.

import CLinux
import Synchronization

/// Threads of a role get a filter of their own, beside that of the whole process, before they do anything.
public enum ThreadRole: Int, Sendable, CaseIterable {
  /// Anything: what the process as a whole may do.
  case control
  /// Runs a virtual processor, and the registers of devices.
  case processor
  /// Moves data of disks, networks and other devices.
  case device

  /// The filters of roles; nil before the process is confined.
  private static let filters = Mutex<[ThreadRole: SystemCallFilter.Compiled]?>(nil)

  /// From here on a thread without a role makes all others. Before the process is confined.
  ///
  /// - Throws: where the host gives no thread, see `ThreadMaker`.
  public static func prepare() throws(PlatformError) { try ThreadMaker.begin() }

  /// From here on threads that begin get the filter of their role. Only when the process is confined: a thread that had
  /// its filter before could no longer follow it into namespaces.
  public static func confine(_ compiled: [ThreadRole: SystemCallFilter.Compiled]) {
    filters.withLock { $0 = compiled }
  }

  /// On a thread that begins. Where its filter cannot be had it must not run: the whole is weaker than it says then.
  func begin() {
    guard self != .control, let filter = Self.filters.withLock({ $0?[self] }) else { return }
    do throws(PlatformError) {
      try filter.install()
    } catch {
      fatalError("sandbox: \(error)")
    }
  }
}

/// Makes threads for threads that may not: filters are inherited, and a device's thread needs calls that the processor's,
/// whose guest has switched the device on, may not make.
enum ThreadMaker {
  private struct Work {
    var jobs: [@Sendable () -> Void] = []
  }
  private static let work = Monitor(Work())
  private static let begun = Atomic<Bool>(false)

  static func begin() throws(PlatformError) {
    guard !begun.load(ordering: .acquiring) else { return }
    _ = try PosixThread(name: "threads") {
      while true { work.wait { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }() }
    }
    begun.store(true, ordering: .releasing)
  }

  /// Runs `create` here, or on the maker's thread once there is one.
  static func make(
    _ thread: inout pthread_t, _ create: @escaping @Sendable (inout pthread_t) -> Int32
  ) -> Int32 {
    guard begun.load(ordering: .acquiring) else { return create(&thread) }
    let made = Monitor<(code: Int32, thread: UInt)?>(nil)
    work.update { work in
      work.jobs.append {
        var thread = pthread_t()
        let code = create(&thread)
        made.update { $0 = (code, UInt(thread)) }
      }
    }
    let (code, number) = made.wait { $0 }
    thread = pthread_t(number)
    return code
  }
}
