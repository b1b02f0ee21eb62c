import CLinux

/// An eventfd: a counter that one thread (or the kernel) raises and another waits for.
public final class EventNotifier: Sendable {
  private let descriptor: FileDescriptor

  /// - Throws: `PlatformError` when the process has no descriptors left.
  public init() throws(PlatformError) {
    descriptor = FileDescriptor(
      owning: try systemCall("eventfd") { eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)) })
  }

  /// The number to hand to epoll, KVM_IRQFD or KVM_IOEVENTFD.
  public var rawDescriptor: Int32 { descriptor.rawValue }

  /// Adds one. Safe from any thread; never blocks.
  public func signal() {
    _ = eventfd_write(descriptor.rawValue, 1)
  }

  /// Takes the count back to zero and returns what it was.
  @discardableResult
  public func drain() -> UInt64 {
    var value: eventfd_t = 0
    return eventfd_read(descriptor.rawValue, &value) == 0 ? value : 0
  }
}
