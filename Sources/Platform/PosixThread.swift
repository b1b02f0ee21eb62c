import CLinux
import Synchronization

/// A thread of the operating system. Virtual processors and device loops run on these and not on Swift's pool,
/// because they block.
public final class PosixThread: Sendable {
  private let handle: Atomic<UInt>
  private let joined = Atomic<Bool>(false)
  public let name: String

  private final class Start: Sendable {
    let name: String
    let role: ThreadRole
    let body: @Sendable () -> Void
    init(name: String, role: ThreadRole, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.role = role
      self.body = body
    }
  }

  /// Starts a thread that runs `body` to its end.
  ///
  /// - Parameters:
  ///   - name: At most 15 bytes are seen in `top -H`.
  ///   - role: What it may ask of the kernel in a process that is confined.
  /// - Throws: `PlatformError` when the process may not start more threads.
  public init(
    name: String, role: ThreadRole = .control, _ body: @escaping @Sendable () -> Void
  ) throws(PlatformError) {
    self.name = name
    var thread = pthread_t()
    let start = Unmanaged.passRetained(Start(name: name, role: role, body: body))
    let address = UInt(bitPattern: start.toOpaque())
    let code = ThreadMaker.make(&thread) { thread in
      pthread_create(
        &thread, nil,
        { argument in
          let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
          linux_name_thread(start.name)
          start.role.begin()
          start.body()
          return nil
        }, UnsafeMutableRawPointer(bitPattern: address))
    }
    guard code == 0 else {
      start.release()
      throw PlatformError(operation: "pthread_create", code: code, subject: name)
    }
    handle = Atomic(UInt(thread))
  }

  /// Waits for the end of the thread; not on the thread itself, which then ends by itself. Later calls return at once.
  public func join() {
    guard !joined.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let thread = pthread_t(handle.load(ordering: .relaxed))
    if isCurrent { pthread_detach(thread) } else { pthread_join(thread, nil) }
  }

  /// Whether the caller runs on this thread.
  public var isCurrent: Bool {
    pthread_equal(pthread_t(handle.load(ordering: .relaxed)), pthread_self()) != 0
  }

  /// Sends a signal to this thread, so that a blocking system call of it returns EINTR.
  ///
  /// Only before `join`.
  public func signal(_ number: Int32) {
    pthread_kill(pthread_t(handle.load(ordering: .relaxed)), number)
  }
}
