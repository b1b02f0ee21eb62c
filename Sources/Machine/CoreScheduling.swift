import CLinux
import Platform

/// Keeps the threads of one machine's processors together on a core of the host: no other machine, and nothing else,
/// runs on its sibling hyperthread meanwhile (Linux Documentation/admin-guide/hw-vuln/core-scheduling.rst).
///
/// Where the host offers no such thing, nothing happens.
final class CoreScheduling: Sendable {
  /// The thread that has the cookie that the others take; 0 before it has, -1 where there is none.
  private let leader = Monitor<Int32>(0)

  /// Called by each thread once, at its start. The first one makes the cookie.
  func join() {
    let present = leader.update { leader -> Int32 in
      guard leader == 0 else { return leader }
      leader = linux_make_scheduling_cookie() == 0 ? linux_gettid() : -1
      return -1
    }
    if present > 0 { _ = linux_take_scheduling_cookie(present) }
  }
}
