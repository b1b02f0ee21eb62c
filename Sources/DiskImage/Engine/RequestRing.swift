// io_uring by liburing (io_uring(7)): transfers that the kernel does by itself, and a look-out on one descriptor.
import CLinux
import CURing
import Synchronization

/// A submission and a completion queue. One thread uses it.
///
/// It lives in one place from set-up to the end, because the kernel and liburing keep addresses of it. It can do what is
/// below and nothing else: filters of system calls do not see what a ring is asked for.
final class RequestRing: @unchecked Sendable {
  // @unchecked: one thread at a time has it; others get it from the spares.
  private let ring = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
  /// Prepared and not yet handed to the kernel.
  private var isDirty = false
  private var isOpen = false

  private let depth: Int

  /// - Returns: nil where the host has no io_uring, or forbids it.
  private init?(depth: Int) {
    self.depth = depth
    ring.initialize(to: io_uring())
    // Without one, `deinit` gives the place back.
    guard io_uring_queue_init(UInt32(clamping: depth), ring, IORING_SETUP_R_DISABLED) == 0 else {
      return nil
    }
    isOpen = true
    var restrictions = [IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_POLL_ADD].map { operation in
      var restriction = io_uring_restriction()
      restriction.opcode = UInt16(IORING_RESTRICTION_SQE_OP)
      restriction.sqe_op = UInt8(operation.rawValue)
      return restriction
    }
    guard
      uring_register(
        ring.pointee.ring_fd, UInt32(IORING_REGISTER_RESTRICTIONS), &restrictions,
        UInt32(restrictions.count)) == 0,
      uring_register(ring.pointee.ring_fd, UInt32(IORING_REGISTER_ENABLE_RINGS), nil, 0) == 0
    else { return nil }
  }

  // MARK: Spares

  private struct Spares {
    var made: [Int: Int] = [:]
    var kept: [Int: [RequestRing]] = [:]
    var isStocked = false
  }
  private static let spares = Mutex(Spares())

  /// A spare one, or a new one.
  ///
  /// - Returns: nil where the host has no io_uring, or forbids it.
  static func make(depth: Int) -> RequestRing? {
    if let spare = spares.withLock({ $0.kept[depth]?.popLast() }) { return spare }
    guard let ring = RequestRing(depth: depth) else { return nil }
    spares.withLock { $0.made[depth, default: 0] += 1 }
    return ring
  }

  /// Makes as many as there are: the process is about to lose the right to make more, and a machine that is reset has its
  /// old disks for a moment beside its new ones.
  static func stock() {
    let made = spares.withLock { spares in
      spares.isStocked = true
      return spares.made
    }
    for (depth, count) in made {
      for _ in 0..<count {
        guard let ring = RequestRing(depth: depth) else { return }
        spares.withLock { $0.kept[depth, default: []].append(ring) }
      }
    }
  }

  /// For the next one who wants a ring, where no more can be made. Nothing is under way in it.
  func giveBack() {
    Self.spares.withLock { if $0.isStocked { $0.kept[depth, default: []].append(self) } }
  }

  deinit {
    if isOpen { io_uring_queue_exit(ring) }
    ring.deallocate()
  }

  /// Readable when completions wait.
  var descriptor: Int32 { ring.pointee.ring_fd }

  /// Prepares a transfer; false when the queue takes no more before `commit`.
  func prepare(
    isWrite: Bool, _ descriptor: Int32, _ vectors: UnsafePointer<iovec>, _ count: Int,
    at offset: UInt64, tag: UInt64
  ) -> Bool {
    guard let entry = nextEntry() else { return false }
    if isWrite {
      io_uring_prep_writev(entry, descriptor, vectors, UInt32(count), offset)
    } else {
      io_uring_prep_readv(entry, descriptor, vectors, UInt32(count), offset)
    }
    io_uring_sqe_set_data64(entry, tag)
    return true
  }

  /// Completes `tag` once when `descriptor` is readable.
  func prepareWatch(_ descriptor: Int32, tag: UInt64) -> Bool {
    guard let entry = nextEntry() else { return false }
    io_uring_prep_poll_add(entry, descriptor, UInt32(POLLIN))
    io_uring_sqe_set_data64(entry, tag)
    return true
  }

  private func nextEntry() -> UnsafeMutablePointer<io_uring_sqe>? {
    if let entry = io_uring_get_sqe(ring) {
      isDirty = true
      return entry
    }
    commit()
    guard let entry = io_uring_get_sqe(ring) else { return nil }
    isDirty = true
    return entry
  }

  /// Hands what is prepared to the kernel. What it cannot take now stays for the next call.
  func commit() {
    guard isDirty else { return }
    var result = io_uring_submit(ring)
    while result == -EINTR { result = io_uring_submit(ring) }
    isDirty = io_uring_sq_ready(ring) > 0
  }

  /// Waits until a completion is there.
  func wait() {
    if isDirty {
      _ = io_uring_submit_and_wait(ring, 1)
      isDirty = io_uring_sq_ready(ring) > 0
    } else {
      var entry: UnsafeMutablePointer<io_uring_cqe>?
      _ = io_uring_wait_cqe(ring, &entry)
    }
  }

  /// The next completion: its tag, and bytes moved or a negative errno.
  func next() -> (tag: UInt64, result: Int32)? {
    var found: UnsafeMutablePointer<io_uring_cqe>?
    guard io_uring_peek_cqe(ring, &found) == 0, let entry = found else { return nil }
    let completion = (tag: entry.pointee.user_data, result: entry.pointee.res)
    io_uring_cqe_seen(ring, entry)
    return completion
  }
}
