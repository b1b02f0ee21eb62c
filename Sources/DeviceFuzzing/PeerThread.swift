import CLinux
import Platform
import Synchronization

/// A thread of programs at the other end of something, until it is stopped.
package final class PeerThread: Sendable {
  private final class Flag: Sendable {
    let isSet = Atomic<Bool>(false)
  }

  private let isEnding: Flag
  private let thread: PosixThread

  /// - Parameters:
  ///   - name: at most 15 bytes.
  ///   - body: is to return soon after what it was given says false.
  package init(
    name: String, _ body: @escaping @Sendable (_ goesOn: () -> Bool) -> Void
  ) throws(PlatformError) {
    let flag = Flag()
    isEnding = flag
    thread = try PosixThread(name: name) { body { !flag.isSet.load(ordering: .acquiring) } }
  }

  /// Waits for the end of the thread.
  package func stop() {
    isEnding.isSet.store(true, ordering: .releasing)
    thread.join()
  }

  /// A new folder in /tmp for what such programs listen on.
  package static func makeFolder(_ purpose: String) throws(PlatformError) -> String {
    var template = Array("/tmp/uj-\(purpose)-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw PlatformError(operation: "mkdtemp", code: linux_error_number(), subject: "/tmp")
    }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Takes a connection that waits, without waiting for one; below 0 when there is none.
  package static func accept(_ listener: Int32) -> Int32 {
    linux_accept4(listener, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
  }
}
